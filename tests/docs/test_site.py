"""The site is built without a warning, and its reference is the code's."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from regstore.cli.option_names import OPTION_NAMES
from regstore.report.exposition import metric_names
from support.pages import CHECKOUT
from support.programs import require_module


def text_of(page: Path) -> str:
    return re.sub(r"<[^>]*>", "", page.read_text())


def test_the_site_is_built(tmp_path: Path) -> None:
    require_module("sphinx", "sphinx")
    require_module("myst_parser", "myst-parser")

    done = subprocess.run(
        [sys.executable, str(CHECKOUT / "scripts/docs"), str(tmp_path / "site")],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    site = tmp_path / "site"
    for page in (CHECKOUT / "docs").rglob("*.md"):
        assert (site / page.relative_to(CHECKOUT)).with_suffix(".html").is_file()
    assert "regstore gc run" in text_of(site / "reference/commands.html")
    options, metrics = text_of(site / "reference/options.html"), text_of(site / "reference/metrics.html")
    assert [name for name in OPTION_NAMES - {"sysroot"} if name not in options] == []
    assert [name for name in metric_names() if name not in metrics] == []
    for word in ("rpo", "schema_version"):
        assert word in options + text_of(site / "reference/json.html")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[there](nowhere.md)", "nowhere"),
        ("[there](#no-such-heading)", "no-such-heading"),
        ("```{toctree}\n```\n\n### too deep", "Non-consecutive header"),
    ],
    ids=["a page", "a heading", "levels"],
)
def test_a_mistake_ends_the_build(tmp_path: Path, text: str, complaint: str) -> None:
    require_module("myst_parser", "myst-parser")
    (tmp_path / "source").mkdir()
    (tmp_path / "source/index.md").write_text(f"# Title\n\n{text}\n")

    command = [sys.executable, "-m", "sphinx", "-W", "-n", "-q", "-E", "-c", str(CHECKOUT / "docs/site")]
    command += [str(tmp_path / "source"), str(tmp_path / "site")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode != 0
    assert complaint in done.stderr
