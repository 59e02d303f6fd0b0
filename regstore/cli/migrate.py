"""`regstore migrate`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from regstore.cli.completing import complete_repository
from regstore.cli.lazily import Lazily
from regstore.cli.listing import ListingGroup
from regstore.cli.main import EXIT_STATUS, Session
from regstore.cli.migrate_output import (
    plan_json,
    run_json,
    show_features,
    show_plan,
    show_run,
    show_verification,
    verification_json,
    warn_of_refusal,
)
from regstore.cli.named import REGISTRY_END
from regstore.cli.output import mention_dead, show_image_findings, show_json
from regstore.cli.parameters import BANDWIDTH, DELETE_LIMIT, SIZE, parse_attributes, safety_option
from regstore.cli.progress import choose_progress
from regstore.durations import parse_duration
from regstore.errors import UsageError
from regstore.findings import is_clean
from regstore.outfile import write_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from regstore import backup, migrate
    from regstore import registry as registries
    from regstore.registry import Registry
    from regstore.transfer import ImageFinding
else:
    migrate = Lazily("regstore.migrate")
    registries = Lazily("regstore.registry")
    backup = Lazily("regstore.backup")

F = TypeVar("F", bound="Callable[..., Any]")

_SELECTION = [
    click.option(
        "--repository",
        "repositories",
        multiple=True,
        metavar="GLOB",
        help="Only these repositories (* crosses /).",
        shell_complete=complete_repository,
    ),
    click.option("--tag", "tags", multiple=True, metavar="GLOB", help="Only these tags, with what they need."),
    click.option("--since", metavar="TIME", help="Only tags pushed since then: 7d, or 2026-11-20 03:00 in local time."),
    click.option(
        "--all", "takes_all", is_flag=True, help="Unreferenced data, uploads and half-written files go along too."
    ),
]
_COPYING = [
    safety_option("--mirror", is_flag=True, help="Remove links at DST that SRC no longer has; data stay for gc."),
    safety_option(
        "--max-delete",
        type=DELETE_LIMIT,
        default="50%",
        show_default=True,
        metavar="P%",
        help="With --mirror: refuse when more of DST's tags would go; `none` for no limit.",
    ),
    click.option(
        "--bandwidth",
        type=BANDWIDTH,
        metavar="SIZE",
        help="No more bytes a second than that (50MiB), or by the clock: '08:00,10MiB 20:00,off'.",
    ),
]
_PART_BYTES = (5 * 1024**2, 5 * 1024**3)
"""Of S3: docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html."""
_JOBS = click.option("--jobs", type=click.IntRange(1, 256), help="Blobs at once (default: what suits the storage).")
_OUTPUT = [
    click.option("--json", "as_json", is_flag=True, help="Print one JSON document."),
    click.option("-q", "--quiet", is_flag=True, help="Print nothing when all is well."),
]


def _options(*options: Callable[[F], F]) -> Callable[[F], F]:
    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


@click.group(
    "migrate",
    cls=ListingGroup,
    epilog=f"""\b
EXAMPLES
  regstore migrate plan /var/lib/registry s3://bucket/registry
  regstore migrate run /var/lib/registry s3://bucket/registry          (as often as you like, while it serves)
  regstore migrate run --cut-over /var/lib/registry s3://bucket/registry
  regstore migrate verify --readback /var/lib/registry s3://bucket/registry

{EXIT_STATUS}""",
)
def command() -> None:
    """Move a registry to another disk, into a bucket, out of one, or from bucket to bucket.

    SRC is only read and goes on serving; every run of `run` is the delta to the one before. Then stop the registry or
    make it read-only, and run once more with --cut-over.
    """


@command.command(
    "plan",
    epilog=f"""\b
EXAMPLES
  regstore migrate plan /var/lib/registry /mnt/new/registry
  regstore migrate plan --out move.plan /etc/docker/registry/config.yml 's3://bucket/registry?region=eu-central-1'

