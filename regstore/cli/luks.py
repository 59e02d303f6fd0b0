"""`regstore luks`."""

from __future__ import annotations

import resource
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from regstore.cli.lazily import Lazily
from regstore.cli.listing import ListingGroup
from regstore.cli.luks_output import (
    FORMATS,
    as_job_findings,
    exit_code_of,
    nagios_code,
    nagios_line,
    render_health,
    show_saved,
)
from regstore.cli.main import EXIT_STATUS, Session
from regstore.cli.named import REGISTRY
from regstore.cli.output import make_document
from regstore.cli.parameters import SIZE, safety_option
from regstore.cli.rendering import emit
from regstore.errors import UsageError
from regstore.luks.findings import Severity
from regstore.luks.policy import PROFILES

if TYPE_CHECKING:
    from regstore import jobs
    from regstore.luks import check as checking
    from regstore.luks import facts, stack
    from regstore.luks import save_header as saving
    from regstore.luks import sysroot as roots
    from regstore.luks.policy import Policy
    from regstore.registry import config as configs
else:
    checking = Lazily("regstore.luks.check")
    facts = Lazily("regstore.luks.facts")
    saving = Lazily("regstore.luks.save_header")
    stack = Lazily("regstore.luks.stack")
    roots = Lazily("regstore.luks.sysroot")
    jobs = Lazily("regstore.jobs")
    configs = Lazily("regstore.registry.config")

_JOB = "luks check"
_NO_BACKUP = "no_header_backup_since"


@click.group(
    "luks",
    cls=ListingGroup,
    epilog=f"""\b
EXAMPLES
  regstore luks check /var/lib/registry
  regstore luks backup-header /dev/sdb /mnt/usb/registry.hdr

{EXIT_STATUS}""",
)
def command() -> None:
    """Say whether the encrypted disk under a registry is healthy, and would open again tomorrow."""
    # Key material and the last byte of a key file pass through this process: nothing of them in a core dump.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


