"""`regstore fsck`."""

from __future__ import annotations

import json
import re
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, NoReturn

import click

from regstore.cli import messages
from regstore.cli.lazily import Lazily
from regstore.cli.main import EXIT_STATUS, Session
from regstore.cli.named import REGISTRY
from regstore.cli.output import mention_dead, show_json
from regstore.cli.parameters import DURATION, SIZE, safety_option
from regstore.cli.progress import choose_progress
from regstore.digest import format_digest
from regstore.errors import RefusedError, UsageError
from regstore.findings import Severity, is_clean
from regstore.outfile import write_lines
from regstore.wording import human_bytes, plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from regstore import fsck
    from regstore import registry as registries
    from regstore.registry import Registry
else:
    fsck = Lazily("regstore.fsck")
    registries = Lazily("regstore.registry")

_COLOURS = {Severity.WARNING: "yellow", Severity.ERROR: "red", Severity.CRITICAL: "red"}
_SHOWN_COUNT = 20
_SHOWN_IMAGES = 5
_OF_DATA = ("blob-corrupt", "blob-missing", "blob-size", "manifest-corrupt", "manifest-missing", "manifest-unknown")
_NEED_DATA = ("subset", "sample", "older_than", "time_budget", "trust_stored_checksums")
_NEED_REPAIR = ("dry_run", "yes", "accept_proposals", "prune", "sources")


class Subset(click.ParamType[tuple[int, int]]):
    """`N/M`: part N of M."""

    name = "subset"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Parse."""
        if isinstance(value, tuple):
            return value
        match = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", value)
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            self.fail(f"{value!r} is not a part: write it as 1/7, the first of seven", param, ctx)
        return int(match[1]), int(match[2])


class Share(click.ParamType[float]):
    """A percentage; as a fraction."""

    name = "share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Parse."""
        if isinstance(value, float):
            return value
        match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)%", value)
        if match is None or not 0 < float(match[1]) <= 100:
            self.fail(f"{value!r} is not a share: write it as 5%", param, ctx)
        return float(match[1]) / 100


class _Fsck(click.Command):
    """A command whose first argument may be the name of another one."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Hand over to `undo`; a directory of that name is given as ./undo."""
        if args[:1] == ["undo"]:
            return undo_command.make_context(f"{info_name} undo", args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)


@click.command(
    "fsck",
    cls=_Fsck,
    epilog=f"""\b
EXAMPLES
  regstore fsck /var/lib/registry
  regstore fsck --data --older-than 30d --time-budget 2h --idle -q /var/lib/registry      (nightly, from cron)
  regstore fsck --repair --dry-run --from /backup/registry /var/lib/registry
  regstore fsck --repair --yes --from https://mirror.example /var/lib/registry
  regstore fsck undo /var/lib/registry        takes back the last repair

{EXIT_STATUS}""",
)
@click.argument("root", type=REGISTRY)
@click.option("--data", is_flag=True, help="Hash the data of blobs too.")
@click.option("--layers", is_flag=True, help="Decompress layers and compare them with their images' configurations.")
@click.option("--subset", type=Subset(), metavar="N/M", help="With --data: only part N of M of all blobs.")
@click.option("--sample", type=Share(), metavar="SHARE", help="With --data: only that share of them (5%), at random.")
@click.option(
    "--older-than", type=DURATION, metavar="AGE", help="With --data: only blobs not verified for at least that long."
)
@click.option("--time-budget", type=DURATION, metavar="TIME", help="With --data: begin no blob after that time.")
@click.option("--bandwidth", type=SIZE, metavar="SIZE", help="Read no more bytes of blobs a second than that (50MiB).")
@click.option("--idle", is_flag=True, help="Run only when nobody else wants the processor and the disk.")
@click.option(
    "--trust-stored-checksums",
    is_flag=True,
    help="With --data on S3: take the store's own SHA-256 of a whole object instead of reading it.",
)
@click.option(
    "--upload-age", type=DURATION, default="7d", show_default=True, metavar="AGE", help="Older uploads are abandoned."
)
@click.option("--jobs", type=click.IntRange(1, 256), help="Reads at once (default: what suits the storage).")
@safety_option("--repair", is_flag=True, help="Repair what can be repaired.")
@safety_option("--dry-run", is_flag=True, help="With --repair: show what would be done, and change nothing.")
@safety_option("--yes", is_flag=True, help="With --repair: do not ask.")
@safety_option(
    "--from",
    "sources",
    multiple=True,
    metavar="SOURCE",
    help="With --repair: fetch missing and corrupt data from there: another registry's directory, s3:// URL or "
    "config.yml, a store of backups, or a running registry, https://host[/v2/REPOSITORY]. Several are tried in order.",
)
@safety_option(
    "--accept-proposals",
    is_flag=True,
    help="With --repair: also do what the evidence suggests and does not determine.",
)
@safety_option("--prune", is_flag=True, help="With --repair: remove leftovers and dangling links.")
@safety_option(
    "--grace", type=DURATION, default="24h", show_default=True, metavar="AGE", help="--prune removes nothing younger."
)
@click.option(
    "--fail-on",
    type=click.Choice([severity.word for severity in Severity]),
    default="warning",
    show_default=True,
    help="End with 1 when a finding is that bad or worse.",
)
@click.option("--details", metavar="FILE", help="Write every finding, one JSON object a line.")
@click.option(
    "--combined",
    metavar="FILE",
    help="Write a line a blob: = good, ! corrupt, - missing, + unreferenced, * another size.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing when all is well.")
