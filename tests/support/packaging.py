"""Running what was built and installed, with nothing of the tests' own environment."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Program:
    """An installed regstore.

    Attributes:
        command: how it is called.
        base: a directory of its own: where it is run, its home, and where it keeps its state.
        path: PATH.
    """

    command: Sequence[str]
    base: Path
    path: str = "/usr/bin:/bin:/usr/sbin:/sbin"
    variables: Mapping[str, str] = field(default_factory=dict)

    def run(self, *words: object, expect: int | None = None) -> subprocess.CompletedProcess[str]:
        """Run it with nothing of this process's environment; `expect` is the exit code that it must end with."""
        done = subprocess.run(
            [*self.command, *map(str, words)],
            cwd=self.base,
            env={"PATH": self.path, "HOME": str(self.base), "LANG": "C.UTF-8", **self.variables},
            stdin=subprocess.DEVNULL,
            check=False,
            capture_output=True,
            text=True,
        )
        assert expect in (None, done.returncode), f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
        assert "Traceback" not in done.stderr, done.stderr
        return done


def run(command: Sequence[object], directory: Path, expect: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a build step without the variables of this Python; it must end with `expect`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(list(map(str, command)), cwd=directory, env=kept, check=False, capture_output=True, text=True)
    assert done.returncode == expect, f"{command}: {done.stdout}{done.stderr}"
    return done


_WALK = """
import sys
import click
from regstore.cli.main import cli

def walk(command, context):
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            walk(below, click.Context(below, info_name=name, parent=context))
    if set(sys.argv[1:]) <= {word for option in command.params for word in option.opts}:
        print(context.command_path)

walk(cli, click.Context(cli, info_name="regstore"))
"""


def command_paths(environment: Path, directory: Path, *options: str) -> list[str]:
    """Return the words of every command and group of an environment's regstore that has all these options."""
    return run([environment / "bin" / "python", "-c", _WALK, *options], directory).stdout.splitlines()