{EXIT_STATUS}""",
)
@click.argument("src", type=REGISTRY_END)
@click.argument("dst", type=REGISTRY_END)
@_options(
    *_SELECTION,
    *_COPYING,
    _JOBS,
    click.option("--out", metavar="FILE", help="Write the plan, one line for each blob and tag."),
    *_OUTPUT,
)
@click.pass_obj
def plan_command(session: Session, /, src: str, dst: str, **arguments: Any) -> NoReturn:
    """Look at both ends and say what a run would copy, and how long that will take. Changes nothing.

    For the estimate some files or objects are written at DST and removed again.
    """
    started = time.time()
    as_json, quiet, out = arguments["as_json"], arguments["quiet"], arguments["out"]
    source, target, options = _open(src, dst, arguments, is_making=False)
    progress = choose_progress(quiet=quiet or as_json)
    try:
        plan = migrate.Migration(source, target, options, progress=progress, cancel=session.cancel).plan()
    finally:
        progress.finish()
    if out:
        migrate.write_plan(plan, out)
    code = _code(plan.findings)
    show_features(plan.features)
    warn_of_refusal(plan.copy_refusal)
    if as_json:
        show_json("migrate plan", plan.source, started, code, plan.findings, **plan_json(plan))
    else:
        if not quiet:
            show_plan(plan)
            if out:
                click.echo(f"\nwritten to {out}")
        _show_findings(plan.findings, code, quiet=quiet)
    raise click.exceptions.Exit(code)


@command.command(
    "run",
    epilog=f"""\b
EXAMPLES
  regstore migrate run /var/lib/registry /mnt/new/registry
  regstore migrate run --bandwidth '08:00,10MiB 20:00,off' /var/lib/registry s3://bucket/registry
  regstore migrate run --mirror -q /var/lib/registry s3://bucket/registry                 (nightly, from cron)
  regstore migrate run --cut-over --registry-url http://127.0.0.1:5000 /var/lib/registry s3://bucket/registry

{EXIT_STATUS}""",
)
@click.argument("src", type=REGISTRY_END)
@click.argument("dst", type=REGISTRY_END)
@_options(
    *_SELECTION,
    *_COPYING,
    _JOBS,
    click.option("--readback", is_flag=True, help="Read what was written again, and hash it."),
    click.option(
        "--multipart-threshold",
        type=SIZE,
        metavar="SIZE",
        help="Larger blobs go into a bucket in parts (default: 64MiB).",
    ),
    safety_option("--cut-over", is_flag=True, help="SRC takes no more pushes: the last delta, proof, configuration."),
    safety_option(
        "--registry-url",
        "registry_urls",
        multiple=True,
        metavar="URL",
        help="With --cut-over: a replica that must be stopped or, which spares reading SRC twice, read-only.",
    ),
    click.option("--owner", metavar="UID:GID", help="Owner of what is written (default: that of DST)."),
    click.option("--mode", metavar="MODE", help="Mode of directories, such as 0755; files get it without x."),
    *_OUTPUT,
)
@click.pass_obj
def run_command(session: Session, /, src: str, dst: str, **arguments: Any) -> NoReturn:
    """Copy to DST what it does not have, while the registry on SRC serves; run it again for the delta.

    Data are hashed on the way, and tags are written last, so that a registry on DST serves only whole images at every
    moment. Tags deleted at SRC are reported, and removed only with --mirror. What is not whole at SRC is named and left
    out, and the command ends with 1. One that died goes on when it is run again.

    --cut-over ends with 3 (not-quiet) while SRC still changes. Else it compares both ends and prints the new registry's
    configuration.
    """
    started = time.time()
    as_json, quiet = arguments["as_json"], arguments["quiet"]
    if arguments["registry_urls"] and not arguments["cut_over"]:
        raise UsageError("--registry-url needs --cut-over")
    source, target, options = _open(src, dst, arguments, is_making=True)
    job = session.begin_job("migrate", source.location)
    progress = choose_progress(quiet=quiet or as_json)
    cut: migrate.CutOver | None = None
    try:
        if arguments["cut_over"]:
            urls = arguments["registry_urls"]
            cut = migrate.cut_over(source, target, options, urls, progress=progress, cancel=session.cancel)
            results, findings = cut.runs, cut.findings
        else:
            result = migrate.Migration(source, target, options, progress=progress, cancel=session.cancel).run()
            results, findings = [result], result.findings
    finally:
        progress.finish()
    job.findings = findings
    code = _code(findings)
    configuration = migrate.describe_handover(source, target) if cut else ""
    show_features(results[0].plan.features)
    warn_of_refusal(next((one.copy_refusal for one in results if one.copy_refusal), ""))
    mention_dead(results[0].dead_holder, quiet=quiet)
    if as_json:
        fields = run_json(results)
        if cut:
            fields |= {"verification": verification_json(cut.verification), "configuration": configuration}
        show_json("migrate run", source.location, started, code, findings, **fields)
    else:
        if not quiet:
            show_run(results)
            if cut:
                show_verification(cut.verification)
        _show_findings(findings, code, quiet=quiet)
        if cut and not quiet:
            click.echo(f"\n{configuration}", nl=False)
    raise click.exceptions.Exit(code)


@command.command(
    "verify",
    epilog=f"""\b