@click.pass_obj
def command(session: Session, /, root: str, **arguments: Any) -> None:
    """Say whether every image of ROOT is whole, and what to do about those that are not.

    ROOT is the registry's directory, an s3:// URL, or its config.yml. The check changes nothing and takes no lock; it
    works beside a running registry. By default it looks at the structure: tags, manifests, links, sizes, owners; no
    data of layers are read.

    --repair shows a plan and asks. What it moves or replaces lies in a quarantine; fsck undo takes it back.
    """
    _check_combinations(arguments)
    _Run(session, root, arguments).run()


@click.command(
    "undo",
    epilog=f"""\b
EXAMPLES
  regstore fsck undo /var/lib/registry

{EXIT_STATUS}""",
)
@click.argument("root", type=REGISTRY)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing when all is well.")
@click.pass_obj
def undo_command(session: Session, root: str, as_json: bool, quiet: bool) -> None:
    """Take back the last repair of ROOT that is not taken back yet.

    Links that the repair wrote are set aside, and what lay there before returns. Fetched data stay, and so does what
    somebody wrote since.
    """
    started = time.time()
    registry = registries.open_registry(root)
    progress = choose_progress(quiet=quiet or as_json)
    result = fsck.undo_repair(registry, progress=progress, cancel=session.cancel)
    progress.finish()
    code = 0 if is_clean(result.findings) else 1
    mention_dead(result.dead_holder, quiet=quiet)
    if as_json:
        show_json(
            "fsck undo",
            registry.location,
            started,
            code,
            result.findings,
            run_id=result.run_id or None,
            restored_count=result.restored_count,
            withdrawn_count=result.withdrawn_count,
            kept_count=result.kept_count,
        )
    elif not quiet:
        if not result.run_id:
            click.echo("nothing to undo")
        else:
            click.echo(f"took back the repair {result.run_id}: {result.restored_count} objects returned,")
            click.echo(f"{result.withdrawn_count} links set aside, {result.kept_count} objects left as they are")
        _show_groups(result.findings)
    elif code:
        _show_groups(result.findings, err=True)
    raise click.exceptions.Exit(code)


def _check_combinations(arguments: dict[str, Any]) -> None:
    for names, needed in ((_NEED_DATA, "data"), (_NEED_REPAIR, "repair")):
        for name in names:
            if arguments[name] not in (None, False, ()) and not arguments[needed]:
                option = "--from" if name == "sources" else f"--{name.replace('_', '-')}"
                raise UsageError(f"{option} needs --{needed}")
    if arguments["bandwidth"] and not (arguments["data"] or arguments["layers"]):
        raise UsageError("--bandwidth needs --data or --layers")