@command.command(
    "check",
    epilog=f"""\b
EXAMPLES
  regstore luks check /var/lib/registry
  regstore luks check --header-backup /mnt/usb/registry.hdr -q /var/lib/registry       (nightly, from cron)
  regstore luks check --test-key-file /etc/keys/registry /dev/sdb
  regstore luks check --policy strict --format prom --out /var/lib/prometheus/luks.prom /dev/sdb
  regstore luks check --nagios /var/lib/registry

\b
NAGIOS
  With --nagios the exit status is 0 ok, 1 warning, 2 critical, 3 unknown.

{EXIT_STATUS}""",
)
@click.argument("target", type=REGISTRY, required=False, metavar="[ROOT|DEVICE]")
@click.option("--header", metavar="FILE", help="The detached header of the volume (default: what crypttab says).")
@click.option(
    "--header-backup",
    "backups",
    multiple=True,
    metavar="FILE",
    help="Check that this backup of the header is whole, of this volume as it is now, and lies elsewhere.",
)
@safety_option(
    "--test-key-file",
    metavar="FILE",
    help="Prove with cryptsetup that this key file opens the volume; nothing is mapped.",
)
@safety_option("--write-probe", is_flag=True, help="Write, sync and remove a small file in the registry's directory.")
@click.option(
    "--policy", type=click.Choice(["strict", "default", "legacy"]), default="default", show_default=True,
    help="How much is demanded.",
)  # fmt: skip
@click.option("--min-keyslots", type=click.IntRange(1, 32), metavar="N", help="Usable key slots (default: 2).")
@click.option(
    "--min-pbkdf2-iterations", type=click.IntRange(1), metavar="N", help="Fewer are a warning (default: 1000000)."
)
@click.option("--min-argon2-memory", type=SIZE, metavar="SIZE", help="Less is a warning (default: 64MiB).")
@click.option("--min-argon2-time", type=click.IntRange(1), metavar="N", help="Fewer passes are a warning (default: 4).")
@click.option(
    "--cipher", "ciphers", multiple=True, metavar="PATTERN", help="Only such ciphers (aes-xts-*); may be given again."
)
@click.option(
    "--rescue-memory", type=SIZE, metavar="SIZE", help="Memory of the system that would open it after a disaster."
)
@click.option("--mount-point", metavar="DIR", help="Where the volume must be mounted (default: what fstab says).")
@click.option("--uuid", metavar="UUID", help="Of the LUKS header that must be open (default: what crypttab says).")
@click.option("--format", "form", type=click.Choice(FORMATS), default="table", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option("--nagios", is_flag=True, help="One line and exit status as monitoring plugins have them.")
@click.option("--out", metavar="FILE", help="Write there, whole or not at all, instead of to stdout.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing when no finding is a warning or worse.")
@click.option("--sysroot", metavar="DIR", hidden=True)
@click.pass_obj
def check_command(session: Session, /, target: str | None, **arguments: Any) -> None:
    """Check the encrypted volume under ROOT, or on DEVICE: a disk, an image, a detached header or a header backup.

    Nothing is changed: devices are only ever read, raw, because tools that look through cryptsetup repair while they
    look. As root everything is seen; without, what could not be seen is said.
    """
    if not target:
        raise UsageError("name the registry's directory or the encrypted device")
    if target.endswith((".yml", ".yaml")) and Path(target).is_file():
        target = configs.read_config(target).root_directory
        if not target:
            raise UsageError("that registry lies in a bucket: there is no disk to check")
    form = "json" if arguments["as_json"] else arguments["form"]
    sysroot = roots.Sysroot(Path(arguments["sysroot"])) if arguments["sysroot"] else roots.Sysroot()
    started = time.time()
    location = str(Path(target).absolute())
    last_run, no_backup_seconds = None, 0.0
    if not arguments["nagios"] and not sysroot.is_other:
        # Under the name that the registry's other jobs have.
        registry = f"file://{location}" if stack.kind_of(sysroot, Path(target)) is stack.Kind.ROOT else location
        last = jobs.read_jobs(registry).get(_JOB)
        last_run = last.last_run_at if last else None
        job = session.begin_job(_JOB, registry)
        if not arguments["backups"]:
            since = (last.numbers if last else {}).get(_NO_BACKUP, started)
            job.numbers[_NO_BACKUP] = since
            no_backup_seconds = started - since
    system = facts.Options(
        mount_point=arguments["mount_point"] or "",
        expected_uuid=arguments["uuid"] or "",
        write_probe=arguments["write_probe"],
        log_since=last_run,
    )
    options = checking.CheckOptions(
        policy=_choose_policy(arguments),
        system=system,
        header=_path(arguments["header"]),
        backups=tuple(Path(file) for file in arguments["backups"]),
        no_backup_seconds=no_backup_seconds,
        key_file=_path(arguments["test_key_file"]),
        rescue_bytes=arguments["rescue_memory"],
        sysroot=sysroot,
    )
    health = checking.check_volume(Path(target), options)
    if session.job is not None:
        session.job.findings = as_job_findings(health.findings)
    code = nagios_code(health.findings) if arguments["nagios"] else exit_code_of(health.findings)
    if arguments["nagios"] and form == "table":
        emit([nagios_line(health)], arguments["out"])
    elif not arguments["quiet"] or arguments["out"] or exit_code_of(health.findings):
        emit(render_health(health, form, started, code, location), arguments["out"])
    raise click.exceptions.Exit(code)


@command.command(
    "backup-header",
    epilog=f"""\b
EXAMPLES
  regstore luks backup-header /dev/sdb /mnt/usb/registry.hdr
  regstore luks check --header-backup /mnt/usb/registry.hdr /dev/sdb

{EXIT_STATUS}""",
)
@click.argument("device")
@click.argument("file")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing when all is well.")
@click.pass_obj
def backup_command(session: Session, device: str, file: str, as_json: bool, quiet: bool) -> None:
    """Copy the header of DEVICE into FILE, with a manifest FILE.json beside it; both only for root to read.

    DEVICE is only read. Both copies of the header must be whole. FILE must not exist, and must lie on another disk.
    Whoever has FILE and an old passphrase can open the volume: keep it as safe as a key.
    """
    started = time.time()
    saved = saving.save_header(Path(device), Path(file), roots.Sysroot(), started)
    code = 1 if saved.findings else 0
    show_saved(
        saved,
        make_document("luks backup-header", device, started, code, saved.findings, file=file, manifest=saved.manifest),
        as_json=as_json,
        quiet=quiet,
    )
    raise click.exceptions.Exit(code)


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None


def _choose_policy(arguments: dict[str, Any]) -> Policy:
    policy = PROFILES[arguments["policy"]]
    if arguments["min_keyslots"]:
        severity = max(policy.one_slot, Severity.WARNING)
        policy = replace(policy, min_keyslots=arguments["min_keyslots"], one_slot=severity)
    if least := arguments["min_pbkdf2_iterations"]:
        bad = min(policy.bad_pbkdf2_iterations, least)
        policy = replace(policy, min_pbkdf2_iterations=least, bad_pbkdf2_iterations=bad)
    if arguments["min_argon2_memory"]:
        policy = replace(policy, min_argon2_memory_kib=arguments["min_argon2_memory"] // 1024)
    if arguments["min_argon2_time"]:
        policy = replace(policy, min_argon2_time=arguments["min_argon2_time"])
    return replace(policy, ciphers=tuple(arguments["ciphers"]))
