"""`regstore config`."""

from __future__ import annotations

import json
import os
import time
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from regstore.cli.config_values import check_values
from regstore.cli.lazily import Lazily
from regstore.cli.listing import ListingGroup
from regstore.cli.main import _COMMANDS, EXIT_STATUS, cli, translate
from regstore.cli.option_names import OPTION_NAMES
from regstore.cli.output import make_document, render_table, show_findings, show_json
from regstore.configuration import SYSTEM_FILE, Configuration, find_file, read_configuration
from regstore.errors import RefusedError, UsageError
from regstore.findings import Finding, is_clean
from regstore.wording import plain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regstore import nightly
    from regstore.configuration import Nightly, Place
    from regstore.notify import post as posts
    from regstore.registry import advice
    from regstore.registry import config as configs
    from regstore.registry import host as hosts
    from regstore.registry import location as locations
else:
    nightly = Lazily("regstore.nightly")
    posts = Lazily("regstore.notify.post")
    advice = Lazily("regstore.registry.advice")
    configs = Lazily("regstore.registry.config")
    hosts = Lazily("regstore.registry.host")
    locations = Lazily("regstore.registry.location")

_EXAMPLE = """\
# regstore's configuration. A flag goes before the environment (REGSTORE_...), and that before this file.
# Any option of a command can stand here, without the dashes and with _ for -:
# below a registry or a store for every command that is given its name, below a command for every run of it.
# Check it with: regstore config check

{registries}
# A store of backups: regstore backup create {name} nas
#[store.nas]
#location = "/backup/registry"
#keep_daily = 7
#keep_weekly = 4

# What is done every night, and how old the last backup may be: regstore run nightly {name}, regstore service install
#[nightly.{name}]
#store = "nas"
#rpo = "26h"

# Defaults of a command:
#[gc.run]
#grace = "48h"
"""
_EXAMPLE_REGISTRY = """\
# {why}
[registry.{name}]
location = {location}
# Online collections remove manifests through the running registry, so that its cache forgets them too:
{url}
# Nightly: regstore luks check {name}
#header_backup = "/mnt/usb/registry.hdr"
"""


@click.group(
    "config",
    cls=ListingGroup,
    epilog=f"""\b
EXAMPLES
  regstore config init
  regstore config check
  regstore config show --origin

{EXIT_STATUS}""",
)
def command() -> None:
    """Show, check and write regstore's configuration."""


def _read(context: click.Context) -> Configuration:
    """Read the file whole: also the tables of commands that are not run."""
    root = context.find_root()
    file = find_file(root.params.get("config"), os.environ)
    if file is None:
        return Configuration()
    configuration = read_configuration(file, OPTION_NAMES, _COMMANDS)
    for name, table in configuration.commands.items():
        found = cli.get_command(root, name)
        if found is not None:
            translate(found, table, f"{file}: [{name}")
    return configuration