class _Run:
    """One invocation."""

    def __init__(self, session: Session, root: str, arguments: dict[str, Any]) -> None:
        self._started = time.time()
        self._session = session
        self._root = root
        self._arguments = arguments
        self._as_json, self._quiet = arguments["as_json"], arguments["quiet"]
        names = fsck.Options.__slots__
        self._options = fsck.Options(**{name: arguments[name] for name in names if arguments.get(name) is not None})
        self._progress = choose_progress(quiet=self._quiet or self._as_json)
        self._threshold = Severity[arguments["fail_on"].upper()]

    def run(self) -> NoReturn:
        arguments = self._arguments
        if arguments["repair"] and not (arguments["yes"] or arguments["dry_run"] or self._can_ask()):
            raise RefusedError(
                "a repair is not begun without a word: there is no terminal to ask on",
                hint="add --yes, or --dry-run to see what would be done",
                code="not-confirmed",
            )
        registry = registries.open_registry(self._root, self._options.jobs or 16)
        sources = [_open_source(location, registry) for location in arguments["sources"]]
        if arguments["idle"]:
            fsck.be_idle()
        try:
            self._run(registry, sources)
        finally:
            for source in sources:
                source.close()

    def _can_ask(self) -> bool:
        is_json = messages.current_form() is messages.Form.JSON
        return sys.stdin.isatty() and sys.stderr.isatty() and not self._as_json and not is_json

    def _run(self, registry: Registry, sources: list[fsck.Source]) -> NoReturn:
        arguments = self._arguments
        job = self._session.begin_job("fsck", registry.location)
        result = fsck.check_registry(registry, self._options, progress=self._progress, cancel=self._session.cancel)
        self._progress.finish()
        job.findings = result.findings
        if not arguments["repair"]:
            self._report(result, None, None)
        options = fsck.RepairOptions(arguments["accept_proposals"], arguments["prune"], arguments["grace"])
        sources = [fsck.QuarantineSource(registry), *sources]
        plan = fsck.plan_repair(registry, result, options, sources)
        if arguments["dry_run"] or not plan.steps:
            self._report(result, plan, None)
        if not arguments["yes"]:
            self._show_check(result)
            _show_plan(plan, err=True)
            click.confirm(f"\nTake these {len(plan.steps)} steps?", abort=True, err=True)
        repaired = fsck.repair_registry(
            registry,
            result,
            plan,
            options,
            sources,
            check_options=self._options,
            progress=self._progress,
            cancel=self._session.cancel,
        )
        self._progress.finish()
        job.findings = repaired.left.findings
        self._report(repaired.left, repaired.plan, repaired)

    def _report(
        self, result: fsck.CheckResult, plan: fsck.RepairPlan | None, repaired: fsck.RepairResult | None
    ) -> NoReturn:
        if path := self._arguments["details"]:
            write_lines(path, (json.dumps(found.to_json()) + "\n" for found in result.findings), "details")
        if path := self._arguments["combined"]:
            lines = (f"{sign} {format_digest(digest)}\n" for sign, digest in result.iter_signs())
            write_lines(path, lines, "combined list")
        code = 0 if is_clean(result.findings, self._threshold) else 1
        if repaired is not None:
            mention_dead(repaired.dead_holder, quiet=self._quiet)
        if self._as_json:
            show_json(
                "fsck",
                result.location,
                self._started,
                code,
                result.findings,
                summary=result.summary(),
                repair=_repair_json(plan, repaired) if plan else None,
            )
        elif not self._quiet:
            self._show_check(result)
            if plan is not None:
                _show_repair(plan, repaired, self._root)
        elif code:
            bad = [found for found in result.findings if found.severity >= self._threshold]
            _show_groups(bad, err=True)
        raise click.exceptions.Exit(code)

    def _show_check(self, result: fsck.CheckResult) -> None:
        counts = result.counts
        click.echo(f"registry  {plain(result.location)}")
        click.echo(
            f"checked   {counts.repository_count} repositories, {counts.tag_count} tags, "
            f"{counts.revision_count} manifests, {counts.layer_link_count} layer links"
        )
        click.echo(f"blobs     {counts.blob_count} with {human_bytes(counts.stored_bytes)}")
        if result.coverage is not None:
            click.echo(f"verified  {counts.verified_count} with {human_bytes(counts.verified_bytes)} in this run")
            click.echo(f"          of all bytes: {_coverage_text(result.coverage)}")
        _show_groups(result.findings)
        if not result.findings:
            click.echo("\nno findings: every image is whole")


def _open_source(location: str, registry: Registry) -> fsck.Source:
    """Open what `--from` names: a store of backups, or what `fsck.open_source` takes."""
    if not location.lower().startswith(("http:", "https:")):
        from regstore import backup  # a repair from elsewhere need not wait for it

        try:
            return backup.StoreSource(backup.open_store(location))
        except UsageError as error:
            if error.code != "store-missing":
                raise
    return fsck.open_source(location, registry)


