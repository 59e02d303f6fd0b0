"""Ways to damage the files of a volume; and a small volume with images that share layers, with every damage of it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from support import images
from support.images import Image
from support.volume import (
    V2,
    VolumeWriter,
    blob_key,
    layer_link_key,
    revision_link_key,
    tag_index_key,
    tag_link_key,
)

SHARED = images.layer("shared")


class Files:
    """The files of a volume in a directory, to be damaged.

    Args:
        root: the registry's root directory.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, key: str) -> str:
        """Return the path of a key."""
        return os.path.join(self.root, key)

    def copy(self, root: Path) -> Path:
        """Copy the volume as it is."""
        return Path(shutil.copytree(self.root, root, symlinks=True))

    @property
    def contents(self) -> dict[str, bytes]:
        """The bytes of the registry by key, regstore's own left out."""
        return {
            str(path.relative_to(self.root)): path.read_bytes()
            for path in (self.root / "docker").rglob("*")
            if path.is_file()
        }

    def drop(self, *keys: str) -> None:
        """Remove files, and directories with all that is in them."""
        for key in keys:
            path = self.path(key)
            if os.path.isdir(path):
                shutil.rmtree(path)
            else:
                os.unlink(path)

    def put(self, key: str, data: bytes | str) -> None:
        """Write a file anew."""
        Path(self.path(key)).write_bytes(data.encode() if isinstance(data, str) else data)

    def flip(self, digest: str, position: int = 100) -> None:
        """Flip one bit of a blob, with size and modification time kept."""
        path = self.path(blob_key(digest))
        status = os.stat(path)
        data = bytearray(Path(path).read_bytes())
        data[position] ^= 1
        Path(path).write_bytes(data)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    def cut(self, digest: str, size: int) -> None:
        """Cut a blob off."""
        os.truncate(self.path(blob_key(digest)), size)


class Sample(Files):
    """A volume in a directory: `app:v1` and `app:v2` share a layer with `other:v1`; `app:multi` is an index.

    Args:
        root: where.
    """

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.writer = writer = VolumeWriter(root)
        self.v1 = self._push(writer, "app", "v1", "one")
        self.v2 = self._push(writer, "app", "v2", "two")
        self.other = self._push(writer, "other", "v1", "three")
        self.multi, self.children = writer.push_multi_arch("app", "multi", "multi")
        writer.tag("app", "moved", self.v1.digest)
        writer.tag("app", "moved", self.v2.digest)
        old = os.path.dirname(self.path(tag_index_key("app", "moved", self.v1.digest)))
        os.utime(f"{old}/link", (1_700_000_000, 1_700_000_000))

    @staticmethod
    def _push(writer: VolumeWriter, repository: str, tag: str, seed: str) -> Image:
        layers = [SHARED, images.layer(seed)]
        return writer.push_image(repository, tag, layers, images.image_config(layers))

    @property
    def shared(self) -> str:
        """The digest of the shared layer."""
        return images.digest_of(SHARED)


@dataclass(frozen=True)
class Damage:
    """One damage.

    Attributes:
        name: in words.
        inflict: what does it.
        finds: ids of the findings of severity warning or worse that a check of the structure makes.
        hurts: the images that at least one of them names.
        left: the ids that are left after a repair without sources; None: as `finds`.
        left_with_backup: the ids that are left after a repair from a copy of the whole volume.
    """

    name: str
    inflict: Callable[[Sample], object]
    finds: tuple[str, ...]
    hurts: tuple[str, ...] = ()
    left: tuple[str, ...] | None = None
    left_with_backup: tuple[str, ...] = ()


def _unknown_manifest(sample: Sample) -> None:
    VolumeWriter(sample.root).manifest("app", b'{"schemaVersion": 2, "mediaType": "application/vnd.example"}', "odd")


def _no_layers(sample: Sample) -> None:
    shutil.rmtree(sample.path(f"{V2}/repositories/other/_layers"))


_ALL_SHARED = ("app:moved", "app:v1", "app:v2", "other:v1")

