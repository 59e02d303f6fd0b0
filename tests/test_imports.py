"""Imports point one way, and the few large or outside packages are imported in few places only.

The sources are parsed, not imported, so that imports inside functions and for type checkers count too.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
PACKAGES = {"regstore": CHECKOUT / "regstore", "regstore_drivers": CHECKOUT / "drivers" / "regstore_drivers"}

# A component is a module or package directly below `regstore`. It may import those of its own layer and of lower ones,
# as long as no two import each other in a circle. A new component is added here, as low as it can be.
LAYERS = [
    {"cli", "__main__"},
    {"__init__", "status"},
    {"gc", "fsck", "report", "backup", "migrate", "luks", "nightly", "service"},
    {"registry", "inventory", "transfer", "work", "state", "lock", "ledger", "hashing", "outfile", "jobs", "notify"},
    {
        "layout",
        "manifest",
        "record",
        "findings",
        "digest",
        "errors",
        "durations",
        "decompression",
        "wording",
        "bandwidth",
        "configuration",
        "_version",
    },
]

# Packages from outside, and the modules (with all below them) that may import each; an empty name stands for all.
OUTSIDE = {
    "_typeshed": [""],  # there for type checkers only: importing it when running fails anyway
    "boto3": ["regstore_drivers.s3"],
    "botocore": ["regstore_drivers.s3"],
    "mypy_boto3_s3": ["regstore_drivers.s3"],
    "s3transfer": ["regstore_drivers.s3"],
    "click": ["regstore.cli"],
    "tqdm": ["regstore.cli"],
    "yaml": ["regstore.registry.config"],
    "isal": ["regstore.decompression"],
    "obstore": ["regstore_drivers.s3.fast"],
    "pyfastcdc": ["regstore.report.chunks"],
    "hypothesis": ["regstore_drivers.testing"],
    "pytest": ["regstore_drivers.testing"],
    "psutil": ["regstore"],
    "xxhash": ["regstore"],
    "zstandard": ["regstore"],
}


class Import(NamedTuple):
    """One import: the importing module, the imported one, and where."""

    importer: str
    imported: str
    where: str


def module_name(package: str, root: Path, path: Path) -> str:
    parts = [package, *path.relative_to(root).with_suffix("").parts]
    if parts[-1] == "__init__" and len(parts) > 2:
        parts.pop()
    return ".".join(parts)


def is_module(name: str) -> bool:
    package, *rest = name.split(".")
    if package not in PACKAGES:
        return False
    path = PACKAGES[package].joinpath(*rest)
    return path.is_dir() or path.with_suffix(".py").is_file()


def imports_of(package: str) -> Iterator[Import]:
    root = PACKAGES[package]
    for path in sorted(root.rglob("*.py")):
        importer = module_name(package, root, path)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}:{node.lineno}: a relative import"
                # `from regstore import layout` imports the module, and not the package's own names.
                names = [f"{node.module}.{alias.name}" for alias in node.names]
                names = [name if is_module(name) else str(node.module) for name in names]
            else:
                continue
            for name in names:
                yield Import(importer, name, f"{path.relative_to(CHECKOUT)}:{node.lineno}")


def component(module: str) -> str:
    """Name the component of a module of regstore; the package itself is `__init__`."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def layer_of(name: str) -> int:
    """Return the number of a component's layer, counted from the top."""
    for number, names in enumerate(LAYERS):
        if name in names:
            return number
    pytest.fail(f"regstore.{name} stands in no layer: add it to LAYERS of {Path(__file__).name}")


def edges() -> Iterator[tuple[str, str, str]]:
    for importer, imported, where in imports_of("regstore"):
        if imported.split(".")[0] == "regstore":
            source, target = component(importer), component(imported)
            if source != target:
                yield source, target, where


def test_imports_point_down() -> None:
    wrong = [
        f"{where}: {source} must not import {target}"
        for source, target, where in edges()
        if layer_of(source) > layer_of(target)
    ]

    assert wrong == []


def test_no_component_imports_itself_through_others() -> None:
    graph: dict[str, set[str]] = {}
    for source, target, _ in edges():
        graph.setdefault(source, set()).add(target)

    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' <- '.join(error.args[1])}")


def test_jobs_do_not_import_each_other() -> None:
    """But for reports: their numbers are defined by what a collection does."""
    jobs = LAYERS[2]

    wrong = [
        f"{where}: {source} imports {target}"
        for source, target, where in edges()
        if {source, target} <= jobs and (source, target) != ("report", "gc")
    ]

    assert wrong == []


def test_drivers_do_not_import_regstore() -> None:
    wrong = [item.where for item in imports_of("regstore_drivers") if item.imported.split(".")[0] == "regstore"]

    assert wrong == []


@pytest.mark.parametrize("package", PACKAGES)
def test_outside_packages_are_imported_where_they_may(package: str) -> None:
    wrong = []
    for importer, imported, where in imports_of(package):
        name = imported.split(".")[0]
        if name in PACKAGES or name in sys.stdlib_module_names:
            continue
        if not any(not allowed or f"{importer}.".startswith(f"{allowed}.") for allowed in OUTSIDE.get(name, [])):
            wrong.append(f"{where}: {importer} must not import {name}")

    assert wrong == []


def test_starting_does_not_import_boto3() -> None:
    program = "import sys; from regstore.cli.main import main; sys.argv = ['regstore', '--version']; main()"
    # Coverage, when it follows into other processes, imports sqlite3 there.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", program],
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )

    loaded = set(re.findall(r"^import time: .*\| +(\S+)$", done.stderr, re.MULTILINE))
    assert done.returncode == 0, done.stderr[-2000:]
    assert "regstore.cli.main" in loaded
    assert not loaded & {"boto3", "botocore", "yaml", "sqlite3", "zstandard"}
