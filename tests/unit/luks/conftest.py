"""What the tests of LUKS volumes share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from regstore.luks.facts import Facts, Options
from regstore.luks.findings import Finding, Severity
from regstore.luks.metadata import Metadata
from regstore.luks.stack import Kind
from regstore.luks.system import CHECKS
from support.luks_trees import Tree, first_on_path

Ask = Callable[..., list[Finding]]


@pytest.fixture
def tree_directory(tmp_path: Path) -> Path:
    path = tmp_path / "tree"
    path.mkdir()
    return path


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that is first on PATH."""
    path = tmp_path / "programs"
    path.mkdir()
    monkeypatch.setenv("PATH", first_on_path(path))
    return path


@pytest.fixture
def ask() -> Ask:
    """Run one check on a tree; whatever it says, a warning or worse has evidence and advice."""

    def run(
        check: str,
        tree: Tree,
        metadata: Metadata | None = None,
        target: str = "/data/registry",
        kind: Kind = Kind.ROOT,
        **options: object,
    ) -> list[Finding]:
        facts = Facts(tree.sysroot, tree.stack(target, kind), metadata, Options(**options))  # type: ignore[arg-type]
        findings = list(CHECKS[check](facts))
        for finding in findings:
            assert finding.id == check
            assert finding.detail
            assert finding.subject
            assert finding.repair or finding.severity < Severity.WARNING
        return findings

    return run
