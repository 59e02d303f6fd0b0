"""The documentation says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from regstore.fsck import catalogue as checks
from regstore.gc import catalogue as collections

ROOT = Path(__file__).parent.parent


def test_every_finding_is_documented_as_it_is() -> None:
    """docs/findings.md has one row a finding, with severity, meaning and what to do, first of gc, then of fsck."""
    rows = re.findall(r"^\| `([a-z-]+)` \| (.*) \|$", (ROOT / "docs/findings.md").read_text(), re.MULTILINE)
    kinds = [*collections.CATALOGUE.items(), *checks.CATALOGUE.items()]
    assert rows == [(name, f"{kind.severity.word} | {kind.meaning} | {kind.repair}") for name, kind in kinds]


def test_links_between_pages_lead_somewhere() -> None:
    """Every relative link of README and docs/ names a file."""
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
