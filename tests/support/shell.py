"""The command line, run in the process of a test."""

from __future__ import annotations

import json
from typing import Any

import click
import pytest

from regstore.cli.main import Session, cli


class Shell:
    """The command line in this process.

    Args:
        capfd: what it prints.
        command: the command that is run with the arguments.
    """

    def __init__(self, capfd: pytest.CaptureFixture[str], command: str) -> None:
        self._capfd = capfd
        self._command = command
        self.err = ""

    def __call__(self, *arguments: object, code: int = 0) -> str:
        """Run a command that must end with a code, and return its output."""
        try:
            result = cli.main([str(a) for a in (self._command, *arguments)], obj=Session(), standalone_mode=False)
        except click.exceptions.Exit as error:
            result = error.exit_code
        output = self._capfd.readouterr()
        self.err = output.err
        assert (result or 0) == code, output
        return output.out

    def json(self, *arguments: object, code: int = 0) -> dict[str, Any]:
        """Run a command with `--json`, and return its document."""
        document: dict[str, Any] = json.loads(self(*arguments, "--json", code=code))
        assert document["exit_code"] == code
        assert document["command"] in (self._command, f"{self._command} {arguments[0]}")
        assert self.err == ""
        return document