EXAMPLES
  regstore migrate verify /var/lib/registry /mnt/new/registry
  regstore migrate verify --readback --json /var/lib/registry s3://bucket/registry > migration-report.json
  regstore migrate verify --combined - /var/lib/registry /mnt/new/registry | grep -v '^='

{EXIT_STATUS}""",
)
@click.argument("src", type=REGISTRY_END)
@click.argument("dst", type=REGISTRY_END)
@_options(
    *_SELECTION,
    _JOBS,
    click.option("--readback", is_flag=True, help="Read all data at DST, and hash them."),
    click.option(
        "--combined",
        metavar="FILE",
        help="A line an item: = at both ends, + at SRC only, - at DST only, * not alike, ! not whole (FILE -: stdout).",
    ),
    *_OUTPUT,
)
@click.pass_obj
def verify_command(session: Session, /, src: str, dst: str, **arguments: Any) -> NoReturn:
    """Compare SRC and DST both ways: what each tag means, manifests, layers, and data with their sizes.

    Both are read anew; nothing that former runs remember is believed. The JSON document is a report that can be filed.
    """
    started = time.time()
    as_json, quiet, combined = arguments["as_json"], arguments["quiet"], arguments["combined"]
    if combined == "-" and as_json:
        raise UsageError("--combined - and --json both write to stdout", hint="name a file")
    selection = _selection(arguments)
    jobs = arguments["jobs"]
    source, target = registries.open_registry(src, jobs or 16), registries.open_registry(dst, jobs or 16)
    progress = choose_progress(quiet=quiet or as_json)
    verifier = migrate.Verifier(
        source,
        target,
        selection,
        jobs=jobs,
        reads_back=arguments["readback"],
        progress=progress,
        cancel=session.cancel,
    )
    try:
        _write_items(verifier.iter_items(), combined)
    finally:
        progress.finish()
    result = verifier.result
    code = _code(result.findings)
    if as_json:
        fields = {"target": target.location, **verification_json(result)}
        show_json("migrate verify", source.location, started, code, result.findings, **fields)
    else:
        if not quiet and combined != "-":
            show_verification(result)
        _show_findings(result.findings, code, quiet=quiet, err=combined == "-")
    raise click.exceptions.Exit(code)


def _write_items(items: Iterator[migrate.Compared], path: str | None) -> None:
    if path is None:
        for _ in items:
            pass
        return
    lines = (f"{item.mark} {item.kind} {item.name}\n" for item in items)
    if path == "-":
        for line in lines:
            click.echo(line, nl=False)
    else:
        write_lines(path, lines, "comparison")


def _open(
    src: str, dst: str, arguments: dict[str, Any], *, is_making: bool
) -> tuple[Registry, Registry, migrate.MigrateOptions]:
    percent, size = arguments["max_delete"]
    if size is not None:
        raise UsageError("--max-delete is a share of the target's tags here", hint="write it as 50%, or none")
    if arguments["mirror"] and arguments["since"]:
        raise UsageError("--mirror and --since do not go together: a tag that was not pushed since is not gone")
    jobs = arguments["jobs"]
    threshold = arguments.get("multipart_threshold")
    if threshold is not None and not _PART_BYTES[0] <= threshold <= _PART_BYTES[1]:
        raise UsageError("--multipart-threshold is from 5MiB to 5GiB: S3 takes no smaller parts and no larger ones")
    options = migrate.MigrateOptions(
        _selection(arguments),
        is_mirror=arguments["mirror"],
        max_delete_percent=percent,
        jobs=jobs,
        bandwidth=arguments["bandwidth"],
        reads_back=arguments.get("readback", False),
        attributes=parse_attributes(arguments.get("owner"), arguments.get("mode")),
    )
    target = registries.open_target(dst, jobs or 16, is_making=is_making, multipart_threshold=threshold)
    return registries.open_registry(src, jobs or 16), target, options


def _selection(arguments: dict[str, Any]) -> migrate.Selection:
    return migrate.Selection(
        arguments["repositories"], arguments["tags"], _parse_since(arguments["since"]), arguments["takes_all"]
    )


def _parse_since(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return time.time() - parse_duration(text)
    except ValueError:
        pass
    try:
        return backup.parse_time(text)
    except ValueError as error:
        raise UsageError(f"{error}; or as an age, 7d") from error


def _code(findings: list[ImageFinding]) -> int:
    return 0 if is_clean(findings) else 1


def _show_findings(findings: list[ImageFinding], code: int, *, quiet: bool, err: bool = False) -> None:
    if not quiet or code:
        show_image_findings(findings, err=quiet or err)