def _coverage_text(coverage: fsck.Coverage) -> str:
    """Say what share was verified within which age, as far as an older age has more to tell."""
    total = coverage.total_bytes or 1
    shares = {age: size * 100 // total for age, size in coverage.verified_bytes.items()}
    words: list[str] = []
    for age, share in shares.items():
        words.append(f"{share} % {'ever' if age == 'ever' else f'within {age}'}")
        if share == shares["ever"]:
            break
    return ", ".join(words)


def _show_groups(findings: Sequence[fsck.CheckFinding], *, err: bool = False) -> None:
    """Print findings by severity, the worst first, and the totals."""
    if err and messages.current_form() is messages.Form.JSON:
        messages.tell_findings(findings)
        return
    for severity in sorted(Severity, reverse=True):
        group = [found for found in findings if found.severity is severity]
        if not group:
            continue
        messages.show(f"\n{click.style(severity.word, fg=_COLOURS.get(severity), bold=True)}: {len(group)}", err=err)
        shown = group[:_SHOWN_COUNT]
        for found in shown:
            _show_finding(found, err=err)
        if len(group) > len(shown):
            kinds = Counter(found.id for found in group[_SHOWN_COUNT:])
            rest = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
            messages.show(f"  ... and {rest}: see --details", err=err)
    if totals := Counter(found.severity for found in findings):
        messages.show("\n" + ", ".join(f"{totals[s]} {s.word}" for s in sorted(totals, reverse=True)), err=err)


def _show_finding(found: fsck.CheckFinding, *, err: bool) -> None:
    lines = [f"  {found.id}  {plain(found.subject)}", f"    {plain(found.detail)}"]
    if found.images:
        names = ", ".join(plain(image) for image in found.images[:_SHOWN_IMAGES])
        more = len(found.images) - _SHOWN_IMAGES
        lines.append(f"    hurts {names}" + (f" and {more} more" if more > 0 else ""))
    elif found.id in _OF_DATA:
        lines.append("    hurts no tag")
    if found.severity > Severity.INFO:
        lines.append(f"    -> {found.repair}")
    messages.show("\n".join(lines), err=err, severity=found.severity)


def _show_steps(title: str, steps: Iterable[fsck.Step], *, err: bool = False) -> None:
    steps = list(steps)
    if not steps:
        return
    messages.show(f"\n{title}: {len(steps)}", err=err)
    for step in steps[:_SHOWN_COUNT]:
        messages.show(f"  {step.verb.value}  {plain(step.key)}", err=err)
        messages.show(f"    {plain(step.reason)}", err=err)
    if len(steps) > _SHOWN_COUNT:
        messages.show(f"  ... and {len(steps) - _SHOWN_COUNT} more: see --json", err=err)


def _show_plan(plan: fsck.RepairPlan, *, err: bool = False) -> None:
    _show_steps("would be repaired", plan.steps, err=err)
    _show_steps("proposed, not determined (--accept-proposals)", plan.proposals, err=err)
    if plan.unobtainable:
        messages.show(f"\nno source has: {len(plan.unobtainable)}", err=err)
        for digest in plan.unobtainable[:_SHOWN_COUNT]:
            messages.show(f"  {format_digest(digest)}", err=err)


def _show_repair(plan: fsck.RepairPlan, repaired: fsck.RepairResult | None, root: str) -> None:
    if repaired is None:
        _show_plan(plan)
        if not plan.steps:
            click.echo("\nnothing can be repaired" if plan.proposals or plan.unobtainable else "\nnothing to repair")
        return
    done = ", ".join(f"{count} {_DONE[verb.value]}" for verb, count in sorted(repaired.done.items()) if count)
    click.echo(f"\nrepaired: {done or 'nothing'}; the findings above are those that are left")
    if repaired.fetched_bytes:
        click.echo(f"fetched   {human_bytes(repaired.fetched_bytes)}")
    if repaired.skipped_count:
        click.echo(f"skipped   {repaired.skipped_count} steps that were no longer right, or failed")
    _show_steps("proposed, not determined (--accept-proposals)", plan.proposals)
    if repaired.done[fsck.Verb.QUARANTINE] and any(found.id == "blob-missing" for found in repaired.left.findings):
        click.echo("\nBad data were moved away: push the images named above again, after a restart of the registry if")
        click.echo("it caches blob descriptors (storage.cache), or it goes on saying that it has them.")
    if repaired.run_id:
        click.echo(f"\nrepair {repaired.run_id}: take it back with: regstore fsck undo {root}")


_DONE = {
    "write": "links written",
    "quarantine": "bad blobs moved away",
    "fetch": "blobs fetched",
    "remove": "leftovers and dangling links removed",
}


def _repair_json(plan: fsck.RepairPlan, repaired: fsck.RepairResult | None) -> dict[str, Any]:
    return {
        "run_id": repaired.run_id or None if repaired else None,
        "done": {verb.value: count for verb, count in repaired.done.items() if count} if repaired else None,
        "fetched_bytes": repaired.fetched_bytes if repaired else 0,
        "skipped_count": repaired.skipped_count if repaired else 0,
        "steps": [step.to_json() for step in plan.steps] if repaired is None else [],
        "proposals": [step.to_json() for step in plan.proposals],
        "unobtainable": [format_digest(digest) for digest in plan.unobtainable],
    }
