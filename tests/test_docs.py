"""The documentation says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from regstore.gc.catalogue import CATALOGUE

ROOT = Path(__file__).parent.parent


def test_every_finding_is_documented_as_it_is() -> None:
    """docs/findings.md has one row a finding, with its severity."""
    rows = re.findall(r"^\| `([a-z-]+)` \| ([a-z]+) \|", (ROOT / "docs/findings.md").read_text(), re.MULTILINE)
    assert rows == [(name, kind.severity.word) for name, kind in CATALOGUE.items()]


def test_links_between_pages_lead_somewhere() -> None:
    """Every relative link of README and docs/ names a file."""
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
