"""Plan files: JSON Lines, a header first, then one action a line. They can be read, kept, compared and applied
later."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from regstore._version import __version__
from regstore.errors import UsageError
from regstore.gc.actions import Action, Plan, Summary
from regstore.gc.options import Options
from regstore.outfile import write_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

SCHEMA_VERSION = 1


def render_plan(plan: Plan) -> Iterator[str]:
    """Yield the lines of a plan file, each with its newline."""
    header = {
        "schema_version": SCHEMA_VERSION,
        "command": "gc plan",
        "tool_version": __version__,
        "location": plan.location,
        "config": plan.config,
        "created_at": datetime.fromtimestamp(plan.created_at, UTC).isoformat(),
        "options": plan.options.to_json(),
        "action_count": len(plan.actions),
    }
    yield json.dumps(header) + "\n"
    for action in plan.actions:
        yield json.dumps(action.to_json()) + "\n"


def write_plan(plan: Plan, path: str) -> None:
    """Write a plan file, whole or not at all.

    Raises:
        UsageError: it cannot be written there.
    """
    write_lines(path, render_plan(plan), "plan")


def read_plan(path: str) -> Plan:
    """Read a plan file.

    Raises:
        UsageError: it cannot be read, or is no plan of this version.
    """
    try:
        with open(path, encoding="utf-8") as file:
            header = json.loads(file.readline())
            if header["schema_version"] != SCHEMA_VERSION or header["command"] != "gc plan":
                raise UsageError(f"{path} is a plan of another version of regstore", hint="plan again")
            actions = [Action.from_json(json.loads(line)) for line in file]
            if len(actions) != header["action_count"]:
                raise UsageError(
                    f"{path} is cut off: {len(actions)} of {header['action_count']} steps", hint="plan again"
                )
            if not isinstance(header["location"], str) or not isinstance(header["config"], str | None):
                raise UsageError(f"{path} is no plan of regstore: its location is no text", hint="plan again")
            return Plan(
                location=header["location"],
                options=Options.from_json(header["options"]),
                created_at=datetime.fromisoformat(header["created_at"]).timestamp(),
                summary=Summary(),
                actions=actions,
                findings=[],
                config=header["config"],
            )
    except OSError as error:
        raise UsageError(f"cannot read the plan {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{path} is no plan of regstore: {error}", hint="make one with: regstore gc plan --out"
        ) from error
