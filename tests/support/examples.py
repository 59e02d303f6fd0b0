"""How long properties are tried."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

_FACTOR = int(os.environ.get("REGSTORE_EXAMPLES", "0"))


def examples(count: int) -> settings:
    """Return settings for so many examples, the same ones every time.

    With `REGSTORE_EXAMPLES=20` in the environment twenty times as many are tried, at random.
    """
    # A fixture that is the same for all examples is what the tests mean: the state directory, and no pauses.
    return settings(
        max_examples=count * max(1, _FACTOR),
        derandomize=not _FACTOR,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
