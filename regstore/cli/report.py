"""`regstore report`."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, NoReturn

import click

from regstore.cli import messages, report_tables
from regstore.cli.completing import complete_repository
from regstore.cli.lazily import Lazily
from regstore.cli.listing import ListingGroup
from regstore.cli.main import EXIT_STATUS, Session
from regstore.cli.named import REGISTRY
from regstore.cli.output import make_document, show_findings
from regstore.cli.parameters import DURATION, safety_option
from regstore.cli.progress import choose_progress
from regstore.cli.rendering import FORMATS, csv_lines, emit
from regstore.errors import StorageFailedError, UsageError
from regstore.findings import is_clean
from regstore.wording import iso_time

if TYPE_CHECKING:
    from collections.abc import Sequence

    from regstore import registry as registries
    from regstore.findings import Finding
    from regstore.registry import Registry
    from regstore.report import capacity as capacities
    from regstore.report import exposition, whatif
    from regstore.report import forecast as forecasts
    from regstore.report import history as histories
    from regstore.report import options as report_options
    from regstore.report.capacity import Capacity
    from regstore.report.forecast import Forecast
else:
    capacities = Lazily("regstore.report.capacity")
    exposition = Lazily("regstore.report.exposition")
    forecasts = Lazily("regstore.report.forecast")
    histories = Lazily("regstore.report.history")
    report_options = Lazily("regstore.report.options")
    whatif = Lazily("regstore.report.whatif")
    registries = Lazily("regstore.registry")

_SORTS = ("stored", "logical", "unique", "shared", "reclaimable", "growth", "tags", "revisions", "newest", "name")


@click.group(
    cls=ListingGroup,
    epilog=f"""\b
EXAMPLES
  regstore report capacity /var/lib/registry
  regstore report dedup /var/lib/registry

{EXIT_STATUS}""",
)
def command() -> None:
    """Say what fills a volume, what is shared on it, and what can be freed."""


def _output_options(function: Any) -> Any:
    for option in reversed(
        (
            click.option(
                "--format",
                "form",
                type=click.Choice(FORMATS),
                default="table",
                show_default=True,
                help="csv is the main list, prom a Prometheus text file, html one page for any browser.",
            ),
            click.option("--json", "as_json", is_flag=True, help="Short for --format json."),
            click.option("--plain", is_flag=True, help="With table: tabs between columns, raw bytes, for awk."),
            click.option("--out", metavar="FILE", help="Write to FILE, whole or not at all, instead of stdout."),
            click.option(
                "--jobs",
                type=click.IntRange(1, 256),
                help="Requests at once on an object store (16), or processes that read layers.",
            ),
            click.option("-q", "--quiet", is_flag=True, help="No progress, and no table when all is well."),
        )
    ):
        function = option(function)
    return function


@command.command(
    "capacity",
    epilog=f"""\b
EXAMPLES
  regstore report capacity /var/lib/registry
  regstore report capacity --tags --repository 'team/*' --top 50 /var/lib/registry
  regstore report capacity --what-if 'keep-last 10' --what-if 'delete team/app:v1.*' /var/lib/registry
  regstore report capacity --format html --out report.html s3://bucket/prefix
  regstore report capacity -q --format prom --out /var/lib/node_exporter/registry.prom /var/lib/registry

