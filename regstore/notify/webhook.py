"""One JSON document to a URL of the operator's; its `text` is what receivers like Slack and Mattermost show."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from regstore.notify.post import post, shown_url

if TYPE_CHECKING:
    from regstore.notify.report import Report


class Webhook:
    """Reports to one URL."""

    name = "webhook"

    def __init__(self, url: str, *, is_always: bool) -> None:
        self._url = url
        self._is_always = is_always
        self.target = shown_url(url)

    def begin(self) -> str:
        """Say nothing."""
        return ""

    def end(self, report: Report) -> str:
        """Say how a run ended, where that is wanted; return what went wrong, or nothing."""
        return self.test(report) if self._is_always or report.exit_code else ""

    def test(self, report: Report) -> str:
        """Send in any case; return what went wrong, or nothing."""
        return post(self._url, json.dumps(report.to_json()).encode(), "application/json")
