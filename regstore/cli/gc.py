"""`regstore gc`."""

from __future__ import annotations

import functools
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, NoReturn

import click

from regstore.cli.completing import complete_repository
from regstore.cli.lazily import Lazily
from regstore.cli.listing import ListingGroup
from regstore.cli.main import EXIT_STATUS, Session
from regstore.cli.named import REGISTRY
from regstore.cli.output import human_time, json_time, mention_dead, render_table, show_findings, show_json
from regstore.cli.parameters import DELETE_LIMIT, DURATION, F, safety_option
from regstore.cli.progress import choose_progress
from regstore.findings import is_clean
from regstore.wording import human_bytes, plain

if TYPE_CHECKING:
    from collections.abc import Callable

    from regstore import gc
    from regstore import registry as registries
    from regstore.findings import Finding
else:
    gc = Lazily("regstore.gc")
    registries = Lazily("regstore.registry")


_SELECTION = [
    safety_option(
        "--offline",
        is_flag=True,
        help="The registry is stopped or read-only: links, layer and manifest data go in one run. With --registry-url "
        "this is proven first.",
    ),
    safety_option("--delete-untagged", is_flag=True, help="Remove manifests that no tag needs."),
    safety_option(
        "--untagged-older-than",
        type=DURATION,
        metavar="AGE",
        help="Remove untagged manifests whose link is at least that old. Implies --delete-untagged.",
    ),
    safety_option(
        "--grace",
        type=DURATION,
        default="24h",
        show_default=True,
        metavar="AGE",
        help="Nothing younger goes. Never shorter than the longest push beside a running registry.",
    ),
    safety_option(
        "--registry-url",
        "registry_urls",
        multiple=True,
        metavar="URL",
        help="The running registry, once per replica: links are removed through its API, so that its cache forgets.",
    ),
    safety_option(
        "--max-delete",
        type=DELETE_LIMIT,
        default="50%",
        show_default=True,
        metavar="LIMIT",
        help="Refuse to remove more than that share of all blob data, or that size (20GiB), or none for no limit.",
    ),
    safety_option(
        "--upload-age",
        type=DURATION,
        default="7d",
        show_default=True,
        metavar="AGE",
        help="Uploads and multipart uploads at least that old are abandoned.",
    ),
    safety_option(
        "--empty-repositories",
        is_flag=True,
        help="Remove repositories without tag, manifest, layer and upload (offline, on a file system).",
    ),
    safety_option(
        "--keep-signature-history", is_flag=True, help="Keep untagged signatures that a newer signature replaced."
    ),
    safety_option(
        "--delete-orphan-signatures", is_flag=True, help="Remove signature and referrers tags whose subject is gone."
    ),
    safety_option(
        "--no-quarantine",
        is_flag=True,
        help="Delete at the end of the run instead of keeping what was removed; it cannot be undone.",
    ),
    safety_option(
        "--quarantine-retention",
        type=DURATION,
        default="7d",
        show_default=True,
        metavar="AGE",
        help="Delete what runs that long ago quarantined, unless it is needed again.",
    ),
    safety_option(
        "--repository",
        metavar="GLOB",
        shell_complete=complete_repository,
        help="Only repositories that match lose anything (* crosses /); all are marked.",
    ),
    click.option(
        "--jobs",
        type=click.IntRange(1, 256),
        default=16,
        show_default=True,
        help="Requests at once on an object store.",
    ),
]
_OUTPUT = [
    click.option("--json", "as_json", is_flag=True, help="Print one JSON document."),
    click.option("-q", "--quiet", is_flag=True, help="Print nothing when all is well."),
]


def _options(*groups: list[Callable[[F], F]]) -> Callable[[F], F]:
    def decorate(function: F) -> F:
        for option in reversed([option for group in groups for option in group]):
            function = option(function)
        return function

    return decorate


