"""The channels that the configuration has for a night."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol

from regstore.notify.mail import Mail
from regstore.notify.ping import Ping
from regstore.notify.webhook import Webhook

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from regstore.configuration import Nightly
    from regstore.notify.report import Report

_MAX_BYTES = 8192


class Channel(Protocol):
    """A way to somebody. Each method returns what went wrong, or nothing, and never takes longer than it says."""

    @property
    def name(self) -> str:
        """What it is: ping, webhook or mail."""

    @property
    def target(self) -> str:
        """Where it leads, without secrets."""

    def begin(self) -> str:
        """Say that a run begins, where somebody waits for that."""

    def end(self, report: Report) -> str:
        """Say how it ended, where that is wanted."""

    def test(self, report: Report) -> str:
        """Send something harmless, in any case."""


class _Closed:
    """A channel whose URL cannot be read: it says so at the end, once."""

    def __init__(self, name: str, target: str, problem: str) -> None:
        self.name, self.target, self._problem = name, target, problem

    def begin(self) -> str:
        return ""

    def end(self, _: Report) -> str:
        return self._problem

    def test(self, _: Report) -> str:
        return self._problem


def open_channels(night: Nightly, environment: Mapping[str, str]) -> list[Channel]:
    """Return the channels of a night; a URL that cannot be read makes one that only says why."""
    is_always = night.notify == "always"

    def make_webhook(url: str) -> Channel:
        return Webhook(url, is_always=is_always)

    channels = [
        *_open("ping", night.ping_url, night.ping_url_file, environment, Ping),
        *_open("webhook", night.webhook_url, night.webhook_url_file, environment, make_webhook),
    ]
    if night.mail_to:
        channels.append(Mail(night.mail_to, is_always=is_always))
    return channels


def _open(
    name: str, url: str, file: str, environment: Mapping[str, str], make: Callable[[str], Channel]
) -> list[Channel]:
    if file:
        try:
            url = _read_secret(file, environment)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            return [_Closed(name, file, f"its URL cannot be read from {file}: {reason}")]
    return [make(url)] if url else []


def _read_secret(name: str, environment: Mapping[str, str]) -> str:
    """Read a file, or the credential of systemd with this name (systemd.exec(5), LoadCredential=).

    Raises:
        OSError: it cannot be read.
        ValueError: there is no such credential, or nothing in it.
    """
    path = name
    if not name.startswith("/"):
        directory = environment.get("CREDENTIALS_DIRECTORY")
        if not directory:
            raise ValueError("systemd gave no credentials; give a whole path, or LoadCredential= in the unit")
        path = os.path.join(directory, name)
    with open(path, "rb") as file:
        text = file.read(_MAX_BYTES).decode("utf-8", "replace").strip()
    if not text:
        raise ValueError("it is empty")
    return text.splitlines()[0].strip()
