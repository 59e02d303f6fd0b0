"""regstore's own configuration: named registries and stores, and defaults of options.

One TOML file. A flag goes before the environment, the environment before this file, and this file before the registry's
own config.yml and the built-in default.
"""

from __future__ import annotations

import os
import re
import stat
import tomllib
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regstore.durations import parse_duration
from regstore.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SYSTEM_FILE = Path("/etc/regstore/config.toml")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
_MAX_BYTES = 1024 * 1024
_LISTS = ("steps", "mail_to")
_WHEN = ("failure", "always")
# What a header can hold as it is, and no MTA takes for an option or for two addresses.
_ADDRESS = re.compile(r"[A-Za-z0-9_][A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]*(@[A-Za-z0-9][A-Za-z0-9.-]*)?")


@dataclass(frozen=True, slots=True)
class Place:
    """A registry or store with a name.

    Attributes:
        location: what its commands take otherwise: a directory, a URL, or for a registry its config.yml.
        options: option names with underscores, and values; each is the default of every command that has it.
    """

    name: str
    location: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Nightly:
    """What is done for a registry every night, and what is expected of it.

    Attributes:
        name: of the registry.
        store: the name of the store of its backups, or empty.
        steps: names of steps, in order; empty for all that can be done.
        stop_on_failure: whether a failed step ends the night.
        textfile: where metrics are written for node_exporter, or empty.
        ping_url: what is told when a night begins and how it ended, as healthchecks.io has it, or empty.
        webhook_url: what is sent a JSON document when a night ended, or empty.
        ping_url_file, webhook_url_file: the file, or systemd's credential, that holds the URL instead, or empty.
        mail_to: who gets mail when a night ended.
        notify: when mail and webhook are told: `failure`, of an exit code other than 0, or `always`.
        rpo: the age that the last good backup may have, as a duration, or empty.
    """

    name: str
    store: str = ""
    steps: tuple[str, ...] = ()
    stop_on_failure: bool = False
    textfile: str = ""
    ping_url: str = ""
    ping_url_file: str = ""
    webhook_url: str = ""
    webhook_url_file: str = ""
    mail_to: tuple[str, ...] = ()
    notify: str = "failure"
    rpo: str = ""


@dataclass(frozen=True, slots=True)
class Configuration:
    """What the file says.

    Attributes:
        path: the file, or None without one.
        registries, stores: by name.
        nights: by the name of the registry.
        commands: defaults of options, by the words of the command: `{"gc": {"run": {"jobs": 4}}}`.
    """

    path: Path | None = None
    registries: Mapping[str, Place] = field(default_factory=dict)
    stores: Mapping[str, Place] = field(default_factory=dict)
    nights: Mapping[str, Nightly] = field(default_factory=dict)
    commands: Mapping[str, Any] = field(default_factory=dict)

    def find_night(self, name: str) -> Nightly:
        """Return the night of a registry.

        Raises:
            UsageError: there is none.
        """
        if name not in self.nights:
            known = ", ".join(self.nights)
            hint = f"configured: {known}" if known else f"regstore config init writes one; add [nightly.{name}] to it"
            raise UsageError(f"there is no [nightly.{name}] in the configuration", hint=hint)
        return self.nights[name]


def find_file(explicit: str | None, environment: Mapping[str, str]) -> Path | None:
    """Return the file to read: the one that is named, or the user's, or the system's; None when there is none."""
    if explicit:
        return Path(explicit)
    home = environment.get("XDG_CONFIG_HOME") or os.path.join(environment.get("HOME") or "/root", ".config")
    return next((path for path in (Path(home, "regstore/config.toml"), SYSTEM_FILE) if os.path.exists(path)), None)


def read_configuration(path: Path, option_names: Iterable[str], command_names: Iterable[str]) -> Configuration:
    """Read a file.

    Args:
        path: the file.
        option_names: every option that a command has, with underscores.
        command_names: the first words of commands.

    Raises:
        UsageError: it cannot be read, others than root may write to it while root reads it, or it holds something
            unknown.
    """
    content = _load(path)
    registries = _read_places(path, content.pop("registry", {}), "registry", option_names)
    stores = _read_places(path, content.pop("store", {}), "store", option_names)
    nights = _read_nights(path, content.pop("nightly", {}), registries, stores)
    for name, table in content.items():
        if name not in command_names:
            raise _unknown(path, name, [*command_names, "registry", "store", "nightly"], "table")
        _check_options(path, name, table, option_names)
    return Configuration(path, registries, stores, nights, content)


