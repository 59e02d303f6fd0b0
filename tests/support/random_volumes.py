"""Random volumes for properties, and what an independent reader finds reachable in one.

A `Tree` is a volume as data: keys, bytes and times. `trees` draws them from the images of `support.images`, pushed by
`VolumeWriter` at different times; `lay_out` and `load` put one into a directory or a driver.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hypothesis import strategies as st

from regstore_drivers.memory import MemoryDriver
from support import images
from support.images import Image
from support.volume import (
    V2,
    VolumeWriter,
    blob_key,
    layer_link_key,
    revision_link_key,
    tag_link_key,
    upload_prefix,
    write_file,
)

NOW = 1_800_000_000.0
"""The storage's time at which a drawn volume is looked at."""
HOUR, DAY = 3600.0, 86400.0

REPOSITORIES = ["app", "app/web", "team/base"]
TAGS = ["latest", "1.0", "_layers"]
LAYERS = [f"layer {number}".encode() for number in range(6)]
AGES = [0.0, HOUR, DAY - 1, DAY, 2 * DAY, 30 * DAY, -HOUR]
DAMAGE = ["empty link", "cut link", "newline", "other digest", "no data", "cut data", "rotten data", "no link"]


class Stored(NamedTuple):
    """Bytes, and the second since the epoch at which they were written."""

    data: bytes
    at: float


class Tree(dict[str, Stored]):
    """A volume as data."""

    def __init__(self, stored: Mapping[str, Stored] | None = None) -> None:
        super().__init__(stored or {})
        self.clock = NOW
        self.multiparts: list[tuple[str, float]] = []

    def put(self, key: str, data: bytes) -> None:
        """Store bytes, now."""
        self[key] = Stored(data, self.clock)

    @property
    def contents(self) -> dict[str, bytes]:
        """Bytes by key."""
        return {key: stored.data for key, stored in self.items()}

    def __repr__(self) -> str:
        lines = (f"{key} = {stored.data[:100]!r} at NOW-{NOW - stored.at:g}" for key, stored in sorted(self.items()))
        return "Tree:\n  " + "\n  ".join(lines)


def load(tree: Tree, driver: MemoryDriver, set_clock: Callable[[float], object]) -> None:
    """Put a volume into a driver in memory, each object at its time."""
    for key, stored in tree.items():
        set_clock(stored.at)
        driver.write(key, stored.data, len(stored.data))
    for key, begun in tree.multiparts:
        driver.begin_multipart(key, size=5, initiated=begun)


def lay_out(tree: Tree, root: Path) -> None:
    """Put a volume into a directory. Only modification times can be set; every change time is now."""
    root.mkdir(parents=True, exist_ok=True)
    for key, stored in tree.items():
        write_file(root, key, stored.data)
        os.utime(root / key, (stored.at, stored.at))


