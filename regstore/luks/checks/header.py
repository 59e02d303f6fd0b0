"""Checks of the header as a whole: `hdr.*`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regstore.luks.findings import Finding, Severity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regstore.luks.luks2 import Copy
    from regstore.luks.subject import HeaderSubject

_REENCRYPTING = ("offline-reencrypt", "online-reencrypt")
_HARDWARE = ("opal", "inline-hw-tags")


def check_read(on: HeaderSubject) -> Iterator[Finding]:
    """Say whether header and key slots can be read: a bad sector in a slot that nobody uses hides till a backup."""
    failure = on.reading.failure
    if failure is None:
        yield on.ok("hdr.read", "header and key slots were read whole")
        return
    advice = f"copy what can be read with ddrescue {on.path}, replace the disk, and restore a header backup"
    yield Finding("hdr.read", Severity.CRITICAL, on.name, f"{failure}", on.rescue(advice))


def check_copies(on: HeaderSubject) -> Iterator[Finding]:
    """Say whether both copies are whole: one is enough to open the volume, and none is left when it goes too."""
    reading = on.reading
    if reading.version == 1 or (reading.failure and not reading.copies and not reading.metadata):
        return
    if reading.moved_to is not None or (reading.second and reading.second.offset == 0):
        return  # hdr.offset says all, and what lies at the wrong place must not be written to
    if not reading.copies:
        if not reading.foreign and not reading.is_reencrypted_in_place:
            detail = "there is no LUKS header here: no magic at the begin, and no second copy"
            yield Finding("hdr.copies", Severity.CRITICAL, on.name, detail, on.rescue(_restore(on)))
        return
    if unread := [copy for copy in reading.copies if copy.version != 2]:
        detail = f"not read: {unread[0].name} is of version {unread[0].version}"
        yield Finding("hdr.copies", Severity.UNKNOWN, on.name, detail)
        return
    copies = (("first", reading.first), ("second", reading.second))
    absent = "it cannot be read" if reading.failure else "it is not there"
    damaged = {name: copy.damage if copy else absent for name, copy in copies}
    if all(damaged.values()):
        detail = "; ".join(f"{name} copy: {damage}" for name, damage in damaged.items())
        yield Finding("hdr.copies", Severity.CRITICAL, on.name, detail, on.rescue(_restore(on)))
        return
    if not any(damaged.values()):
        yield on.ok("hdr.copies", "both copies are there and have the right checksums")
        return
    for name, copy in copies:
        if damaged[name]:
            place = f" at byte {copy.offset}" if copy else ""
            detail = f"{damaged[name]}: the volume lives on the other copy alone"
            advice = (
                f"make a raw copy of the header area first, dd if={on.path} of=FILE bs=1M count=16, then write the "
                f"copy anew: cryptsetup repair {on.path}"
            )
            if reading.failure:
                advice = f"copy what can be read with ddrescue {on.path}, and replace the disk"
            yield Finding("hdr.copies", on.policy.damaged_copy, f"{name} copy{place}", detail, on.rescue(advice))


def check_seqid(on: HeaderSubject) -> Iterator[Finding]:
    """Say whether both copies are of one update: cryptsetup writes one after the other."""
    first, second = on.reading.first, on.reading.second
    if not (first and second and not first.damage and not second.damage and first.version == second.version == 2):
        return
    if first.seqid == second.seqid:
        yield on.ok("hdr.seqid", f"both copies have the sequence number {first.seqid}")
        return
    older = first if first.seqid < second.seqid else second
    detail = f"its sequence number is {older.seqid}, that of the other copy {max(first.seqid, second.seqid)}"
    advice = f"an update was interrupted: check that every passphrase opens it, then cryptsetup repair {on.path}"
    yield Finding("hdr.seqid", Severity.WARNING, _place(older), detail, advice)


def check_equal(on: HeaderSubject) -> Iterator[Finding]:
    """Say whether copies of one update say the same: cryptsetup never compares them."""
    first, second = on.reading.first, on.reading.second
    if not (first and second and not first.damage and not second.damage and first.version == second.version == 2):
        return
    if first.seqid != second.seqid:
        return
    fields = {
        "JSON": (first.content_sha256, second.content_sha256),
        "UUID": (first.uuid, second.uuid),
        "label": (first.label, second.label),
        "subsystem": (first.subsystem, second.subsystem),
    }
    differing = [name for name, (one, other) in fields.items() if one != other]
    if not differing:
        yield on.ok("hdr.equal", "both copies say the same")
        return
    detail = f"both copies have the sequence number {first.seqid} and differ in: {', '.join(differing)}"
    advice = (
        "somebody or something wrote one of them past cryptsetup: make a raw copy of the header area, try every "
        "passphrase with --disable-locks, and restore a header backup that is known to be good"
    )
    yield Finding("hdr.equal", Severity.CRITICAL, on.name, detail, on.rescue(advice))


def check_offset(on: HeaderSubject) -> Iterator[Finding]:
    """Say whether the copies lie where they believe to lie: a partition that moved takes its header with it."""
    reading = on.reading
    advice_moved = "the begin of the partition or image was moved: set it back (the old partition table tells it)"
    if reading.moved_to is not None:
        detail = f"no header at byte 0, and one at byte {reading.moved_to}"
        yield Finding("hdr.offset", Severity.CRITICAL, "first copy", detail, on.rescue(advice_moved))
        return
    if not reading.copies:
        return
    first, second = reading.first, reading.second
    well = True
    if second and second.offset == 0:
        well = False
        detail = f"the second copy lies at byte 0 and belongs at {second.stated_offset}"
        yield Finding("hdr.offset", Severity.CRITICAL, "second copy at byte 0", detail, on.rescue(advice_moved))
    elif second and first is None:
        well = False
        detail = f"there is no magic at byte 0, and a second copy at byte {second.offset}"
        advice = f"do not format it: the second copy can write the first anew, cryptsetup repair {on.path}"
        yield Finding("hdr.offset", Severity.CRITICAL, "first copy at byte 0", detail, on.rescue(advice))
    for copy in reading.copies:
        allowed = (copy.offset, 0) if copy.is_first else (copy.offset,)
        if copy.offset and not copy.damage and copy.version == 2 and copy.stated_offset not in allowed:
            well = False
            detail = f"it lies at byte {copy.offset} and says {copy.stated_offset}"
            yield Finding("hdr.offset", Severity.CRITICAL, _place(copy), detail, on.rescue(advice_moved))
        elif copy.is_first and not copy.damage and copy.version == 2 and copy.stated_offset:
            well = False
            detail = f"it lies at byte 0 and says {copy.stated_offset}"
            yield Finding("hdr.offset", Severity.CRITICAL, _place(copy), detail, on.rescue(advice_moved))
    if well:
        yield on.ok("hdr.offset", "each copy lies where it says")


def check_schema(on: HeaderSubject) -> Iterator[Finding]:
    """Say whether the header keeps the rules of its format."""
    reading = on.reading
    advice = "restore a header backup that is known to be good; keep a raw copy of what is there before"
    for rule in reading.broken_rules:
        yield Finding("hdr.schema", Severity.CRITICAL, on.name, rule, on.rescue(advice))
    broken = [copy for copy in reading.copies if copy.broken_rule]
    for copy in broken:
        yield Finding("hdr.schema", Severity.CRITICAL, _place(copy), copy.broken_rule, on.rescue(advice))
    if reading.metadata and not broken and not reading.broken_rules:
        yield on.ok("hdr.schema", "the header keeps the rules of its format")


def check_foreign(on: HeaderSubject) -> Iterator[Finding]:
    """Say whether something else was written over the header."""
    reading = on.reading
    if not reading.foreign:
        if reading.metadata:
            yield on.ok("hdr.foreign", "nothing else has its signature here")
        return
    detail = f"there is {' and '.join(reading.foreign)}"
    if reading.metadata is None:
        detail += " and no valid LUKS header"
    advice = "if this is the right device, its header was overwritten: stop what writes to it, and " + _restore(on)
    yield Finding("hdr.foreign", Severity.CRITICAL, on.name, detail, on.rescue(advice))


def check_version(on: HeaderSubject) -> Iterator[Finding]:
    """Say whether the format is one that protects itself."""
    reading = on.reading
    if reading.version == 1:
        detail = "LUKS1: one copy without checksum, and PBKDF2 only"
        advice = f"make a header backup, close the volume, and convert it: cryptsetup convert --type luks2 {on.path}"
        yield Finding("hdr.version", on.policy.luks1, on.name, detail, advice)
        return
    others = [copy for copy in reading.copies if copy.version != 2]
    for copy in others:
        yield Finding(
            "hdr.version",
            Severity.CRITICAL,
            _place(copy),
            f"version {copy.version}: it needs newer tools than these, or its version is damaged",
            on.rescue("ask a newer cryptsetup; if none knows that version, restore a header backup"),
        )
    if reading.copies and not others:
        yield on.ok("hdr.version", "LUKS2")


def check_require(on: HeaderSubject) -> Iterator[Finding]:
    """Say whether the header demands what an ordinary opening does not do."""
    metadata = on.reading.metadata
    if metadata is None:
        return
    for requirement in metadata.requirements:
        if requirement.startswith(_REENCRYPTING):
            if on.is_being_reencrypted:
                detail = f"{requirement}: a reencryption is under way"
                yield Finding("hdr.require", Severity.WARNING, on.name, detail, "let it finish; do not reboot")
            else:
                detail = f"{requirement}: a reencryption was begun, and no process works on it"
                yield Finding("hdr.require", Severity.CRITICAL, on.name, detail, _resume(on))
        elif requirement.startswith(_HARDWARE):
            yield Finding("hdr.require", Severity.INFO, on.name, f"{requirement}: only on hardware that has it")
        else:
            detail = f"it demands {requirement!r}, which these tools do not know"
            advice = "the volume needs a newer cryptsetup: install it before the next reboot"
            yield Finding("hdr.require", Severity.CRITICAL, on.name, detail, advice)
    if not metadata.requirements:
        yield on.ok("hdr.require", "nothing that an ordinary opening does not do")


def check_reencrypt(on: HeaderSubject) -> Iterator[Finding]:
    """Say whether a reencryption was left half done."""
    reading = on.reading
    if reading.is_reencrypted_in_place:
        detail = "a LUKS1 header under an offline reencryption that did not end"
        advice = (
            "find the files LUKS-*.log, .org and .new where cryptsetup-reencrypt ran, and run it there again: "
            f"cryptsetup-reencrypt {on.path}"
        )
        yield Finding("hdr.reencrypt", Severity.CRITICAL, on.name, detail, advice)
        return
    metadata = reading.metadata
    if metadata is None or metadata.version != 2:
        return
    slots = [slot for slot in metadata.keyslots.values() if slot.type == "reencrypt"]
    if not slots and not any(segment.is_backup for segment in metadata.segments.values()):
        yield on.ok("hdr.reencrypt", "no reencryption was begun")
        return
    mode = slots[0].mode if slots else "reencrypt"
    detail = f"a reencryption (mode {mode}) was begun"
    if mode in ("encrypt", "decrypt"):
        detail += ": a part of the data is plaintext"
    if on.is_being_reencrypted:
        yield Finding("hdr.reencrypt", Severity.WARNING, on.name, f"{detail} and is under way", "let it finish")
        return
    yield Finding("hdr.reencrypt", Severity.CRITICAL, on.name, f"{detail} and no process works on it", _resume(on))


def check_space(on: HeaderSubject) -> Iterator[Finding]:
    """Say whether the device is as long as its header needs."""
    metadata = on.reading.metadata
    if metadata is None:
        return
    end = metadata.slots_offset + metadata.slots_bytes
    # A backup of a LUKS1 header ends with the last slot.
    is_backup = metadata.version == 1 and on.reading.size == end
    needed = end if is_backup else max(metadata.data_offset, end)
    if on.reading.size < needed:
        detail = f"it has {on.reading.size} bytes, and header and key slots take {needed}: it was cut"
        advice = "find the rest of the device or image; cryptsetup does not open what is too small"
        yield Finding("hdr.space", Severity.CRITICAL, on.name, detail, on.rescue(advice))
        return
    ends = [segment.offset + segment.size for segment in metadata.current_segments if segment.size is not None]
    if on.data_bytes is not None and on.data_bytes > needed and ends and max(ends) > on.data_bytes:
        detail = f"the header says that the data end at {max(ends)}, and the device at {on.data_bytes}: it was cut"
        advice = "do not write to it; make the device as long as it was"
        yield Finding("hdr.space", Severity.CRITICAL, on.name, detail, on.rescue(advice))
        return
    yield on.ok("hdr.space", f"it has {on.reading.size} bytes, and header and key slots take {needed}")


def check_detached(on: HeaderSubject) -> Iterator[Finding]:
    """Say whether a detached header is one."""
    if not on.is_detached:
        return
    if on.reading.metadata is None:
        detail = "the detached header has no good copy"
        yield Finding("hdr.detached", Severity.CRITICAL, on.name, detail, on.rescue(_restore(on)))
        return
    yield on.ok("hdr.detached", "the detached header can be read")


def _place(copy: Copy) -> str:
    return f"{copy.name} at byte {copy.offset}"


def _restore(on: HeaderSubject) -> str:
    """Name the command only where a header must have been: elsewhere it would overwrite what is there."""
    if on.held_header or on.is_detached or on.reading.copies:
        return (
            f"restore the header now: cryptsetup luksHeaderRestore {on.path} --header-backup-file FILE, with a backup "
            "that regstore luks check --header-backup FILE finds good"
        )
    return (
        "see whether this is the right device, and whether its header is detached (--header FILE); only if a header "
        "was here, restore it from a backup that regstore luks check --header-backup FILE finds good"
    )


def _resume(on: HeaderSubject) -> str:
    metadata = on.reading.metadata
    if on.is_detached:
        target = f"--header {on.path} {on.data_path or 'DATADEVICE'}"
    elif metadata is not None and metadata.data_offset == 0:
        return (
            "make a copy of the header, and finish it with cryptsetup reencrypt --resume-only, giving it both --header "
            "and the device with the data: without --header it would encrypt the header itself"
        )
    else:
        target = on.path
    return (
        f"make a header backup, then finish it: cryptsetup reencrypt --resume-only {target}, after "
        f"cryptsetup repair {target} if it asks for that"
    )


CHECKS = (
    check_read,
    check_copies,
    check_seqid,
    check_equal,
    check_offset,
    check_schema,
    check_foreign,
    check_version,
    check_require,
    check_reencrypt,
    check_space,
    check_detached,
)