def _with_selection(function: F) -> F:
    """Gather the selection options into `Options`."""

    @functools.wraps(function)
    def wrapper(*args: Any, max_delete: tuple[float | None, int | None], **kwargs: Any) -> Any:
        names = gc.Options.__slots__
        selected = {name: kwargs.pop(name) for name in names if name in kwargs}
        percent, size = max_delete
        options = gc.Options(**selected, max_delete_percent=percent, max_delete_bytes=size)
        return function(*args, options=options, **kwargs)

    return wrapper  # type: ignore[return-value]


@click.group(
    "gc",
    cls=ListingGroup,
    epilog=f"""\b
EXAMPLES
  regstore gc plan /var/lib/registry                                        looks, changes nothing
  regstore gc run --registry-url http://127.0.0.1:5000 /var/lib/registry    beside the running registry
  regstore gc status /var/lib/registry                                      what was removed, what waits
  regstore gc undo /var/lib/registry                                        takes the last run back

{EXIT_STATUS}""",
)
def command() -> None:
    """Collect garbage: what no tag, manifest or young upload needs.

    Read docs/what-is-live.md for what is kept, docs/online-safety.md for why a collection beside a running registry
    is safe.
    """


@command.command(
    "plan",
    epilog=f"""\b
EXAMPLES
  regstore gc plan /var/lib/registry
  regstore gc plan --offline --grace 0s --out tonight.plan /etc/docker/registry/config.yml

{EXIT_STATUS}""",
)
@click.argument("root", type=REGISTRY)
@_options(_SELECTION, [click.option("--out", metavar="FILE", help="Write the plan, one action a line.")], _OUTPUT)
@_with_selection
@click.pass_obj
def plan_command(session: Session, root: str, options: gc.Options, out: str | None, as_json: bool, quiet: bool) -> None:
    """Say what a collection of ROOT would remove, and change nothing.

    ROOT is the registry's directory, an s3:// URL, or its config.yml.
    """
    started = time.time()
    registry = registries.open_registry(root, options.jobs)
    progress = choose_progress(quiet=quiet or as_json)
    plan = gc.plan_collection(registry, options, progress=progress, cancel=session.cancel)
    progress.finish()
    if out:
        gc.write_plan(plan, out)
    code = _code(plan.findings)
    if as_json:
        show_json(
            "gc plan",
            plan.location,
            started,
            code,
            plan.findings,
            removed=_removed_json(_count(plan.removals)),
            freed_bytes=0,
            condemned_count=sum(action.verb is gc.Verb.CONDEMN for action in plan.actions),
            refusals=[refusal._asdict() for refusal in plan.refusals],
            summary=_summary_json(plan.summary),
        )
    elif not quiet:
        _show_plan(plan)
        show_findings(plan.findings)
        _show_refusals(plan)
        if out:
            click.echo(f"\nwritten to {out}; apply it with: regstore gc apply {out}")
    elif code:
        show_findings(plan.findings, err=True)
    _exit(code)


@command.command(
    "run",
    epilog=f"""\b
EXAMPLES
  regstore gc run --registry-url http://127.0.0.1:5000 /var/lib/registry     (nightly, from cron: add -q)
  regstore gc run --offline --delete-untagged /etc/docker/registry/config.yml

{EXIT_STATUS}""",
)
@click.argument("root", type=REGISTRY)
@_options(_SELECTION, _OUTPUT)
@_with_selection
@click.pass_obj
def run_command(session: Session, root: str, options: gc.Options, as_json: bool, quiet: bool) -> None:
    """Plan and apply under one lock.

    Beside a running registry each run condemns: it unlinks what is unreferenced; and collects the data that former runs
    condemned longer than the grace period ago. What is removed lies in the quarantine until its retention is over.
    """
    started = time.time()
    registry = registries.open_registry(root, options.jobs)
    job = session.begin_job("gc", registry.location)
    progress = choose_progress(quiet=quiet or as_json)
    result = gc.collect(registry, options, progress=progress, cancel=session.cancel)
    progress.finish()
    job.findings = result.findings
    deleted, _ = result.removed.get(gc.Kind.BLOB, (0, 0))
    job.numbers = {"regstore_gc_deleted_blobs": deleted, "regstore_gc_freed_bytes": result.freed_bytes}
    _show_result("gc run", registry.location, started, result, root, as_json=as_json, quiet=quiet)