class _Maker:
    """Draws the steps of a volume's life."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.tree = Tree()
        self.writer = VolumeWriter(self.tree.put)
        self.images: list[Image] = []
        self.count = 0

    def pick(self, options: Iterable[Any]) -> Any:
        """Draw one of several."""
        return self.draw(st.sampled_from(list(options)))

    def image_here(self) -> Image:
        """Draw an image that was pushed, or push one."""
        if not self.images:
            self.push_image()
        return self.pick(self.images)

    def subject(self) -> dict[str, Any] | None:
        """Draw a subject, mostly none."""
        return self.image_here().descriptor() if self.images and self.pick([False, False, True]) else None

    def push_image(self) -> None:
        self.count += 1
        layers = self.draw(st.lists(st.sampled_from(LAYERS), max_size=3, unique=True))
        image = self.writer.push_image(
            self.pick(REPOSITORIES),
            self.pick(["", *TAGS]),
            layers,
            f'{{"config": {self.count % 3}}}'.encode(),
            flavour=self.pick(["docker", "oci"]),
            algorithm=self.pick(["sha256", "sha256", "sha256", "sha512"]),
            foreign=[images.foreign_layer(b"foreign")] if self.pick([False, False, True]) else [],
            subject=self.subject(),
            annotations={"count": str(self.count)},
        )
        self.images.append(image)

    def push_index(self) -> None:
        repository = self.pick(REPOSITORIES)
        # A registry refuses an index whose children it does not have; a mirror or a move of files makes one.
        anywhere = self.pick([False, False, False, True])
        here = [image for image in self.images if anywhere or image.repository == repository]
        children = self.draw(st.lists(st.sampled_from(here), max_size=3)) if here else []
        flavour = self.pick(["docker", "oci"])
        index = self.writer.push_index(
            repository, self.pick(["", *TAGS]), children, flavour=flavour, subject=self.subject()
        )
        self.images.append(index)

    def push_build_cache(self) -> None:
        layers = self.draw(st.lists(st.sampled_from(LAYERS), min_size=1, max_size=2, unique=True))
        self.images.append(self.writer.push_build_cache(self.pick(REPOSITORIES), self.pick(TAGS), layers))

    def push_artifact(self) -> None:
        repository, blobs = self.pick(REPOSITORIES), [self.pick(LAYERS)]
        self.images.append(self.writer.push_artifact(repository, self.pick(["", *TAGS]), blobs, self.subject()))

    def push_schema1(self) -> None:
        image = self.writer.push_schema1(self.pick(REPOSITORIES), self.pick(TAGS), [self.pick(LAYERS)])
        if self.pick([False, True]):
            self.writer.signature_link(image.repository, image.digest, b"signature of schema1")
        self.images.append(image)

    def push_signature(self) -> None:
        subject = self.image_here()
        suffix = self.pick(["sig", "att"])
        self.images.append(self.writer.push_signature(subject.repository, subject, self.pick("ab"), suffix))

    def push_referrer(self) -> None:
        subject = self.image_here()
        fallback = self.pick([False, True])
        self.images.append(self.writer.push_referrer(subject.repository, subject, self.pick("ab"), fallback=fallback))

    def move_tag(self) -> None:
        image = self.image_here()
        self.writer.tag(image.repository, self.pick(TAGS), image.digest)

    def push_layer(self) -> None:
        self.writer.layer(self.pick(REPOSITORIES), self.pick(LAYERS), self.pick(["sha256", "sha512"]))

    def store_blob(self) -> None:
        self.writer.blob(self.pick([*LAYERS, b"nobody's"]))

    def delete_manifest(self) -> None:
        """As the registry's API does: the revision link and the tags that mean it."""
        image = self.image_here()
        for key in [revision_link_key(image.repository, image.digest), *self._tags_of(image)]:
            self.tree.pop(key, None)

    def _tags_of(self, image: Image) -> list[str]:
        prefix = f"{V2}/repositories/{image.repository}/_manifests/tags/"
        tags = {key[len(prefix) :].split("/")[0] for key in self.tree if key.startswith(prefix)}
        meaning = [
            tag
            for tag in tags
            if (link := self.tree.get(tag_link_key(image.repository, tag))) and link.data == image.digest.encode()
        ]
        return [key for key in self.tree for tag in meaning if key.startswith(f"{prefix}{tag}/")]

    def leave_upload(self) -> None:
        started = self.pick(["", "nonsense", "2026-01-15T08:00:00Z", "2027-01-15T08:00:00Z", "9999-12-31T23:59:59Z"])
        data = self.pick([None, b"", b"some bytes"])
        identity = f"upload-{self.pick('ab')}"
        if started or data is not None:
            self.writer.upload(self.pick(REPOSITORIES), data, started_at=started, identity=identity)

    def leave_temporary(self) -> None:
        of = self.pick(
            [
                blob_key(images.digest_of(self.pick([*LAYERS, b"nobody's"]))),
                layer_link_key(self.pick(REPOSITORIES), images.digest_of(b"nothing")),
                tag_link_key(self.pick(REPOSITORIES), "half"),
            ]
        )
        self.writer.put(f"{of}.5ca1ab1e-0000-4000-8000-00000000000{self.pick('12')}.tmp", b"half")

    def leave_stray(self) -> None:
        self.writer.put(
            self.pick(
                [
                    f"{V2}/blobs/sha256/zz/zzzz/data",
                    f"{V2}/blobs/md5/ab/abcd/data",
                    f"{V2}/repositories/app/_layers/sha256/lost/link",
                    f"{V2}/repositories/team/base/_manifests/tags/+bad/current/link",
                    f"{V2}/repositories/Upper/_manifests/tags/latest/current/link",
                    "lost+found/file",
                ]
            ),
            b"stray",
        )

    def begin_multipart(self) -> None:
        key = self.pick(
            [
                f"{upload_prefix(self.pick(REPOSITORIES), 'upload-a')}data",
                blob_key(images.digest_of(self.pick(LAYERS))),
            ]
        )
        self.tree.multiparts.append((key, self.tree.clock))

    def damage(self, kind: str) -> None:
        """Spoil something, if there is something of that kind."""
        links = [key for key in self.tree if key.endswith("/link") and "Upper" not in key and "+bad" not in key]
        links = [key for key in links if "/lost/" not in key]
        blobs = [key for key in self.tree if re.fullmatch(f"{V2}/blobs/sha256/../[0-9a-f]{{64}}/data", key)]
        if "data" in kind and blobs:
            key = self.pick(sorted(blobs))
            old = self.tree.pop(key)
            if kind != "no data":
                self.tree[key] = old._replace(data=old.data[:-1] if kind == "cut data" else b"rotten" + old.data)
        elif "data" not in kind and links:
            key = self.pick(sorted(links))
            old = self.tree.pop(key)
            content = {
                "empty link": b"",
                "cut link": old.data[:40],
                "newline": old.data + b"\n",
                # Of another length in a layer link: with the same one only fsck looks at it.
                "other digest": images.digest_of(b"other", "sha512" if "/_layers/" in key else "sha256").encode(),
            }.get(kind)
            if content is not None:
                self.tree[key] = old._replace(data=content)


