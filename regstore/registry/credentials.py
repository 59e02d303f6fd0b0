"""How a registry wants to be asked for access, and what the docker configuration has for it.

Sources: the file format is that of docker/cli cli/config/configfile (`auths` only: credential helpers are programs and
are not run); the challenge is docs/spec/auth/token.md of distribution v2.8.3, in the syntax of RFC 9110, 11.6.1.
"""

from __future__ import annotations

import base64
import json
import os
import re
from dataclasses import dataclass, field
from typing import Any

_HUB_LOGIN = "index.docker.io"
_HUB_HOSTS = frozenset({"docker.io", "registry-1.docker.io"})
_BEARER = re.compile(r"(?:^|,)\s*bearer\s+(.*)", re.IGNORECASE | re.DOTALL)
_PARAMETER = re.compile(r'\s*([\w-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))\s*(?:,|$)')


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a login left for one registry; either is empty when there is none.

    Attributes:
        basic: base64 of `user:password`, as a Basic authorization has it.
        identity_token: a token that the registry's token server changes for short-lived ones.
    """

    basic: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)

    @property
    def headers(self) -> dict[str, str]:
        """The Authorization header of a basic login, or none."""
        return {"Authorization": f"Basic {self.basic}"} if self.basic else {}


@dataclass(frozen=True, slots=True)
class Challenge:
    """A registry's word that it takes tokens, and where they are to be had.

    Attributes:
        realm: URL of the token server.
        service: the name of the registry there, or empty.
        scopes: what the token must allow, such as `repository:app:pull`.
    """

    realm: str
    service: str = ""
    scopes: tuple[str, ...] = ()


def read_credentials(host: str) -> Credentials:
    """Read what `$DOCKER_CONFIG/config.json` (else `~/.docker/config.json`) has for a registry.

    What is no docker configuration, or cannot be read, holds no credentials.

    Args:
        host: the registry's `host` or `host:port`, as it stands in its URL.
    """
    directory = os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker")
    try:
        with open(f"{directory}/config.json", encoding="utf-8") as file:
            logins = json.load(file).get("auths") or {}
        for name in _names_of(host, logins):
            credentials = _credentials_of(logins.get(name) or {})
            if credentials != Credentials():
                return credentials
    except (OSError, ValueError, TypeError, AttributeError):
        pass  # what is no docker configuration holds no credentials
    return Credentials()


def parse_challenge(header: str) -> Challenge | None:
    """Parse the `Bearer` part of a WWW-Authenticate header; None when there is none or it names no realm."""
    match = _BEARER.search(header)
    if match is None:
        return None
    parameters: dict[str, str] = {}
    rest = match[1]
    while found := _PARAMETER.match(rest):
        quoted = found[2]
        value = found[3] if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
        parameters.setdefault(found[1].lower(), value)
        rest = rest[found.end() :]
    realm = parameters.get("realm")
    if not realm:
        return None
    return Challenge(realm, parameters.get("service", ""), tuple(parameters.get("scope", "").split()))


def _names_of(host: str, logins: dict[str, Any]) -> list[str]:
    """Return the names under which a login may stand: the host, also with a scheme and a path."""
    host = _HUB_LOGIN if host in _HUB_HOSTS else host
    exact = [host, f"https://{host}", f"http://{host}"]
    return exact + [name for name in logins if name.rpartition("://")[2].partition("/")[0] == host]


def _credentials_of(login: dict[str, Any]) -> Credentials:
    basic = login.get("auth") or ""
    if basic and b":" not in base64.b64decode(basic, validate=True):
        basic = ""
    token = login.get("identitytoken")
    return Credentials(basic, token if isinstance(token, str) else "")
