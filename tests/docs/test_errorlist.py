"""`scripts/errorlist`: every slug and every finding is documented, and nothing that is no more."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.pages import CHECKOUT


def errorlist(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    script = checkout / "scripts/errorlist"
    return subprocess.run([sys.executable, str(script), *arguments], capture_output=True, text=True, check=False)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of what the script reads, to be spoilt."""
    for name in ("regstore", "drivers", "docs"):
        shutil.copytree(CHECKOUT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "scripts").mkdir()
    shutil.copy(CHECKOUT / "scripts/errorlist", tmp_path / "scripts")
    return tmp_path


def replace(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def test_the_documentation_is_up_to_date() -> None:
    done = errorlist(CHECKOUT, "--check")

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        ("regstore/registry/ends.py", 'code="nested"', 'code="brand-new"', "brand-new is raised, and nothing says"),
        ("docs/exit-codes.md", "| `nested` |", "| `nestled` |", "nestled is not raised any more"),
        ("docs/exit-codes.md", "| `nested` |", "| `same` |", "same stands there twice"),
        ("docs/exit-codes.md", "| `no-rule` | 3 |", "| `no-rule` | 2 |", "docs/exit-codes.md is not up to date"),
        ("docs/exit-codes.md", "| 5 | another", "| 6 | another", "are documented"),
        ("docs/findings.md", "| `stray` | info |", "| `stray` | error |", "docs/findings.md is not up to date"),
        ("docs/luks.md", "| `place.crypt` |", "| `place.krypt` |", "docs/luks.md is not up to date"),
        ("docs/configuration.md", "| `config-cache` |", "| `config-cash` |", "docs/configuration.md is not up to date"),
        ("regstore/registry/advice.py", 'yield _finding("config-uploads-kept"', 'yield _finding("config-redirect"',
         "config-uploads-kept is found nowhere"),
        ("regstore/registry/advice.py", '"config-redirect": FindingKind(', '"config-cache": FindingKind(',
         "config-cache stands there twice"),
        ("regstore/registry/ends.py", 'code="nested"', "code=what", "a slug must be written there in full"),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_wrong_is_named(copy: Path, file: str, old: str, new: str, words: str) -> None:
    replace(copy / file, old, new)

    done = errorlist(copy, "--check")

    assert done.returncode == 1
    assert words in done.stderr


def test_tables_are_written(copy: Path) -> None:
    replace(copy / "docs/findings.md", "| `stray` | info |", "| `stray` | error |")
    replace(copy / "docs/exit-codes.md", "| `no-rule` | 3 |", "| `no-rule` | 2 |")

    done = errorlist(copy)

    assert (done.returncode, done.stderr) == (0, "")
    for page in ("docs/findings.md", "docs/exit-codes.md"):
        assert (copy / page).read_text() == (CHECKOUT / page).read_text()