def _load(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            text = file.read(_MAX_BYTES + 1)
    except OSError as error:
        hint = "regstore config init writes one" if isinstance(error, FileNotFoundError) else ""
        raise UsageError(f"cannot read {path}: {error.strerror}", hint=hint) from error
    if os.geteuid() == 0 and (found.st_uid != 0 or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)):
        raise UsageError(
            f"{path} can be written by others than root, and could name commands that root runs",
            hint=f"chown root {path}; chmod go-w {path}",
        )
    if len(text) > _MAX_BYTES:
        raise UsageError(f"{path} is too large for a configuration")
    try:
        return tomllib.loads(text.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is no TOML: {error}", hint="regstore config init writes an example") from error


def _read_places(path: Path, tables: object, kind: str, option_names: Iterable[str]) -> dict[str, Place]:
    if not isinstance(tables, dict):
        raise UsageError(f"{path}: {kind} is no table", hint=f'write [{kind}.NAME] and below it location = "..."')
    places = {}
    for name, table in tables.items():
        where = f"[{kind}.{name}]"
        if not isinstance(table, dict):
            raise UsageError(f"{path}: {kind}.{name} is no table", hint=f"write {where}")
        if not _NAME.fullmatch(name):
            raise UsageError(f"{path}: {name!r} is no name for a {kind}", hint="use small letters, digits, - and _")
        options = dict(table)
        location = options.pop("location", None)
        if not isinstance(location, str) or not location:
            raise UsageError(f"{path}: {where} has no location", hint='add location = "..."')
        for key in options:
            if key not in option_names:
                raise _unknown(path, f"{where} {key}", ["location", *option_names], "key", key)
        places[name] = Place(name, location, options)
    return places


def _read_nights(
    path: Path, tables: object, registries: Mapping[str, Place], stores: Mapping[str, Place]
) -> dict[str, Nightly]:
    if not isinstance(tables, dict):
        raise UsageError(f"{path}: nightly is no table", hint="write [nightly.NAME], with the name of a registry")
    nights = {}
    known = {key.name: key for key in fields(Nightly) if key.name != "name"}
    for name, table in tables.items():
        where = f"[nightly.{name}]"
        if name not in registries:
            raise _unknown(path, where, [f"[nightly.{known}]" for known in registries], "registry")
        if not isinstance(table, dict):
            raise UsageError(f"{path}: nightly.{name} is no table", hint=f"write {where}")
        values = dict(table)
        for key, value in table.items():
            if key not in known:
                raise _unknown(path, f"{where} {key}", known, "key", key)
            if key in _LISTS and isinstance(value, list) and all(isinstance(item, str) for item in value):
                values[key] = tuple(value)
            elif key == "mail_to" and isinstance(value, str):
                values[key] = (value,)
            elif type(value) is not type(known[key].default):
                raise UsageError(f"{path}: {where} {key} cannot be {value!r}")
        if values.get("store") and values["store"] not in stores:
            raise _unknown(path, f"{where} store {values['store']}", stores, "store", values["store"])
        if values.get("rpo"):
            try:
                parse_duration(values["rpo"])
            except ValueError as error:
                raise UsageError(f"{path}: {where} rpo: {error}") from error
        nights[name] = Nightly(name, **values)
        _check_channels(f"{path}: {where}", nights[name])
    return nights


def _check_channels(where: str, night: Nightly) -> None:
    if night.notify not in _WHEN:
        raise UsageError(f"{where} notify cannot be {night.notify!r}", hint=f"it is one of: {', '.join(_WHEN)}")
    if (night.ping_url and night.ping_url_file) or (night.webhook_url and night.webhook_url_file):
        raise UsageError(f"{where} has a URL and a file with a URL for the same thing", hint="remove one of them")
    for address in night.mail_to:
        if not _ADDRESS.fullmatch(address):
            raise UsageError(
                f"{where} mail_to: {address!r} is no address", hint="write one address a string, without a name"
            )


def _check_options(path: Path, where: str, table: object, option_names: Iterable[str]) -> None:
    if not isinstance(table, dict):
        raise UsageError(f"{path}: {where} is no table", hint=f"write [{where}] above its options")
    for key, value in table.items():
        if isinstance(value, dict):
            _check_options(path, f"{where}.{key}", value, option_names)
        elif key not in option_names:
            raise _unknown(path, f"[{where}] {key}", option_names, "key", key)


def _unknown(path: Path, what: str, known: Iterable[str], kind: str, word: str = "") -> UsageError:
    close = get_close_matches(word or what, list(known), n=1)
    hint = f"do you mean {close[0]}?" if close else "regstore config init writes an example; see docs/configuration.md"
    return UsageError(f"{path}: unknown {kind}: {what}", hint=hint)
