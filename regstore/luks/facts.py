"""What the checks of one target look at, each read once and only when a check asks."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from regstore.luks.devices import BlockDevices
from regstore.luks.findings import Finding, Severity
from regstore.luks.kernel_log import LogError, read_log
from regstore.luks.mounts import lies_below, read_mounts
from regstore.luks.stack import Kind
from regstore.luks.table import TableError, Target, parse_crypt, read_status, read_table
from regstore.luks.tabs import CryptEntry, MountEntry, Spec, read_crypttab, read_fstab, resolve
from regstore.luks.udev import NotKnownError
from regstore.wording import iso_time, plain

if TYPE_CHECKING:
    from collections.abc import Callable

    from regstore.luks.devices import Device
    from regstore.luks.metadata import Metadata
    from regstore.luks.mounts import Mount
    from regstore.luks.stack import Stack
    from regstore.luks.sysroot import Sysroot
    from regstore.luks.table import Crypt

NO_ETC = "there is no /etc to look at"
PROGRAM_SECONDS = 5.0
# A suspended volume is answered in 5 s; the rest is for the header's side and for starting.
SUSPENDED_SECONDS = 2.5


@dataclass(frozen=True, slots=True)
class Options:
    """What the operator wants or knows.

    Attributes:
        mount_point: where the registry's volume is to be mounted; what fstab says when empty.
        expected_uuid: of its LUKS header; what crypttab says when empty.
        write_probe: allow a small file to be written into the registry's directory.
        discards: how bad it is that discards are allowed.
        log_since: from which time of `time.time()` on the kernel's log counts; all of it when None.
    """

    mount_point: str = ""
    expected_uuid: str = ""
    write_probe: bool = False
    discards: Severity = Severity.INFO
    log_since: float | None = None


class Facts:
    """The system as the checks of one target see it.

    All properties raise OSError when a file is there and cannot be read.
    """

    def __init__(self, sysroot: Sysroot, stack: Stack, metadata: Metadata | None, options: Options) -> None:
        """Bind to what is known before: the target's stack, and its header unless that is unknown."""
        self.sysroot = sysroot
        self.stack = stack
        self.metadata = metadata
        self.options = options
        self._until = time.monotonic() + SUSPENDED_SECONDS
        self._tables: dict[tuple[str, str], list[Target] | TableError] = {}

    @property
    def halted(self) -> str:
        """Why nothing may be read or written through the stack; empty when it may."""
        names = ", ".join(shown(device) for device in self.stack.suspended)
        return f"suspended: {names}" if names else ""

    def patience(self, seconds: float = PROGRAM_SECONDS) -> float:
        """Return how long a program may take."""
        return max(min(seconds, self._until - time.monotonic()), 0.1) if self.halted else seconds

    @cached_property
    def blocks(self) -> BlockDevices:
        """The block devices."""
        return BlockDevices(self.sysroot)

    @cached_property
    def mounts(self) -> list[Mount]:
        """The mount table."""
        return read_mounts(self.sysroot) or []

    @cached_property
    def crypttab(self) -> list[CryptEntry] | None:
        """The entries of crypttab; None when nobody knows, as there is no /etc."""
        entries = read_crypttab(self.sysroot)
        return [] if entries is None and self._has_etc else entries

    @cached_property
    def fstab(self) -> list[MountEntry] | None:
        """The entries of fstab; None when nobody knows, as there is no /etc."""
        entries = read_fstab(self.sysroot)
        return [] if entries is None and self._has_etc else entries

    @property
    def _has_etc(self) -> bool:
        return self.sysroot.path("/etc").is_dir()

    @cached_property
    def mount_entry(self) -> MountEntry | None:
        """The entry of fstab by which the ROOT gets where it should be."""
        if self.stack.kind is not Kind.ROOT:
            return None
        above = [entry for entry in self.fstab or () if lies_below(self.stack.target, entry.target)]
        return max(above, key=lambda entry: len(entry.target), default=None)

    @cached_property
    def crypt_entry(self) -> CryptEntry | None:
        """The entry of crypttab by which the volume is opened: by the mapping's name, or else by its device."""
        entries = self.crypttab or ()
        crypt = self.stack.crypt
        name = crypt.dm_name if crypt else self._expected_name
        named = next((entry for entry in entries if name and entry.name == name), None)
        return named or next((entry for entry in entries if self._names_volume(entry.source)), None)

    @property
    def _expected_name(self) -> str:
        """The mapping that fstab wants under the ROOT."""
        source = self.mount_entry.source if self.mount_entry else Spec("", "")
        return source.value.removeprefix("/dev/mapper/") if source.value.startswith("/dev/mapper/") else ""

    def _names_volume(self, spec: Spec) -> bool:
        if self.stack.header_device is None:
            return self.stack.kind is Kind.FILE and spec == Spec("", self.stack.target)
        if spec.tag == "UUID" and spec.value.lower() in self.uuids:
            return True
        try:
            return self.stack.header_device.name in {device.name for device in self.resolve(spec)}
        except NotKnownError:
            return False

    @property
    def uuids(self) -> set[str]:
        """The UUIDs that the volume's header has or had when it was opened; normally one."""
        known = {self.metadata.uuid.lower()} if self.metadata else set()
        return (known | {self.stack.crypt.luks_uuid if self.stack.crypt else ""}) - {""}

    def resolve(self, spec: Spec) -> list[Device]:
        """Return the devices that a spec names.

        Raises:
            NotKnownError: nobody knows.
        """
        return resolve(self.sysroot, self.blocks, spec)

    def table(self, device: Device) -> list[Target]:
        """Return the table of a device-mapper device.

        Raises:
            TableError: it cannot be known.
        """
        return self._ask("table", device, read_table)

    def status(self, device: Device) -> list[Target]:
        """Return the state of a device-mapper device.

        Raises:
            TableError: it cannot be known.
        """
        return self._ask("status", device, read_status)

    def crypt_lines(self) -> list[tuple[Target, Crypt]]:
        """Return the `crypt` lines of the volume's mapping, one or more.

        Raises:
            TableError: they cannot be known.
        """
        if self.stack.crypt is None:
            raise TableError("there is no mapping")
        lines = [(target, parse_crypt(target)) for target in self.table(self.stack.crypt)]
        found = [(target, crypt) for target, crypt in lines if crypt is not None]
        if not found:
            raise TableError("its table has no crypt line")
        return found

    def _ask(self, what: str, device: Device, read: Callable[[str, float], list[Target]]) -> list[Target]:
        if device.is_suspended:
            raise TableError("suspended")
        key = (what, device.name)
        if key not in self._tables:
            try:
                self._tables[key] = read(device.dm_name, self.patience())
            except TableError as error:
                self._tables[key] = error
        answer = self._tables[key]
        if isinstance(answer, TableError):
            raise answer
        return answer

    @property
    def log_span(self) -> str:
        """From when on the kernel's log was read, as words behind what was found in it; empty for all of it."""
        since = self.options.log_since
        return "" if since is None else f" since the last check at {iso_time(since)}"

    def log(self) -> list[str]:
        """Return what the kernel said.

        Raises:
            LogError: it cannot be read.
        """
        if isinstance(self._log, LogError):
            raise self._log
        return self._log

    @cached_property
    def _log(self) -> list[str] | LogError:
        try:
            return read_log(self.sysroot, self.options.log_since, self.patience())
        except LogError as error:
            return error


def unknown(check: str, device: Device, reason: object) -> Finding:
    """Return that a check could not be done on a device, and why."""
    return Finding(check, Severity.UNKNOWN, device.name, plain(str(reason)))


def shown(device: Device) -> str:
    """Return a device's kernel name, and its own one in brackets."""
    return f"{device.name} ({plain(device.dm_name)})" if device.dm_name else device.name
