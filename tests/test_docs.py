"""The documentation says what the code does."""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml

from regstore.backup import catalogue as backups
from regstore.fsck import catalogue as checks
from regstore.gc import catalogue as collections
from regstore.luks import catalogue as volumes
from regstore.migrate import catalogue as migrations
from regstore.nightly import JOBS
from regstore.registry import advice
from regstore.report import catalogue as reports
from regstore.report.exposition import metric_names
from regstore.transfer import SOURCE_CATALOGUE

ROOT = Path(__file__).parent.parent


def test_every_finding_is_documented_as_it_is() -> None:
    """docs/findings.md has one row a finding of every catalogue, with severity, meaning and what to do."""
    rows = re.findall(r"^\| `([a-z-]+)` \| (.*) \|$", (ROOT / "docs/findings.md").read_text(), re.MULTILINE)
    kinds = [
        *collections.CATALOGUE.items(),
        *checks.CATALOGUE.items(),
        *reports.CATALOGUE.items(),
        *backups.CATALOGUE.items(),
        *((name, kind) for name, kind in migrations.CATALOGUE.items() if name not in SOURCE_CATALOGUE),
    ]
    assert rows == [(name, f"{kind.severity.word} | {kind.meaning} | {kind.repair}") for name, kind in kinds]


def test_every_check_of_a_volume_is_documented() -> None:
    """docs/luks.md has one row a check, in order."""
    rows = re.findall(r"^\| `([a-z.]+)` \| (.*) \|$", (ROOT / "docs/luks.md").read_text(), re.MULTILINE)
    assert rows == list(volumes.CATALOGUE.items())


def test_every_check_that_is_made_is_in_the_catalogue() -> None:
    """Every id in the sources of regstore.luks is one of the catalogue, and every one of the catalogue is used."""
    named = set()
    for path in (ROOT / "regstore/luks").rglob("*.py"):
        if path.name != "catalogue.py":
            named |= set(re.findall(r'"((?:place|map|hdr|slot|token|ciph|bak|conf|dev|fs)\.[a-z]+)"', path.read_text()))
    assert named == set(volumes.CATALOGUE)


def test_advice_on_registries_is_documented() -> None:
    """docs/configuration.md has one row for each."""
    rows = re.findall(r"^\| `([a-z-]+)` \| (.*) \|$", (ROOT / "docs/configuration.md").read_text(), re.MULTILINE)
    kinds = advice.CATALOGUE.items()
    assert rows == [(name, f"{kind.severity.word} | {kind.meaning} | {kind.repair}") for name, kind in kinds]


def test_links_between_pages_lead_somewhere() -> None:
    """Every relative link of README and docs/ names a file."""
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_metric_of_the_dashboard_and_the_alerts_is_exported() -> None:
    """docs/monitoring names nothing that `regstore metrics` does not export."""
    for name in ("alerts.yml", "grafana.json"):
        text = (ROOT / "docs/monitoring" / name).read_text()
        named = set(re.findall(r"\b(?:regstore|registry)_[a-z_]+", text))
        assert len(named) > 5
        assert named <= set(metric_names()), name


def test_every_job_of_the_dashboard_and_the_alerts_is_noted_under_that_name() -> None:
    """A rule about a job that has another name never fires."""
    named: set[str] = set()
    for name in ("alerts.yml", "grafana.json"):
        named |= set(re.findall(r'job=\\?"([^"\\]+)\\?"', (ROOT / "docs/monitoring" / name).read_text()))
    assert {"nightly", "luks check"} <= named
    assert named <= {*JOBS.values(), "nightly"}


def test_the_alerts_are_rules() -> None:
    """Each has an expression, a severity, and says what to do."""
    (group,) = yaml.safe_load((ROOT / "docs/monitoring/alerts.yml").read_text())["groups"]
    for rule in group["rules"]:
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert set(rule["annotations"]) == {"summary", "description"}
        assert rule["expr"].count("(") == rule["expr"].count(")")


def test_the_dashboard_is_one() -> None:
    """Panels have queries and do not lie upon each other."""
    dashboard = json.loads((ROOT / "docs/monitoring/grafana.json").read_text())
    cells = [
        (x, y)
        for panel in dashboard["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
    assert all(panel["targets"] for panel in dashboard["panels"])