@command.command(
    "apply",
    epilog=f"""\b
EXAMPLES
  regstore gc plan --offline --out tonight.plan /var/lib/registry
  regstore gc apply tonight.plan

{EXIT_STATUS}""",
)
@click.argument("plan_file", metavar="PLAN")
@_options(_OUTPUT)
@click.pass_obj
def apply_command(session: Session, plan_file: str, as_json: bool, quiet: bool) -> None:
    """Apply a plan made with `gc plan --out`. A step that is no longer right is skipped; twice changes nothing."""
    started = time.time()
    plan = gc.read_plan(plan_file)
    root = plan.config or plan.location
    registry = registries.open_registry(root, plan.options.jobs)
    progress = choose_progress(quiet=quiet or as_json)
    result = gc.apply_plan(registry, plan, progress=progress, cancel=session.cancel)
    progress.finish()
    _show_result("gc apply", registry.location, started, result, root, as_json=as_json, quiet=quiet)


@command.command(
    "status",
    epilog=f"""\b
EXAMPLES
  regstore gc status /var/lib/registry

{EXIT_STATUS}""",
)
@click.argument("root", type=REGISTRY)
@_options(_OUTPUT[:1])
def status_command(root: str, as_json: bool) -> None:
    """Show former runs, what the quarantine holds, and what waits to be collected."""
    started = time.time()
    status = gc.read_status(registries.open_registry(root))
    if as_json:
        show_json(
            "gc status",
            status.location,
            started,
            0,
            [],
            runs=[
                {
                    "id": run.id,
                    "started_at": json_time(run.started_at),
                    "state": run.state,
                    "item_count": run.item_count,
                    "blob_count": run.blob_count,
                    "blob_bytes": run.blob_bytes,
                }
                for run in status.runs
            ],
            quarantined_bytes=status.quarantined_bytes,
            condemned_count=status.condemned_count,
            locked_by=str(status.holder) if status.holder else None,
        )
        return
    click.echo(f"registry     {plain(status.location)}")
    click.echo(f"lock         {status.holder or 'free'}")
    click.echo(f"quarantine   {human_bytes(status.quarantined_bytes)}")
    since = f", the oldest since {human_time(status.oldest_condemned_at)}" if status.oldest_condemned_at else ""
    click.echo(f"condemned    {status.condemned_count} blobs wait for a later run{since}")
    if not status.runs:
        click.echo("runs         none")
        return
    rows = [["run", "started", "state", "items", "blobs", "bytes"]]
    for run in status.runs:
        size = human_bytes(run.blob_bytes)
        rows.append([run.id, human_time(run.started_at), run.state, str(run.item_count), str(run.blob_count), size])
    click.echo("\n" + render_table(rows))


