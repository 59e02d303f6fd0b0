"""What all unit tests share: state of their own, and no pauses."""

from __future__ import annotations

from pathlib import Path

import pytest

from regstore.inventory import survey


@pytest.fixture(autouse=True)
def state_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state directory of the test's own."""
    path = tmp_path / "state"
    monkeypatch.setenv("XDG_STATE_HOME", str(path))
    return path


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Damaged links are read as often as ever, without waiting in between."""
    monkeypatch.setattr(survey, "SECOND_LOOKS_SECONDS", (0.0,) * len(survey.SECOND_LOOKS_SECONDS))
