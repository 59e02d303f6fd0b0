"""What all tests share: the fixtures, and the rule that CI skips nothing."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

# Tests share two processors with servers: how long one example takes says nothing.
settings.register_profile("regstore", settings.get_profile(settings.get_current_profile_name()), deadline=None)
settings.load_profile("regstore")

pytest_plugins = ["fixtures_cli", "fixtures_registry", "fixtures_s3"]


def _skipped_in_ci(config: pytest.Config) -> int:
    """Count the skipped tests when skipping is not allowed, else return 0."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if not os.environ.get("CI") or reporter is None or hasattr(config, "workerinput"):
        return 0
    return len(reporter.stats.get("skipped", ()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say why a session of only passed tests fails in CI."""
    if count := _skipped_in_ci(config):
        terminalreporter.write_line(
            f"CI is set and {count} tests were skipped: CI must run every test, so this session fails", red=True
        )


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a session in CI that skipped a test."""
    if session.exitstatus == pytest.ExitCode.OK and _skipped_in_ci(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