@command.command(
    "undo",
    epilog=f"""\b
EXAMPLES
  regstore gc undo /var/lib/registry
  regstore gc undo /var/lib/registry 20261125T010203Z-0a1b2c

{EXIT_STATUS}""",
)
@click.argument("root", type=REGISTRY)
@click.argument("run_id", required=False, default="", metavar="[RUN]")
@_options(_OUTPUT)
@click.pass_obj
def undo_command(session: Session, root: str, run_id: str, as_json: bool, quiet: bool) -> None:
    """Take a run back: the newest that is not undone yet, or RUN. It works beside a running registry."""
    started = time.time()
    registry = registries.open_registry(root)
    progress = choose_progress(quiet=quiet or as_json)
    result = gc.undo(registry, run_id, progress=progress, cancel=session.cancel)
    progress.finish()
    mention_dead(result.dead_holder, quiet=quiet)
    code = _code(result.findings)
    if as_json:
        show_json(
            "gc undo",
            registry.location,
            started,
            code,
            result.findings,
            run_id=result.run_id or None,
            restored_count=result.restored_count,
            restored_bytes=result.restored_bytes,
            kept_count=result.kept_count,
            lost_count=result.lost_count,
        )
    elif not quiet:
        if not result.run_id:
            click.echo("nothing to undo: no run is left that was not undone or purged")
        else:
            click.echo(f"run {result.run_id} is undone: {result.restored_count} items are back")
            if result.kept_count:
                click.echo(f"  {result.kept_count} had never left, or were there again")
            if result.lost_count:
                click.echo(f"  {result.lost_count} aborted multipart uploads cannot come back")
        show_findings(result.findings)
    elif code:
        show_findings(result.findings, err=True)
    _exit(code)


@command.command(
    "purge",
    epilog=f"""\b
EXAMPLES
  regstore gc purge /var/lib/registry
  regstore gc purge --quarantine-retention 0s /var/lib/registry     (free the space now)

{EXIT_STATUS}""",
)
@click.argument("root", type=REGISTRY)
@safety_option("--quarantine-retention", "retention", type=DURATION, default="7d", show_default=True, metavar="AGE")
@_options(_OUTPUT)
@click.pass_obj
def purge_command(session: Session, root: str, retention: float, as_json: bool, quiet: bool) -> None:
    """Delete what was quarantined long enough ago, after putting back what is needed again."""
    started = time.time()
    registry = registries.open_registry(root)
    progress = choose_progress(quiet=quiet or as_json)
    result = gc.purge(registry, retention, progress=progress, cancel=session.cancel)
    progress.finish()
    mention_dead(result.dead_holder, quiet=quiet)
    code = _code(result.findings)
    if as_json:
        show_json(
            "gc purge",
            registry.location,
            started,
            code,
            result.findings,
            runs=result.run_ids,
            deleted_count=result.deleted_count,
            freed_bytes=result.freed_bytes,
            restored_count=result.restored_count,
        )
    elif not quiet:
        if result.run_ids:
            freed = human_bytes(result.freed_bytes)
            click.echo(f"purged {len(result.run_ids)} runs: {result.deleted_count} items, {freed} freed")
        else:
            click.echo("nothing to purge: no run is old enough")
        show_findings(result.findings)
    elif code:
        show_findings(result.findings, err=True)
    _exit(code)


def _show_plan(plan: gc.Plan) -> None:
    summary = plan.summary
    click.echo(f"registry       {plain(plan.location)}")
    counts_text = f"{summary.repository_count}, with {summary.tag_count} tags and {summary.revision_count} manifests"
    click.echo(f"repositories   {counts_text}")
    rows = [
        ["blobs", "count", "bytes"],
        ["live", str(summary.live_count), human_bytes(summary.live_bytes)],
        ["in grace", str(summary.grace_count), human_bytes(summary.grace_bytes)],
        ["unreferenced", str(summary.unreferenced_count), human_bytes(summary.unreferenced_bytes)],
    ]
    click.echo("\n" + render_table(rows))
    counts = _count(plan.removals)
    condemned = sum(action.verb is gc.Verb.CONDEMN for action in plan.actions)
    restored = sum(action.verb is gc.Verb.RESTORE for action in plan.actions)
    if counts:
        rows = [["would be removed", "count", "bytes"]]
        rows += [[kind.value, str(count), human_bytes(size)] for kind, (count, size) in counts.items()]
        click.echo("\n" + render_table(rows))
    if condemned:
        click.echo(f"\n{condemned} blobs without links would be condemned, for a later run to collect")
    if restored:
        click.echo(f"\n{restored} items that an earlier run removed are needed again and would be put back")
    if not plan.actions:
        click.echo("\nnothing to do")
    if summary.largest:
        rows = [["largest reclaimable", "tags", "bytes"]]
        rows += [[plain(r.name), str(r.tag_count), human_bytes(r.reclaimable_bytes)] for r in summary.largest]
        click.echo("\n" + render_table(rows))


