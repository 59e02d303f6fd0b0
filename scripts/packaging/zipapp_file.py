"""regstore.pyz: one file that runs where nothing is installed but Python."""

from __future__ import annotations

import hashlib
import json
import platform
import tempfile
import time
import zipfile
from pathlib import Path

from runtime import HERE, make_directory

PYTHONS = ("3.11", "3.12", "3.13")
_SHEBANG = b"#!/usr/bin/env python3\n"


def write_zipapp(wheel: Path, file: Path, epoch: int) -> None:
    """Write the archive: files that all Pythons share below `all/`, those of one below `py3.11/` and so on.

    Args:
        wheel: of regstore.
        file: where; it is made executable.
        epoch: the time of its members, in seconds, so that the same sources make the same file.
    """
    with tempfile.TemporaryDirectory() as work:
        members = _members(wheel, Path(work))
        digest = hashlib.sha256()
        for name, path in members.items():
            digest.update(name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
        facts = {
            "version": wheel.name.split("-")[1],
            "digest": digest.hexdigest()[:16],
            "pythons": PYTHONS,
            "machine": platform.machine(),
            "megabytes": sum(path.stat().st_size for path in members.values()) // 1_000_000,
        }
        with file.open("wb") as output:
            output.write(_SHEBANG)
            with zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as zipped:
                _add(zipped, "__main__.py", (HERE / "zipapp_main.py").read_bytes(), epoch)
                _add(zipped, "facts.json", json.dumps(facts).encode(), epoch)
                for name, path in members.items():
                    _add(zipped, name, path.read_bytes(), epoch)
    file.chmod(0o755)


def _members(wheel: Path, work: Path) -> dict[str, Path]:
    """Return the files of the archive by their names in it, sorted."""
    trees: dict[str, dict[str, Path]] = {}
    for python in PYTHONS:
        root = work / python
        make_directory(wheel, root, python)
        trees[python] = {str(path.relative_to(root)): path for path in root.rglob("*") if path.is_file()}
    first, *others = trees.values()
    shared = {
        name
        for name, path in first.items()
        if all(name in tree and tree[name].read_bytes() == path.read_bytes() for tree in others)
    }
    members = {f"all/{name}": first[name] for name in shared}
    for python, tree in trees.items():
        members |= {f"py{python}/{name}": path for name, path in tree.items() if name not in shared}
    return dict(sorted(members.items()))


def _add(zipped: zipfile.ZipFile, name: str, content: bytes, epoch: int) -> None:
    member = zipfile.ZipInfo(name, time.gmtime(max(epoch, 315532800))[:6])
    member.external_attr = 0o644 << 16
    zipped.writestr(member, content, zipfile.ZIP_DEFLATED, 9)
