"""All checks of the system side, in order."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from regstore.luks.checks import crypttab, disk, filesystem, fstab, integrity, keys, mapping, match, place
from regstore.luks.facts import Facts, Options
from regstore.luks.findings import Finding, Severity
from regstore.luks.udev import NotKnownError
from regstore.wording import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from regstore.luks.devices import Device
    from regstore.luks.metadata import Metadata
    from regstore.luks.stack import Stack
    from regstore.luks.sysroot import Sysroot

CHECKS: dict[str, Callable[[Facts], Iterator[Finding]]] = {
    "place.crypt": place.check_crypt,
    "place.mounted": place.check_mounted,
    "place.expected": place.check_expected,
    "place.shadow": place.check_shadow,
    "place.duplicate": place.check_duplicate,
    "place.kind": place.check_kind,
    "map.suspended": mapping.check_suspended,
    "map.target": mapping.check_target,
    "map.readonly": mapping.check_readonly,
    "map.header": match.check_header,
    "map.size": match.check_size,
    "map.flags": match.check_flags,
    "map.keyloc": mapping.check_keyloc,
    "map.integrity": integrity.check_integrity,
    "conf.crypttab": crypttab.check_crypttab,
    "conf.fstab": fstab.check_fstab,
    "conf.keyfile": keys.check_keyfile,
    "dev.smart": disk.check_smart,
    "dev.log": disk.check_log,
    "fs.write": filesystem.check_write,  # what it meets, the file system counts
    "fs.errors": filesystem.check_errors,
    "fs.space": filesystem.check_space,
    "fs.inodes": filesystem.check_inodes,
    "fs.backing": filesystem.check_backing,
}


@dataclass(frozen=True, slots=True)
class HeaderPlace:
    """Where the header of a target's volume lies.

    Attributes:
        device: what holds it, or the data of a detached one; of a ROOT whose volume is not open, what crypttab names.
        file: the `header=` of crypttab, as written; empty when the header is not detached.
    """

    device: Device | None
    file: str


def find_header(sysroot: Sysroot, stack: Stack) -> HeaderPlace:
    """Return where the header of the volume under a target lies, or would lie if it were open.

    Raises:
        OSError: the system's tree cannot be read.
    """
    facts = Facts(sysroot, stack, None, Options())
    entry, device = facts.crypt_entry, stack.header_device
    if device is None and entry is not None:
        with suppress(NotKnownError):
            device = next(iter(facts.resolve(entry.source)), None)
    return HeaderPlace(device, entry.header if entry else "")


def check_stack(
    sysroot: Sysroot, stack: Stack, metadata: Metadata | None, options: Options | None = None
) -> Iterator[Finding]:
    """Yield what the checks say of a target that `find_stack` found; those that do not apply to it say nothing.

    Args:
        sysroot: where the system's files lie.
        stack: what the target lies on.
        metadata: its header; None when it was not read or is none.
        options: what the operator wants.
    """
    facts = Facts(sysroot, stack, metadata, options or Options())
    for name, check in CHECKS.items():
        try:
            yield from check(facts)
        except OSError as error:  # a file of the system is there and cannot be read
            yield Finding(name, Severity.UNKNOWN, plain(stack.target), plain(f"it could not be checked: {error}"))
