"""Is the key file there at the next start, and nobody else's?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from regstore.luks.facts import shown
from regstore.luks.findings import Finding, Severity
from regstore.luks.isolation import DeadlineError, IsolatedError
from regstore.luks.key_file import KeyFile, look_at_key
from regstore.luks.stack import stack_below
from regstore.wording import plain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regstore.luks.facts import Facts
    from regstore.luks.tabs import CryptEntry

OTHERS = 0o066
# systemd looks there for a mapping without a key file (crypttab(5)).
_KEY_DIRECTORIES = ("/etc/cryptsetup-keys.d", "/run/cryptsetup-keys.d")


def check_keyfile(facts: Facts) -> Iterator[Finding]:
    """conf.keyfile: the key file of crypttab is there at the next start, and nobody else can read it."""
    entry = facts.crypt_entry
    if entry is None:
        return
    path = entry.key or _implied_key(facts, entry)
    if not path:
        return
    subject = plain(path)
    place = _key_place(facts, path)
    if place.reason:
        yield Finding("conf.keyfile", Severity.UNKNOWN, subject, plain(place.reason))
        return
    if place.is_own:
        yield Finding(
            "conf.keyfile",
            Severity.CRITICAL,
            subject,
            "the key file lies on the volume that it opens: it is out of reach at the next start",
            "copy it now, while the volume is open, to a disk that is there before, and name it there in /etc/crypttab",
        )
        return
    try:
        key = look_at_key(facts.sysroot, path, facts.patience())
    except (DeadlineError, IsolatedError) as error:
        yield Finding("conf.keyfile", Severity.UNKNOWN, subject, plain(str(error)))
        return
    if key is None and facts.sysroot.is_other and not facts.sysroot.path(f"/{path.split('/')[1]}").is_dir():
        yield Finding("conf.keyfile", Severity.UNKNOWN, subject, "it is not in the tree of the other system")
    elif key is None:
        detail = "the key file is missing: the volume cannot be opened with it at the next start"
        repair = "restore the key file, or make a new one and `cryptsetup luksAddKey` it with another passphrase"
        yield Finding("conf.keyfile", Severity.CRITICAL, subject, detail, repair)
    else:
        yield from _judge_key(key, subject, place)


@dataclass(frozen=True, slots=True)
class _KeyPlace:
    """Where a key file lies: on the volume itself, on a disk without encryption, in memory, or why nobody knows."""

    is_own: bool = False
    plain: str = ""
    is_memory: bool = False
    reason: str = ""


def _key_place(facts: Facts, path: str) -> _KeyPlace:
    if not path.startswith("/"):
        return _KeyPlace(reason="it is not an absolute path")
    if ":" in path:
        return _KeyPlace(reason="it lies on a device that is not mounted while the system runs")
    stack = stack_below(facts.sysroot, path)
    crypt = facts.stack.crypt
    names = {device.name for device in stack.devices}
    if crypt is not None and crypt.name in names:
        return _KeyPlace(is_own=True)
    if stack.suspended:
        return _KeyPlace(reason="it lies on a suspended device")
    disks = ", ".join(shown(device) for device in stack.plain)
    return _KeyPlace(plain=disks, is_memory=stack.mount is not None and stack.mount.type in ("tmpfs", "ramfs"))


def _judge_key(key: KeyFile, subject: str, place: _KeyPlace) -> Iterator[Finding]:
    if key.mode & OTHERS or key.owner != 0:
        detail = f"mode {key.mode:04o}, owner {key.owner}: others than root can read or change the key"
        repair = f"`chown root:root {subject}; chmod 0400 {subject}`, and change the key if anybody may have read it"
        yield Finding("conf.keyfile", Severity.CRITICAL, subject, detail, repair)
    if place.plain:
        detail = f"the key lies unencrypted on {place.plain}: who has that disk can open the volume"
        repair = "keep it on an encrypted disk, or use a passphrase or a TPM"
        yield Finding("conf.keyfile", Severity.WARNING, subject, detail, repair)
    if place.is_memory:
        yield Finding(
            "conf.keyfile", Severity.INFO, subject, "it lies in memory, and something must bring it at every start"
        )
    if key.has_newline:
        detail = "it ends with a newline, which is a part of the key; a passphrase that is typed has none"
        yield Finding("conf.keyfile", Severity.INFO, subject, detail)
    elif key.has_newline is None:
        yield Finding(
            "conf.keyfile", Severity.UNKNOWN, subject, "it cannot be read to see whether it ends with a newline"
        )
    if not (place.plain or place.is_memory or key.has_newline or key.mode & OTHERS or key.owner):
        yield Finding("conf.keyfile", Severity.OK, subject, f"mode {key.mode:04o}, owned by root")


def _implied_key(facts: Facts, entry: CryptEntry) -> str:
    """Return the key file that systemd takes without being told, if there is one."""
    paths = (f"{directory}/{entry.name}.key" for directory in _KEY_DIRECTORIES if "/" not in entry.name)
    return next((path for path in paths if facts.sysroot.path(path).is_file()), "")
