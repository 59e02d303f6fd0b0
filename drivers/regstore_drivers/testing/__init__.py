"""What every driver must pass: a suite for pytest, and in `state_machine` one for hypothesis.

A driver's own tests subclass `DriverSuite` and provide a fixture `driver` that gives it empty storage.
Needs pytest; `state_machine` needs hypothesis too.
"""

import pytest

for _module in ("basis", "deleting", "placing", "reading", "threads", "writing"):
    pytest.register_assert_rewrite(f"{__name__}.{_module}")

from regstore_drivers.testing.suite import DriverSuite, ReadDriverSuite  # noqa: E402 - after the registration

__all__ = ["DriverSuite", "ReadDriverSuite"]