{EXIT_STATUS}""",
)
@click.argument("root", type=REGISTRY)
@click.option("--tags", "with_tags", is_flag=True, help="A row for every tag.")
@click.option(
    "--what-if",
    "rules",
    multiple=True,
    metavar="RULE",
    help="Say what a collection would free after it: 'delete REPOSITORY:TAG' (patterns), 'keep-last N', 'older-than "
    "AGE'. May be repeated; each is asked alone.",
)
@click.option("--history", "with_history", is_flag=True, help="Show what former reports found.")
@click.option(
    "--grace",
    type=DURATION,
    default="24h",
    show_default=True,
    metavar="AGE",
    help="The grace period of the collection that is meant.",
)
@safety_option(
    "--delete-untagged", is_flag=True, help="The collection that is meant removes manifests that no tag needs."
)
@click.option(
    "--repository",
    "pattern",
    metavar="GLOB",
    help="Show only repositories that match (* crosses /).",
    shell_complete=complete_repository,
)
@click.option("--top", type=click.IntRange(1), metavar="N", help="Show only the first N rows.")
@click.option("--sort", type=click.Choice(_SORTS), default="stored", show_default=True, help="Largest first.")
@click.option(
    "--metrics-top", type=click.IntRange(0), default=0, metavar="N", help="With prom: the N largest repositories too."
)
@_output_options
@click.pass_obj
def capacity_command(session: Session, /, root: str, **arguments: Any) -> None:
    """Weigh ROOT: what it stores, for whom, what can be freed, and when the disk will be full.

    ROOT is the registry's directory, an s3:// URL, or its config.yml. Nothing is changed below it. Each run is recorded
    in the state directory, which growth and forecast are drawn from.
    """
    started = time.time()
    form = _form_of(arguments)
    options = report_options.Options(
        grace=arguments["grace"],
        delete_untagged=arguments["delete_untagged"],
        what_if=tuple(map(whatif.parse_rule, arguments["rules"])),
        with_tags=arguments["with_tags"],
        jobs=arguments["jobs"] or 16,
    )
    progress = choose_progress(quiet=arguments["quiet"])
    registry = registries.open_registry(root, options.jobs)
    job = session.begin_job("report", registry.location)
    capacity = capacities.measure_capacity(registry, options, progress=progress, cancel=session.cancel)
    progress.finish()
    job.findings = capacity.findings
    history = _record(registry, capacity, started)
    points = [(entry.at, entry.totals.get("stored_bytes") or 0) for entry in history]
    forecast = forecasts.forecast_full(points, capacity.room.free_bytes)
    namespaces = capacities.sum_namespaces(capacity.repositories)
    samples = exposition.capacity_samples(capacity, forecast, capacity.findings, started, arguments["metrics_top"])
    _choose_rows(capacity, arguments)
    code = 0 if is_clean(capacity.findings) else 1
    shown = history if arguments["with_history"] or form == "html" else None
    document = _capacity_document(capacity, namespaces, forecast, shown, started, code, options)
    lines: Sequence[str]
    match form:
        case "json":
            lines = [json.dumps(document, indent=2), "\n"]
        case "csv":
            if options.with_tags:
                lines = csv_lines(report_tables.TAG_COLUMNS, document["tags"])
            else:
                lines = csv_lines(report_tables.REPOSITORY_COLUMNS, document["repositories"])
        case "prom":
            lines = [exposition.render_exposition(samples)]
        case "html":
            from regstore.report.page import render_capacity_page

            lines = [render_capacity_page(document)]
        case _ if arguments["plain"]:
            lines = report_tables.plain_capacity(document)
        case _:
            lines = report_tables.capacity_table(capacity, forecast, shown)
    _finish(lines, arguments, form, capacity.findings, code)


def _form_of(arguments: dict[str, Any]) -> str:
    form: str = arguments["form"]
    if arguments["as_json"]:
        if form not in ("table", "json"):
            raise UsageError(f"--json and --format {form} exclude each other")
        form = "json"
    if arguments["plain"] and form != "table":
        raise UsageError(f"--plain is a form of the table, not of {form}")
    return form


def _record(registry: Registry, capacity: Capacity, at: float) -> list[histories.Entry]:
    """Take growth from the history, and add this run to it; without one it goes on."""
    entry = histories.Entry(at, capacity.totals)
    history = histories.History(registry.location)
    entries: list[histories.Entry] = []
    try:
        entries = history.entries()
        last = history.last_stored()
        for row in capacity.repositories:
            # A repository that was not there has grown by all that it has.
            row.growth_bytes = None if last is None else row.stored_bytes - last.get(row.name, 0)
        history.add(entry, {row.name: row.stored_bytes for row in capacity.repositories})
    except (OSError, StorageFailedError, sqlite3.Error) as error:
        messages.warn(f"this run is not recorded: {error}", hint=getattr(error, "hint", ""))
    return [*entries, entry]


def _choose_rows(capacity: Capacity, arguments: dict[str, Any]) -> None:
    """Choose and sort the rows that are shown; what is measured stays."""
    pattern, top, sort = arguments["pattern"], arguments["top"], arguments["sort"]
    if pattern:
        capacity.repositories = [row for row in capacity.repositories if fnmatchcase(row.name, pattern)]
        capacity.tags = [row for row in capacity.tags if fnmatchcase(row.repository, pattern)]
    key = {"growth": "growth_bytes", "tags": "tag_count", "revisions": "revision_count", "newest": "newest_push_at"}
    field = key.get(sort, f"{sort}_bytes")
    if sort == "name":
        capacity.repositories.sort(key=lambda row: row.name)
        capacity.tags.sort(key=lambda row: (row.repository, row.tag))
    else:
        capacity.repositories.sort(key=lambda row: (-(getattr(row, field) or 0), row.name))
        of_tag = {"unique": "unique_bytes", "newest": "pushed_at"}.get(sort, "size_bytes")
        capacity.tags.sort(key=lambda row: (-(getattr(row, of_tag) or 0), row.repository, row.tag))
    if top:
        capacity.repositories, capacity.tags = capacity.repositories[:top], capacity.tags[:top]


def _capacity_document(
    capacity: Capacity,
    namespaces: list[dict[str, Any]],
    forecast: Forecast,
    history: list[histories.Entry] | None,
    started: float,
    code: int,
    options: report_options.Options,
) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "totals": capacity.totals,
        "volume": {
            "total_bytes": capacity.room.total_bytes,
            "free_bytes": capacity.room.free_bytes,
            "total_inodes": capacity.room.total_inodes,
            "free_inodes": capacity.room.free_inodes,
        },
        "repositories": [row.to_json() for row in capacity.repositories],
        "namespaces": namespaces,
    }
    if options.with_tags:
        fields["tags"] = [row.to_json() for row in capacity.tags]
    if options.what_if:
        fields["what_if"] = [
            {"rule": rule, "tag_count": tag_count, "freed_bytes": freed} for rule, tag_count, freed in capacity.what_if
        ]
    fields["forecast"] = forecast.to_json()
    if history is not None:
        fields["history"] = [{"at": iso_time(entry.at), "totals": entry.totals} for entry in history]
    fields["strays"] = capacity.strays
    return make_document("report capacity", capacity.location, started, code, capacity.findings, **fields)


@command.command(
    "dedup",
    epilog=f"""\b
