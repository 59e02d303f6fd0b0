"""Telling a monitor that a run began and how it ended, as healthchecks.io and its kin have it.

`URL/start` before, `URL/EXIT-CODE` after, with one `rid` for both; `URL/log` changes nothing (healthchecks.io/docs,
http_api).
"""

from __future__ import annotations

import urllib.parse
import uuid
from typing import TYPE_CHECKING

from regstore.notify.post import post, shown_url

if TYPE_CHECKING:
    from regstore.notify.report import Report

_BODY_BYTES = 100_000


class Ping:
    """One run, told to one URL."""

    name = "ping"

    def __init__(self, url: str) -> None:
        self._url = url
        self._run = str(uuid.uuid4())
        self.target = shown_url(url)

    def begin(self) -> str:
        """Say that it begins; return what went wrong, or nothing."""
        return self._send("start", "")

    def end(self, report: Report) -> str:
        """Say how it ended, with the summary; return what went wrong, or nothing."""
        return self._send(str(min(max(report.exit_code, 0), 255)), report.text or report.line)

    def test(self, report: Report) -> str:
        """Leave a line in the log of the check, which stays as it is; return what went wrong, or nothing."""
        return self._send("log", report.line)

    def _send(self, word: str, text: str) -> str:
        base, separator, query = self._url.partition("?")
        query = urllib.parse.urlencode({"rid": self._run}) + (f"&{query}" if separator else "")
        body = text.encode("utf-8", "replace")[:_BODY_BYTES]
        return post(f"{base.rstrip('/')}/{word}?{query}", body, "text/plain; charset=utf-8")