DAMAGES = [
    Damage(
        "a shared layer is gone",
        lambda s: s.drop(blob_key(s.shared)),
        ("blob-missing",),
        _ALL_SHARED,
    ),
    Damage("a configuration is gone", lambda s: s.drop(blob_key(s.other.config)), ("blob-missing",), ("other:v1",)),
    Damage("a layer is cut off", lambda s: s.cut(s.shared, 7), ("blob-size",), _ALL_SHARED, left=("blob-missing",)),
    Damage(
        "a layer is empty", lambda s: s.cut(s.other.layers[1], 0), ("blob-size",), ("other:v1",), left=("blob-missing",)
    ),
    Damage(
        "a manifest has a flipped bit",
        lambda s: s.flip(s.v2.digest),
        ("manifest-corrupt",),
        ("app:moved", "app:v2"),
        left=("manifest-missing",),
    ),
    Damage(
        "a child of an index has a flipped bit",
        lambda s: s.flip(s.children[0].digest),
        ("manifest-corrupt",),
        ("app:multi",),
        left=("manifest-missing",),
    ),
    Damage(
        "a manifest is empty",
        lambda s: s.cut(s.v2.digest, 0),
        ("manifest-corrupt",),
        ("app:moved", "app:v2"),
        left=("manifest-missing",),
    ),
    Damage(
        "a manifest is other valid JSON",
        lambda s: s.put(blob_key(s.v2.digest), s.v1.data),
        ("manifest-corrupt",),
        ("app:moved", "app:v2"),
        left=("manifest-missing",),
    ),
    Damage("a manifest is gone", lambda s: s.drop(blob_key(s.other.digest)), ("manifest-missing",), ("other:v1",)),
    Damage(
        "a manifest is of an unknown kind",
        _unknown_manifest,
        ("manifest-unknown",),
        ("app:odd",),
        left_with_backup=("manifest-unknown",),
    ),
    *(
        Damage(
            f"a layer link {words}",
            lambda s, content=content: s.put(layer_link_key("app", s.shared), content),  # type: ignore[misc]
            (kind,),
            ("app:moved", "app:v1", "app:v2"),
            left=(),
        )
        for words, content, kind in [
            ("is empty", "", "link-malformed"),
            ("is short", "sha256:0123", "link-malformed"),
            ("names another digest", "sha256:" + "0" * 64, "link-mismatch"),
        ]
    ),
    Damage(
        "a layer link ends with a newline",
        lambda s: s.put(layer_link_key("app", s.shared), s.shared + "\n"),
        ("link-malformed",),
        ("app:moved", "app:v1", "app:v2"),
        left=(),
    ),
    Damage(
        "a layer link is gone",
        lambda s: s.drop(layer_link_key("app", s.shared)),
        ("layer-link-missing",),
        ("app:moved", "app:v1", "app:v2"),
        left=(),
    ),
    Damage("a repository has no layer links", _no_layers, ("layer-link-missing",) * 3, ("other:v1",), left=()),
    Damage(
        "a revision link is gone",
        lambda s: s.drop(revision_link_key("app", s.v2.digest)),
        ("revision-missing",) * 2,
        ("app:moved", "app:v2"),
        left=(),
    ),
    Damage(
        "a revision link is empty",
        lambda s: s.put(revision_link_key("app", s.v2.digest), ""),
        ("link-malformed",),
        ("app:moved", "app:v2"),
        left=(),
    ),
    Damage(
        "a revision link names another manifest",
        lambda s: s.put(revision_link_key("app", s.v2.digest), s.v1.digest),
        ("link-mismatch",),
        ("app:moved", "app:v2"),
        left=(),
    ),
    Damage(
        "the revision link of a child is gone",
        lambda s: s.drop(revision_link_key("app", s.children[1].digest)),
        ("child-missing",),
        ("app:multi",),
        left=(),
    ),
    Damage(
        "revision link and data of a child are gone",
        lambda s: (s.drop(revision_link_key("app", s.children[1].digest)), s.drop(blob_key(s.children[1].digest))),
        ("child-missing",),
        ("app:multi",),
    ),
    Damage(
        "a tag ends with a newline",
        lambda s: s.put(tag_link_key("app", "v1"), s.v1.digest + "\n"),
        ("link-malformed",),
        ("app:v1",),
        left=(),
    ),
    Damage(
        "a tag is empty",
        lambda s: s.put(tag_link_key("app", "moved"), ""),
        ("link-malformed",),
        ("app:moved",),
        left_with_backup=("link-malformed",),
    ),
    Damage(
        "the current link of a tag is gone",
        lambda s: s.drop(tag_link_key("app", "moved")),
        ("tag-link-missing",),
        ("app:moved",),
        left_with_backup=("tag-link-missing",),
    ),
    Damage(
        "an index entry is empty",
        lambda s: s.put(tag_index_key("app", "v1", s.v1.digest), ""),
        ("link-malformed",),
        left=(),
    ),
    Damage(
        "an image is gone but for its tag",
        lambda s: [
            s.drop(key)
            for key in (
                revision_link_key("other", s.other.digest),
                blob_key(s.other.digest),
                blob_key(s.other.layers[1]),
                blob_key(s.other.config),
                layer_link_key("other", s.other.layers[1]),
                layer_link_key("other", s.other.config),
            )
        ],
        ("manifest-missing", "revision-missing"),
        ("other:v1",),
    ),
]
