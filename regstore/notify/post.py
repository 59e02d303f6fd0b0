"""One HTTP request to a URL whose path is a secret: bounded in time, and never shown whole."""

from __future__ import annotations

import threading
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from regstore._version import __version__
from regstore.wording import plain

TIMEOUT_SECONDS = 10.0
_NO_URL = "(no http or https URL)"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows nothing: a POST would go on as a GET without its body, and to a host that nobody configured."""

    def redirect_request(self, *_: Any) -> None:
        return None


def shown_url(url: str) -> str:
    """Return a URL without its path, which is a secret with most receivers."""
    parts = _split(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/..." if parts else _NO_URL


def _split(url: str) -> urllib.parse.SplitResult | None:
    """Return the parts of a URL that can be posted to."""
    try:
        parts = urllib.parse.urlsplit(url)
        has_port = parts.port is None or parts.port
    except ValueError:
        return None
    return parts if parts.scheme in ("http", "https") and parts.hostname and has_port else None


def post(url: str, body: bytes, content_type: str, timeout_seconds: float = TIMEOUT_SECONDS) -> str:
    """Send a POST request; return what went wrong, without the URL's path, or nothing.

    The time holds for all of it: finding the host, connecting, and an answer that trickles.
    """
    answers: list[str] = []

    def ask() -> None:
        answers.append(_send(url, body, content_type, timeout_seconds))

    # The resolver cannot be given a time, and a socket's own holds for each piece only.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(timeout_seconds)
    return answers[0] if answers else f"{shown_url(url)} does not answer within {timeout_seconds:.0f} seconds"


def _send(url: str, body: bytes, content_type: str, timeout_seconds: float) -> str:
    shown = shown_url(url)
    if shown == _NO_URL:
        return "what is configured is no http or https URL"
    headers = {"User-Agent": f"regstore/{__version__}", "Content-Type": content_type}
    try:
        request = urllib.request.Request(url, data=body, headers=headers, method="POST")  # noqa: S310
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=timeout_seconds):
            return ""
    except urllib.error.HTTPError as error:
        error.close()
        if 300 <= error.code < 400:
            target = shown_url(error.headers.get("Location", ""))
            return f"{shown} answers {error.code} and points to {target}: redirects are not followed, give that URL"
        return f"{shown} answers {error.code} {plain(str(error.reason))[:100]}"
    except urllib.error.URLError as error:
        return f"{shown} does not answer: {error.reason}"
    except OSError as error:
        return f"{shown} does not answer: {error}"
    except Exception as error:  # noqa: BLE001 - of http.client and urllib; their texts hold the URL
        return f"{shown} cannot be asked: {type(error).__name__}"
