"""Whatever the volume and the options: no image is lost, a second run finds nothing, all of it can be taken back."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, target
from hypothesis import strategies as st

from regstore import gc
from regstore.errors import RefusedError
from regstore.inventory.mark import signature_subject
from regstore.layout import LayerLink, Leftover, SignatureLink, Stray, UploadFile, parse_key
from regstore.registry import open_registry
from regstore.state import State
from regstore_drivers.errors import DriverError, Unavailable
from regstore_drivers.wrappers import Faulty
from support.examples import examples
from support.memory_registry import MemoryRegistry
from support.random_volumes import DAY, HOUR, NOW, Tree, lay_out, reachable, revisions_of, tags_of, trees
from support.volume import V2, blob_key, revision_link_key, tag_link_key

Settings = dict[str, Any]

OPTIONS = st.fixed_dictionaries(
    {
        "offline": st.booleans(),
        "grace": st.sampled_from([0.0, 0.0, HOUR, DAY]),
        "delete_untagged": st.booleans(),
        "untagged_older_than": st.sampled_from([None, None, 0.0, 2 * DAY]),
        "upload_age": st.sampled_from([0.0, 7 * DAY]),
        "keep_signature_history": st.booleans(),
        "delete_orphan_signatures": st.booleans(),
        "empty_repositories": st.booleans(),
        "repository": st.sampled_from([None, None, "app*", "team/*"]),
        "jobs": st.sampled_from([1, 1, 3]),
    }
)


def in_scope(options: Settings, repository: str) -> bool:
    """Tell whether a repository may lose anything; a star crosses slashes."""
    pattern = options["repository"]
    return pattern is None or re.fullmatch(pattern.replace("*", ".*"), repository) is not None


def deletes_untagged(options: Settings) -> bool:
    """Tell whether untagged manifests may go."""
    return options["delete_untagged"] or options["untagged_older_than"] is not None


def must_stay(tree: Tree, after: set[str], options: Settings) -> set[str]:
    """Return the keys that a collection has to leave, tags that it may remove aside."""
    contents = tree.contents
    staying: set[str] = set()
    for (repository, tag), digest in tags_of(contents).items():
        if tag_link_key(repository, tag) in after or not in_scope(options, repository):
            staying |= reachable(contents, repository, digest) | {tag_link_key(repository, tag)}
    signature_tags = {(r, digest) for (r, tag), digest in tags_of(contents).items() if signature_subject(tag)}
    for repository, digest in revisions_of(contents):
        is_signature = options["delete_orphan_signatures"] and (repository, digest) in signature_tags
        may_go = deletes_untagged(options) or is_signature
        if not (may_go and in_scope(options, repository)):
            staying |= reachable(contents, repository, digest)
    for key, stored in tree.items():
        spec = parse_key(key)
        repository = getattr(spec, "repository", None)
        is_stray = isinstance(spec, Stray) and "/_uploads/" not in key
        if is_stray or (repository is not None and not in_scope(options, repository)):
            staying.add(key)
        elif isinstance(spec, UploadFile) or (isinstance(spec, Leftover) and isinstance(spec.of, UploadFile)):
            if stored.at > NOW + 1 - options["upload_age"]:
                staying.add(key)
        # The storage tells whole seconds only, so one second more is taken to be over.
        elif stored.at > NOW + 1 - options["grace"] and not isinstance(spec, SignatureLink):
            staying.add(key)
        if isinstance(spec, LayerLink) and key in after and re.fullmatch(rb"sha256:[0-9a-f]{64}", stored.data):
            staying |= {blob_key(stored.data.decode())} & set(contents)
    return staying


def check_kept(tree: Tree, bench: MemoryRegistry, options: Settings) -> None:
    """Fail when something is gone that must not be, or is not what it was."""
    before, after = tree.contents, bench.contents
    assert after.items() <= before.items(), "something new, or with other bytes"
    lost = must_stay(tree, set(after), options) - set(after)
    assert not lost, sorted(lost)
    for (repository, tag), digest in tags_of(before).items():
        if tag_link_key(repository, tag) in after:
            continue
        subject = signature_subject(tag)
        assert subject is not None, f"the tag {tag} of {repository} is gone"
        assert options["delete_orphan_signatures"]
        assert revision_link_key(repository, f"sha256:{subject.hex()}") not in after
        assert f"sha256:{subject.hex()}" != digest


def collect(bench: MemoryRegistry, options: Settings) -> gc.Result | None:
    """Collect; None when a guard refused."""
    before = bench.contents
    try:
        return bench.collect(**options)
    except RefusedError:
        assert bench.contents == before
        assert deletes_untagged(options)
        assert all(signature_subject(tag) for _, tag in tags_of(before))
        return None


@examples(80)
@given(trees(), OPTIONS)
def test_every_kept_tag_stays_whole_and_a_second_run_removes_nothing(tree: Tree, options: Settings) -> None:
    bench = MemoryRegistry(tree)

    result = collect(bench, options)
    if result is None:
        return

    check_kept(tree, bench, options)
    assert [finding for finding in result.findings if finding.id == "removal-failed"] == []
    target(float(len(tree) - len(bench.keys)))
    again = bench.collect(**options)
    if not options["offline"] and options["grace"] == 0.0:
        assert set(again.removed) <= {gc.Kind.BLOB}  # what the first run condemned
        again = bench.collect(**options)
    assert again.removed == {}
    assert again.restored_count == 0
    check_kept(tree, bench, options)


@examples(80)
@given(trees(damage=True), OPTIONS)
def test_damage_never_makes_more_go(tree: Tree, options: Settings) -> None:
    bench = MemoryRegistry(tree)

    result = collect(bench, options)

    check_kept(tree, bench, options)
    if result is None:
        return
    frozen = {name for name in result_repositories(tree) if is_frozen(name, result)}
    for key in tree:
        if any(key.startswith(f"{V2}/repositories/{name}/_") for name in frozen):
            assert key in bench.keys, f"{key} of a frozen repository is gone"
    for finding in result.findings:
        assert finding.detail
        assert finding.subject


def result_repositories(tree: Tree) -> set[str]:
    """Return the names of the repositories of a volume."""
    return {key.split("/repositories/")[1].split("/_")[0] for key in tree if "/repositories/" in key}


def is_frozen(name: str, result: gc.Result) -> bool:
    """Tell from the findings whether a repository is damaged."""
    starts = (f"{name}@", f"{name}:", f"{V2}/repositories/{name}/_")
    harmless = {"signature-orphan", "signature-replaced", "restored"}
    return any(f.subject.startswith(starts) and f.id not in harmless for f in result.findings)


@examples(60)
@given(trees(), OPTIONS, st.integers(1, 3))
def test_undo_restores_every_byte(tree: Tree, options: Settings, run_count: int) -> None:
    bench = MemoryRegistry(tree)
    for _ in range(run_count):
        if collect(bench, options) is None:
            return
        bench.time += 2 * DAY

    while bench.undo().run_id:
        pass

    assert bench.contents == tree.contents
    check_kept(tree, bench, options)


@examples(40)
@given(trees(), OPTIONS)
def test_a_plan_says_what_a_run_does(tree: Tree, options: Settings) -> None:
    bench, other = MemoryRegistry(tree), MemoryRegistry(tree)
    try:
        plan = bench.plan(**options)
    except RefusedError:
        return
    assert bench.everything == tree.contents, "a plan wrote something"

    result = other.collect(**options)
    applied = bench.apply(plan)

    planned = {kind: sum(a.kind is kind for a in plan.removals) for kind in gc.Kind if kind is not gc.Kind.REPOSITORY}
    # The lock is a second younger than now, since an object store tells whole seconds: at the boundary that is older.
    for kind, count in planned.items():
        assert result.removed.get(kind, (0, 0))[0] >= count
        assert applied.removed.get(kind, (0, 0))[0] == count
    assert bench.keys >= other.keys
    assert bench.apply(plan).removed == {}


@examples(70)
@given(trees(), OPTIONS, st.integers(1, 150), st.booleans())
def test_a_storage_that_dies_anywhere_costs_nothing(tree: Tree, options: Settings, nth: int, is_for_ever: bool) -> None:
    bench = MemoryRegistry(tree, wrap=Faulty)
    faulty = bench.driver
    assert isinstance(faulty, Faulty)
    faulty.fail("*", "*", Unavailable, nth=nth, times=None if is_for_ever else 1)
    try:
        collect(bench, options)
    except DriverError:
        assert faulty.fired
        target(float(nth))
    check_kept(tree, bench, options)

    healthy = MemoryRegistry(tree)
    if collect(healthy, options) is None:
        return
    bench.driver = bench.memory
    bench.registry = healthy.registry.__class__(bench.memory, healthy.registry.config)
    bench.drop(*[key for key in bench.everything if key == "regstore/lock"])  # its holder, this process, lives
    bench.collect(**options)
    check_kept(tree, bench, options)
    if options["offline"]:
        assert bench.contents == healthy.contents
    while bench.undo().run_id:
        pass
    assert bench.contents == tree.contents


@examples(30)
@given(trees(damage=True), OPTIONS)
def test_a_directory_loses_what_the_same_volume_in_memory_loses(tree: Tree, options: Settings) -> None:
    """With no grace, since the change times of files cannot be set; and an undo restores bytes and times."""
    options = {**options, "grace": 0.0, "untagged_older_than": None, "upload_age": 0.0, "offline": True}
    old = Tree({key: stored._replace(at=min(stored.at, NOW)) for key, stored in tree.items() if "startedat" not in key})
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        lay_out(Tree({key: stored._replace(at=1e9) for key, stored in old.items()}), root)
        (root / V2 / "repositories").mkdir(parents=True, exist_ok=True)
        before = files(root)
        registry, state = open_registry(directory), State(None)
        bench = MemoryRegistry(old)
        settings = gc.Options(**{**options, "max_delete_percent": None})
        try:
            result = gc.collect(registry, settings, state=state, settle_seconds=0.0)
        except RefusedError:
            assert collect(bench, options) is None
            assert files(root) == before
            return
        expected = collect(bench, options)

        assert expected is not None
        # Half-written files, in places where a survey of a directory does not pass, stay.
        leftovers = {key for key in before if key.endswith(".tmp")}
        assert set(files(root)) - leftovers == bench.keys - leftovers
        kinds = {kind for kind in gc.Kind if kind not in (gc.Kind.LEFTOVER, gc.Kind.REPOSITORY)}
        assert {k: v for k, v in result.removed.items() if k in kinds} == {
            k: v for k, v in expected.removed.items() if k in kinds
        }
        assert sorted(f.id for f in result.findings if f.id != "stray") == sorted(
            f.id for f in expected.findings if f.id != "stray"
        )
        again = gc.collect(registry, settings, state=state, settle_seconds=0.0)
        assert {k: v for k, v in again.removed.items() if k is not gc.Kind.REPOSITORY} == {}
        while gc.undo(registry, state=state).run_id:
            pass
        assert files(root) == before


def files(root: Path) -> dict[str, tuple[bytes, int, int]]:
    """Return bytes, mode and time of every file of a registry's tree."""
    return {
        str(path.relative_to(root)): (path.read_bytes(), status.st_mode, status.st_mtime_ns)
        for path in root.rglob("*")
        if path.is_file() and "regstore" not in path.parts and (status := path.stat())
    }