EXAMPLES
  regstore report dedup /var/lib/registry
  regstore report dedup --level file --format html --out dedup.html /var/lib/registry
  regstore report dedup --level chunk --json s3://bucket/prefix

{EXIT_STATUS}""",
)
@click.argument("root", type=REGISTRY)
@click.option(
    "--level",
    type=click.Choice(["blob", "file", "chunk"]),
    default="blob",
    show_default=True,
    help="What is compared: layers, without reading them; files in them; pieces of them, as a chunking backup cuts.",
)
@click.option("--top", type=click.IntRange(1), metavar="N", help="Rows of each list (JSON at blob level: all layers).")
@_output_options
@click.pass_obj
def dedup_command(session: Session, /, root: str, level: str, **arguments: Any) -> None:
    """Say what is shared on ROOT, or could be.

    At the levels of files and chunks every layer is decompressed once; what is in it is remembered in the state
    directory, so that the next run reads new layers only.
    """
    started = time.time()
    form = _form_of(arguments)
    progress = choose_progress(quiet=arguments["quiet"])
    top = arguments["top"]
    if level == "blob":
        from regstore.report.sharing import measure_sharing

        registry = registries.open_registry(root, arguments["jobs"] or 16)
        sharing = measure_sharing(registry, jobs=arguments["jobs"] or 16, progress=progress, cancel=session.cancel)
        findings = sharing.findings
        fields = sharing.to_json(top if form in ("json", "csv") else top or 20)
    else:
        from regstore.report.dedup import contents_to_json, measure_contents

        jobs = arguments["jobs"] or os.cpu_count() or 1
        registry = registries.open_registry(root)
        contents = measure_contents(
            registry, level=level, jobs=jobs, top=top or 20, progress=progress, cancel=session.cancel
        )
        findings = contents.findings
        fields = contents_to_json(contents, level)
    progress.finish()
    code = 0 if is_clean(findings) else 1
    document = make_document("report dedup", registry.location, started, code, findings, **fields)
    lines: Sequence[str]
    match form:
        case "json":
            lines = [json.dumps(document, indent=2), "\n"]
        case "csv":
            lines = csv_lines(report_tables.DEDUP_COLUMNS[level], document["layers" if level == "blob" else "top"])
        case "prom":
            samples = exposition.dedup_samples(registry.location, level, document["totals"])
            lines = [exposition.render_exposition([*samples, *exposition.finding_samples(registry.location, findings)])]
        case "html":
            from regstore.report.page import render_dedup_page

            lines = [render_dedup_page(document)]
        case _ if arguments["plain"]:
            lines = report_tables.plain_dedup(document)
        case _:
            lines = report_tables.dedup_table(document)
    _finish(lines, arguments, form, findings, code)


def _finish(
    lines: Sequence[str], arguments: dict[str, Any], form: str, findings: Sequence[Finding], code: int
) -> NoReturn:
    is_for_people = form == "table" and not arguments["plain"] and not arguments["out"]
    is_silent = arguments["quiet"] and is_for_people and code == 0
    if not is_silent:
        emit(lines, arguments["out"])
    if is_for_people and not is_silent:
        show_findings(findings)
    elif code and (form != "json" or arguments["out"]):
        show_findings([found for found in findings if not is_clean([found])], err=True)
    raise click.exceptions.Exit(code)
