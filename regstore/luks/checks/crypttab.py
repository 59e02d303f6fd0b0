"""Will the volume be opened at the next start?"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from regstore.luks.facts import NO_ETC
from regstore.luks.findings import Finding, Severity
from regstore.luks.isolation import DeadlineError, IsolatedError, call
from regstore.luks.table import TableError
from regstore.luks.udev import NotKnownError
from regstore.wording import plain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regstore.luks.facts import Facts
    from regstore.luks.tabs import CryptEntry

CRYPTTAB = "/etc/crypttab"


def check_crypttab(facts: Facts) -> Iterator[Finding]:
    """conf.crypttab: the mapping is opened at every start, from a device that is surely this one, as it is now."""
    stack, entry = facts.stack, facts.crypt_entry
    if stack.crypt is None and entry is None:
        return
    if facts.crypttab is None:
        yield Finding("conf.crypttab", Severity.UNKNOWN, CRYPTTAB, NO_ETC)
        return
    if entry is None:
        name = plain(stack.crypt.dm_name) if stack.crypt else ""
        uuid = next(iter(sorted(facts.uuids)), "UUID")
        yield Finding(
            "conf.crypttab",
            Severity.WARNING,
            CRYPTTAB,
            f"no entry for {name}: after the next start the volume stays closed",
            f"add a line such as `{name} {_stable(facts, uuid)}`",
        )
        return
    findings = [*_judge_name(facts, entry), *_judge_source(facts, entry), *_judge_options(facts, entry)]
    yield from findings or [
        Finding("conf.crypttab", Severity.OK, CRYPTTAB, f"opens {plain(entry.name)} from {_source(entry)}")
    ]


def _stable(facts: Facts, uuid: str) -> str:
    """Return what names the device at every start: with a detached header it carries no UUID itself."""
    is_detached = facts.metadata is not None and facts.metadata.data_offset == 0
    if is_detached or (facts.crypt_entry and facts.crypt_entry.header):
        return "/dev/disk/by-id/... none luks,header=FILE"
    return f"UUID={plain(uuid)} none luks"


def _judge_name(facts: Facts, entry: CryptEntry) -> Iterator[Finding]:
    crypt = facts.stack.crypt
    if crypt is not None and entry.name != crypt.dm_name:
        yield Finding(
            "conf.crypttab",
            Severity.WARNING,
            CRYPTTAB,
            f"no entry for {plain(crypt.dm_name)}: the volume is opened as {plain(entry.name)} at the next start",
            f"call it {plain(crypt.dm_name)} in {CRYPTTAB}, or {plain(entry.name)} in /etc/fstab too",
        )


def _judge_source(facts: Facts, entry: CryptEntry) -> Iterator[Finding]:
    source, header = entry.source, facts.stack.header_device
    find = "correct the entry (`lsblk -f` shows the UUIDs), or find the missing disk"
    if source.tag == "UUID" and facts.stack.crypt and source.value.lower() == facts.stack.crypt.luks_uuid:
        find = (
            "do not close the volume and do not reboot: its header is gone or damaged, restore it from a backup first"
        )
    try:
        names = [device.name for device in facts.resolve(source)]
    except NotKnownError as error:
        if source.tag != "UUID" or source.value.lower() not in facts.uuids:
            yield Finding("conf.crypttab", Severity.UNKNOWN, CRYPTTAB, f"{_source(entry)}: {error}")
        return
    if not names:
        yield from _judge_absent(facts, entry, find)
    elif header is not None and header.name not in names:
        detail = f"{_source(entry)} is {', '.join(names)}, and open is {header.name}"
        yield Finding("conf.crypttab", Severity.CRITICAL, CRYPTTAB, detail, find)
    if source.is_unstable:
        uuid = next(iter(sorted(facts.uuids)), "...")
        detail = f"{_source(entry)} may be another disk after the next start"
        stable = _stable(facts, uuid).split()[0]
        yield Finding("conf.crypttab", Severity.WARNING, CRYPTTAB, detail, f"write {stable} instead")


def _judge_absent(facts: Facts, entry: CryptEntry, repair: str) -> Iterator[Finding]:
    path = entry.source.value
    if not entry.source.tag and not path.startswith("/dev/"):
        place = str(facts.sysroot.path(path))
        try:
            if call(lambda: os.path.exists(place), facts.patience()):
                return
        except (DeadlineError, IsolatedError) as error:
            yield Finding("conf.crypttab", Severity.UNKNOWN, CRYPTTAB, plain(f"{path}: {error}"))
            return
        if facts.sysroot.is_other:
            detail = f"{_source(entry)} is not in the tree of the other system"
            yield Finding("conf.crypttab", Severity.UNKNOWN, CRYPTTAB, detail)
            return
    detail = f"{_source(entry)} is not there: the volume cannot be opened at the next start"
    yield Finding("conf.crypttab", Severity.CRITICAL, CRYPTTAB, detail, repair)


def _judge_options(facts: Facts, entry: CryptEntry) -> Iterator[Finding]:
    metadata = facts.metadata
    if metadata is not None and (metadata.data_offset == 0) != bool(entry.header):
        if entry.header:
            detail = f"header={plain(entry.header)} is written, and the header lies on the volume's own device"
            repair = "take header= out, or check which of the two headers is right"
        else:
            detail = "the header is detached, and no header= is written: the volume cannot be opened at the next start"
            repair = "add header=FILE to the options of the entry"
        yield Finding("conf.crypttab", Severity.WARNING, CRYPTTAB, detail, repair)
    try:
        is_active = any("allow_discards" in crypt.options for _, crypt in facts.crypt_lines())
    except TableError:
        return  # map.flags says so
    is_kept = metadata is None or "allow-discards" in metadata.flags
    is_written = "discard" in entry.options
    if is_written and not is_active:
        detail, repair = "discard is written, and the mapping does not allow it", "open the volume anew, or take it out"
        yield Finding("conf.crypttab", Severity.WARNING, CRYPTTAB, detail, repair)
    elif is_active and not is_written and not is_kept:
        detail = "the mapping allows discards, and discard is not written"
        yield Finding("conf.crypttab", Severity.WARNING, CRYPTTAB, detail, "add discard to the options of the entry")


def _source(entry: CryptEntry) -> str:
    return plain(str(entry.source))
