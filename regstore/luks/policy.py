"""What is demanded of a volume beyond being readable."""

from __future__ import annotations

from dataclasses import dataclass, replace

from regstore.luks.findings import Severity


@dataclass(frozen=True, slots=True)
class Policy:
    """The demands. `PROFILES` has the usual ones.

    Attributes:
        luks1: how bad it is to be LUKS1.
        damaged_copy: how bad one damaged copy is, when the other is whole.
        one_slot: how bad it is to have fewer usable slots than `min_keyslots`, and still one.
        essiv: how bad a CBC mode with ESSIV is.
        short_xts: how bad XTS with a key of 256 bits, that is AES-128, is.
        min_keyslots: usable slots.
        min_pbkdf2_iterations: fewer are a warning.
        bad_pbkdf2_iterations: fewer are critical.
        min_argon2_memory_kib: less is a warning.
        min_argon2_time: fewer passes are a warning.
        ciphers: patterns such as `aes-xts-*`; another cipher is a warning. Empty: any that is not known bad.
    """

    luks1: Severity = Severity.WARNING
    damaged_copy: Severity = Severity.WARNING
    one_slot: Severity = Severity.WARNING
    essiv: Severity = Severity.WARNING
    short_xts: Severity = Severity.INFO
    min_keyslots: int = 2
    min_pbkdf2_iterations: int = 1_000_000
    bad_pbkdf2_iterations: int = 100_000
    min_argon2_memory_kib: int = 64 * 1024
    min_argon2_time: int = 4
    ciphers: tuple[str, ...] = ()


_DEFAULT = Policy()
PROFILES = {
    "default": _DEFAULT,
    "strict": replace(
        _DEFAULT,
        luks1=Severity.CRITICAL,
        damaged_copy=Severity.CRITICAL,
        essiv=Severity.CRITICAL,
        short_xts=Severity.WARNING,
    ),
    "legacy": replace(
        _DEFAULT,
        luks1=Severity.INFO,
        one_slot=Severity.INFO,
        essiv=Severity.INFO,
        min_pbkdf2_iterations=100_000,
        bad_pbkdf2_iterations=1_000,
    ),
}