_STEPS = [
    *["push_image"] * 4,
    *["push_index"] * 2,
    *["delete_manifest"] * 2,
    "push_build_cache",
    "push_artifact",
    "push_schema1",
    "push_signature",
    "push_referrer",
    "move_tag",
    "push_layer",
    "store_blob",
    "leave_upload",
    "leave_temporary",
    "leave_stray",
    "begin_multipart",
]


@st.composite
def trees(draw: st.DrawFn, *, damage: bool = False, max_steps: int = 10) -> Tree:
    """Volumes, with or without damage. Multipart uploads are for object stores: `load` alone takes them."""
    maker = _Maker(draw)
    for step in draw(st.lists(st.sampled_from(_STEPS), min_size=1, max_size=max_steps)):
        maker.tree.clock = NOW - draw(st.sampled_from(AGES))
        getattr(maker, step)()
    for kind in draw(st.lists(st.sampled_from(DAMAGE), min_size=1, max_size=3)) if damage else ():
        maker.damage(kind)
    maker.tree.clock = NOW
    if not any(key.startswith(f"{V2}/") for key in maker.tree):
        maker.push_image()
    return maker.tree


def tags_of(contents: Mapping[str, bytes]) -> dict[tuple[str, str], str]:
    """Return the digest of every tag whose link can be read, by repository and tag."""
    found = {}
    for key, data in contents.items():
        match = re.fullmatch(f"{V2}/repositories/([a-z/]+)/_manifests/tags/([^/+]+)/current/link", key)
        if match and re.fullmatch(rb"sha256:[0-9a-f]{64}", data):
            found[match[1], match[2]] = data.decode()
    return found


def revisions_of(contents: Mapping[str, bytes]) -> set[tuple[str, str]]:
    """Return repository and digest of every revision link."""
    pattern = re.compile(f"{V2}/repositories/([a-z/]+)/_manifests/revisions/(sha256)/([0-9a-f]{{64}})/link")
    return {(match[1], f"{match[2]}:{match[3]}") for match in map(pattern.fullmatch, contents) if match}


def reachable(contents: Mapping[str, bytes], repository: str, digest: str) -> set[str]:
    """Return the keys there are that a manifest of a repository can need, by reading JSON and nothing else.

    Generous: a child counts as manifest and as blob, and everything that refers to a manifest counts with it.
    """
    found: set[str] = set()
    pending, seen = [digest], set()
    while pending:
        digest = pending.pop()
        if digest in seen:
            continue
        seen.add(digest)
        found |= set(_keys_of(contents, repository, digest))
        data = contents.get(blob_key(digest), b"")
        for named, is_manifest in _named(data, digest):
            found |= set(_keys_of(contents, repository, named))
            if is_manifest:
                pending.append(named)
        for other_repository, other in revisions_of(contents):
            if other_repository == repository and _subject(contents.get(blob_key(other), b""), other) == digest:
                pending.append(other)
    return found


def _keys_of(contents: Mapping[str, bytes], repository: str, digest: str) -> Iterator[str]:
    layer = layer_link_key(repository, digest)
    for key in (layer, revision_link_key(repository, digest), blob_key(digest)):
        if key in contents:
            yield key
    canonical = contents.get(layer, b"").decode("latin-1")
    if canonical != digest and re.fullmatch("sha256:[0-9a-f]{64}", canonical):
        yield from _keys_of(contents, repository, canonical)


def _document(data: bytes, digest: str) -> dict[str, Any]:
    try:
        document = json.loads(data) if images.digest_of(data, digest.partition(":")[0]) == digest else None
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _named(data: bytes, digest: str) -> Iterator[tuple[str, bool]]:
    document = _document(data, digest)
    if "mediaType" in document and "config" in document:
        yield document["config"]["digest"], False
    for field in ("layers", "blobs"):
        for entry in document.get(field) or [] if "mediaType" in document else []:
            yield entry["digest"], False
    for entry in document.get("fsLayers") or []:
        yield entry["blobSum"], False
    for entry in document.get("manifests") or []:
        yield entry["digest"], entry["mediaType"] in images.MANIFEST_TYPES


def _subject(data: bytes, digest: str) -> str | None:
    subject: dict[str, str] | None = _document(data, digest).get("subject")
    return subject["digest"] if subject else None