def _show_refusals(plan: gc.Plan) -> None:
    for refusal in plan.refusals:
        click.echo(f"\ngc run would refuse [{refusal.code}]: {refusal.message}\n  -> {refusal.hint}")


def _show_result(
    name: str, location: str, started: float, result: gc.Result, root: str, *, as_json: bool, quiet: bool
) -> NoReturn:
    code = _code(result.findings)
    mention_dead(result.dead_holder, quiet=quiet)
    if as_json:
        show_json(
            name,
            location,
            started,
            code,
            result.findings,
            run_id=result.run_id or None,
            removed=_removed_json(result.removed),
            freed_bytes=result.freed_bytes,
            purged_bytes=result.purged_bytes,
            condemned_count=result.condemned_count,
            restored_count=result.restored_count,
            skipped_count=result.skipped_count,
            summary=_summary_json(result.plan.summary),
        )
    elif not quiet:
        _show_outcome(result, root)
        show_findings(result.findings)
    elif code:
        show_findings(result.findings, err=True)
    _exit(code)


def _show_outcome(result: gc.Result, root: str) -> None:
    if result.removed:
        rows = [["removed", "count", "bytes"]]
        rows += [[kind.value, str(count), human_bytes(size)] for kind, (count, size) in result.removed.items()]
        click.echo(render_table(rows))
    if result.condemned_count:
        click.echo(f"condemned {result.condemned_count} blobs without links; a later run collects them")
    if result.restored_count:
        click.echo(f"put back {result.restored_count} items that are needed again")
    if result.skipped_count:
        click.echo(f"skipped {result.skipped_count} steps that were no longer right")
    if result.purged_bytes:
        click.echo(f"deleted {human_bytes(result.purged_bytes)} from the quarantine")
    if not (result.removed or result.condemned_count or result.restored_count or result.skipped_count):
        click.echo("nothing to do")
    if (result.removed or result.condemned_count) and not result.plan.options.no_quarantine:
        click.echo(f"\nrun {result.run_id}: take it back with: regstore gc undo {root} {result.run_id}")


def _count(actions: list[gc.Action]) -> dict[gc.Kind, tuple[int, int]]:
    counts: Counter[gc.Kind] = Counter()
    sizes: Counter[gc.Kind] = Counter()
    for action in actions:
        counts[action.kind] += 1
        sizes[action.kind] += action.size
    return {kind: (counts[kind], sizes[kind]) for kind in sorted(counts)}


def _removed_json(removed: dict[gc.Kind, tuple[int, int]]) -> list[dict[str, Any]]:
    return [{"kind": kind.value, "count": count, "bytes": size} for kind, (count, size) in removed.items()]


def _summary_json(summary: gc.Summary) -> dict[str, Any]:
    return {
        "repository_count": summary.repository_count,
        "tag_count": summary.tag_count,
        "revision_count": summary.revision_count,
        "blob_count": summary.blob_count,
        "stored_bytes": summary.stored_bytes,
        "live_count": summary.live_count,
        "live_bytes": summary.live_bytes,
        "grace_count": summary.grace_count,
        "grace_bytes": summary.grace_bytes,
        "unreferenced_count": summary.unreferenced_count,
        "unreferenced_bytes": summary.unreferenced_bytes,
        "largest_reclaimable": [
            {"repository": entry.name, "reclaimable_bytes": entry.reclaimable_bytes} for entry in summary.largest
        ],
    }


def _code(findings: list[Finding]) -> int:
    return 0 if is_clean(findings) else 1


def _exit(code: int) -> NoReturn:
    raise click.exceptions.Exit(code)
