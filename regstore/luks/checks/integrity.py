"""Did blocks of an authenticated volume fail their check?"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from regstore.luks.facts import unknown
from regstore.luks.findings import Finding, Severity
from regstore.luks.kernel_log import LogError
from regstore.luks.table import TableError
from regstore.wording import plain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regstore.luks.devices import Device
    from regstore.luks.facts import Facts


def check_integrity(facts: Facts) -> Iterator[Finding]:
    """map.integrity: no block of an authenticated volume failed its check.

    With authenticated encryption the counter of dm-integrity stays 0, and only the kernel's log tells.
    """
    crypt = facts.stack.crypt
    layers = [device for device in facts.stack.devices if device.dm_uuid.startswith("CRYPT-INTEGRITY-")]
    if crypt is None or not (layers or (facts.metadata and any(s.integrity for s in facts.metadata.current_segments))):
        return
    for device in layers:
        yield from _check_layer(facts, device)
    try:
        log = facts.log()
    except LogError as error:
        yield unknown("map.integrity", crypt, error)
        return
    names = "|".join(re.escape(device.name) for device in (crypt, *layers))
    failures = [line for line in log if re.search(rf"\b(?:{names}): INTEGRITY AEAD ERROR", line)]
    if failures:
        yield Finding(
            "map.integrity",
            Severity.CRITICAL,
            crypt.name,
            f"{len(failures)} integrity errors in the kernel log, the last: {plain(failures[-1])}",
            "blocks were changed or damaged below the encryption: check the disk, find the files that fail with "
            "`regstore fsck`, and restore them",
        )
    else:
        yield Finding(
            "map.integrity", Severity.OK, crypt.name, f"the kernel log has no integrity error{facts.log_span}"
        )


def _check_layer(facts: Facts, device: Device) -> Iterator[Finding]:
    try:
        tables = [target for target in facts.table(device) if target.type == "integrity"]
        states = [target for target in facts.status(device) if target.type == "integrity"]
    except TableError as error:
        yield unknown("map.integrity", device, error)
        return
    counts = [int(state.arguments[0]) for state in states if re.fullmatch(r"[0-9]{1,18}", "".join(state.arguments[:1]))]
    modes = [target.arguments[3] for target in tables if len(target.arguments) > 3]
    if not counts or not modes:
        yield unknown("map.integrity", device, "dmsetup tells no count of mismatches or no mode")
        return
    if sum(counts):
        detail = f"{sum(counts):,} blocks failed their check"
        repair = "check the disk, find the files that fail with `regstore fsck`, and restore them"
        yield Finding("map.integrity", Severity.CRITICAL, device.name, detail, repair)
    elif not {"D", "R"}.isdisjoint(modes):
        mode = "D (no journal): a crash leaves" if "D" in modes else "R (recovery, nothing is checked): there may be"
        repair = (
            f"unmount, `cryptsetup close {plain(facts.stack.crypt.dm_name if facts.stack.crypt else '')}` and open it "
        )
        repair += "without --integrity-no-journal and --integrity-recovery-mode"
        detail = f"mode {mode} blocks that do not fit their check values"
        yield Finding("map.integrity", Severity.WARNING, device.name, detail, repair)
    else:
        yield Finding("map.integrity", Severity.OK, device.name, f"no mismatches, mode {plain(', '.join(modes))}")