@command.command(
    "show",
    epilog=f"""\b
EXAMPLES
  regstore config show
  regstore config show --origin

{EXIT_STATUS}""",
)
@click.option("--origin", is_flag=True, help="Say for each value where it comes from.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def show_command(context: click.Context, origin: bool, as_json: bool) -> None:
    """Show every value that is configured, by the file and by the environment."""
    started = time.time()
    configuration = _read(context)
    rows = [*_values(configuration), *_environment_values()]
    if as_json:
        entries = [{"key": key, "value": value, "origin": where} for key, value, where in rows]
        show_json("config show", str(configuration.path or ""), started, 0, [], values=entries)
        return
    if not rows:
        click.echo(f"nothing is configured; regstore config init writes {SYSTEM_FILE}")
        return
    columns = 3 if origin else 2
    shown = [(key, json.dumps(value, ensure_ascii=False), where) for key, value, where in rows]
    click.echo(plain_table([row[:columns] for row in [("key", "value", "origin"), *shown]]))


def plain_table(rows: list[tuple[str, ...]]) -> str:
    """Return aligned columns of texts, with what is not seen as escapes."""
    return render_table([[plain(cell) for cell in row] for row in rows])


def _values(configuration: Configuration) -> Iterator[tuple[str, Any, str]]:
    for kind, places in (("registry", configuration.registries), ("store", configuration.stores)):
        for name, place in places.items():
            where = f"{configuration.path} [{kind}.{name}]"
            yield f"{kind}.{name}.location", place.location, where
            for key, value in place.options.items():
                yield f"{kind}.{name}.{key}", value, where
            if kind == "registry" and os.path.isfile(place.location):
                registry = configs.read_config(place.location)
                where = f"{place.location} (the registry's own)"
                yield f"{kind}.{name}.storage", registry.driver, where
                if registry.root_directory:
                    yield f"{kind}.{name}.rootdirectory", registry.root_directory, where
    for name, night in configuration.nights.items():
        yield from _night_values(night, f"nightly.{name}", str(configuration.path))
    yield from _command_values(configuration.commands, "", str(configuration.path))


def _night_values(night: Nightly, prefix: str, path: str) -> Iterator[tuple[str, Any, str]]:
    """Yield what differs from the defaults; a URL without its path, which is a secret with most receivers."""
    for one in fields(night):
        value = getattr(night, one.name)
        if one.name != "name" and value != one.default:
            shown = posts.shown_url(value) if one.name in ("ping_url", "webhook_url") else value
            yield f"{prefix}.{one.name}", shown, f"{path} [{prefix}]"


def _command_values(table: Any, prefix: str, path: str) -> Iterator[tuple[str, Any, str]]:
    for key, value in table.items():
        name = f"{prefix}.{key}" if prefix else key
        if isinstance(value, dict):
            yield from _command_values(value, name, path)
        else:
            yield name, value, f"{path} [{prefix}]"


def _environment_values() -> Iterator[tuple[str, Any, str]]:
    for name, value in sorted(os.environ.items()):
        if name.startswith("REGSTORE_"):
            yield name, value, "environment"


@command.command(
    "check",
    epilog=f"""\b
EXAMPLES
  regstore config check
  regstore config check /etc/docker/registry/config.yml

{EXIT_STATUS}""",
)
@click.argument("config_file", required=False, metavar="[CONFIG.YML]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing when all is well.")
@click.pass_context
def check_command(context: click.Context, config_file: str | None, as_json: bool, quiet: bool) -> None:
    """Check regstore's configuration, and the registries' own: what would make a collection fail or an image vanish.

    With a registry's CONFIG.YML only that is checked.
    """
    started = time.time()
    if config_file:
        path, findings = config_file, list(_advise(config_file))
    else:
        configuration = _read(context)
        if configuration.path is None:
            raise UsageError("there is no configuration", hint=f"regstore config init writes {SYSTEM_FILE}")
        check_values(context.find_root(), configuration)
        for night in configuration.nights.values():
            nightly.plan_steps(night, configuration, datetime.fromtimestamp(started, UTC).date())
        path = str(configuration.path)
        files = {night.name: night.textfile for night in configuration.nights.values()}
        findings = [*_check_places(configuration), *advice.advise_textfiles(files)]
    code = 0 if is_clean(findings) else 1
    if as_json:
        click.echo(json.dumps(make_document("config check", path, started, code, findings), indent=2))
    elif findings and not (quiet and code == 0):
        show_findings(findings)
    elif not quiet:
        click.echo(f"{path}: nothing to mend")
    raise click.exceptions.Exit(code)


def _check_places(configuration: Configuration) -> Iterator[Finding]:
    for kind, places in (("registry", configuration.registries), ("store", configuration.stores)):
        for name, place in places.items():
            location = place.location.removeprefix("borg:")
            if location.startswith("file:") or "://" not in location:
                yield from advice.advise_place(
                    f"{kind}.{name}", os.path.expanduser(locations.path_of_location(location))
                )
    for place in configuration.registries.values():
        yield from _check_place(place)


def _check_place(place: Place) -> Iterator[Finding]:
    for finding in _look_at_place(place):
        # That is the advice, followed: collections of this name make the cache forget.
        if finding.id != "config-cache" or not place.options.get("registry_url"):
            yield finding


def _look_at_place(place: Place) -> Iterator[Finding]:
    if os.path.isfile(place.location):
        yield from _advise(place.location)
    elif os.path.isdir(place.location):
        for file in (found.location for found in hosts.find_registries() if os.path.isfile(found.location)):
            if os.path.realpath(configs.read_config(file).root_directory) == os.path.realpath(place.location):
                yield from _advise(file)


def _advise(file: str) -> Iterator[Finding]:
    yield from advice.advise(configs.read_config(file), os.stat(file).st_mode)


def _url_line(location: str) -> str:
    """Return the line of the running registry's URL, as its own configuration says it, else an example."""
    url = configs.read_config(location).url if os.path.isfile(location) else ""
    return f"registry_url = {json.dumps(url)}" if url else '#registry_url = "http://127.0.0.1:5000"'


@command.command(
    "init",
    epilog=f"""\b
EXAMPLES
  regstore config init                   writes {SYSTEM_FILE}
  regstore config init --dry-run
  regstore config init /srv/registry     for a registry that was not found

{EXIT_STATUS}""",
)
@click.argument("locations", nargs=-1, metavar="[LOCATION]...")
@click.option("--out", metavar="FILE", default=str(SYSTEM_FILE), show_default=True, help="Write there.")
@click.option("--dry-run", is_flag=True, allow_from_autoenv=False, help="Print it instead.")
def init_command(locations: tuple[str, ...], out: str, dry_run: bool) -> None:
    """Write a configuration, with comments, for the registries of this host."""
    found = [(location, "given on the command line") for location in locations]
    found = found or [(registry.location, registry.why) for registry in hosts.find_registries()]
    if not found:
        raise UsageError(
            "no registry was found on this host", hint="name its directory, its config.yml or its s3:// URL"
        )
    names = ["main", *(f"registry{number}" for number in range(2, len(found) + 1))]
    registries = "\n".join(
        _EXAMPLE_REGISTRY.format(why=plain(why), name=name, location=json.dumps(location), url=_url_line(location))
        for name, (location, why) in zip(names, found, strict=True)
    )
    text = _EXAMPLE.format(registries=registries, name=names[0])
    if dry_run:
        click.echo(text, nl=False)
        return
    path = Path(out)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            try:
                file.write(text)
                file.flush()
            except OSError:
                path.unlink()
                raise
    except FileExistsError as error:
        hint = "edit it, or give --out another file"
        raise RefusedError(f"{path} exists", code="config-exists", hint=hint) from error
    except OSError as error:
        hint = "run as root, or give --out another file: ~/.config/regstore/config.toml is read too"
        raise UsageError(f"cannot write {path}: {error.strerror}", hint=hint) from error
    said = ", ".join(f"{name} is {plain(location)}" for name, (location, _) in zip(names, found, strict=True))
    click.echo(f"{path}: {said}")
    click.echo("next: regstore config check; regstore gc plan main")
