"""Checks of key slots and tokens: `slot.*`, `token.*`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regstore.luks.ciphers import is_null
from regstore.luks.findings import Finding, Severity
from regstore.wording import human_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regstore.luks.metadata import Kdf, Metadata
    from regstore.luks.policy import Policy
    from regstore.luks.subject import HeaderSubject

_RECOVERY = "systemd-recovery"
# The secrets of these are random, so that stretching them is of no use; systemd gives their slots 1,000 iterations on
# purpose (src/cryptenroll), and clevis a slot of random bytes.
_MACHINE_TOKENS = ("systemd-tpm2", "systemd-fido2", "systemd-pkcs11", _RECOVERY, "clevis")
_ADD_KEY = "cryptsetup luksAddKey"


def check_count(on: HeaderSubject) -> Iterator[Finding]:
    """Say whether there is more than one way in."""
    metadata = on.reading.metadata
    if metadata is None:
        return
    usable = on.reading.usable_keyslots
    if not usable:
        detail = "no key slot opens this volume any more: it never opens again once it is closed"
        advice = (
            "while it is open, copy the data away, or add a slot with its volume key (cryptsetup luksAddKey "
            "--volume-key-file); else restore a header backup"
        )
        yield Finding("slot.count", Severity.CRITICAL, on.name, detail, on.rescue(advice))
        return
    detail = f"{len(usable)} key slot{'s open' if len(usable) > 1 else ' opens'} this volume: {_numbers(usable)}"
    if len(usable) < on.policy.min_keyslots:
        advice = f"add another passphrase and keep it elsewhere: {_ADD_KEY} {on.path}"
        yield Finding("slot.count", on.policy.one_slot, on.name, detail, advice)
        return
    yield on.ok("slot.count", detail)


def check_area(on: HeaderSubject) -> Iterator[Finding]:
    """Say whether key material still looks like key material; short damage cannot be seen."""
    for number, material in sorted(on.reading.materials.items()):
        if material.damage:
            detail = f"{material.damage}: the slot is probably dead"
            advice = (
                f"try its passphrase (cryptsetup open --test-passphrase --disable-locks -S {number} {on.path}); if it "
                "fails, restore a header backup, or remove the slot and add the passphrase again"
            )
            yield Finding("slot.area", Severity.CRITICAL, f"keyslot {number}", detail, on.rescue(advice))
        else:
            detail = "its key material looks random, as it should; damage of some bytes cannot be seen"
            yield on.ok("slot.area", detail, f"keyslot {number}")


def check_kdf(on: HeaderSubject) -> Iterator[Finding]:
    """Say whether guessing passphrases is dear enough."""
    metadata = on.reading.metadata
    if metadata is None:
        return
    tokens = _token_types(metadata)
    for number, slot in sorted(metadata.keyslots.items()):
        if slot.kdf is None:
            continue
        subject = f"keyslot {number}"
        machine = next((kind for kind in tokens.get(number, ()) if kind in _MACHINE_TOKENS), None)
        if machine:
            yield on.ok("slot.kdf", f"a random secret of {machine}: its stretching does not matter", subject)
            continue
        severity, detail = _weigh(slot.kdf, on.policy)
        advice = ""
        if severity >= Severity.WARNING:
            command = "luksConvertKey --pbkdf argon2id" if metadata.version == 2 else "luksChangeKey"
            advice = (
                f"make a header backup and stretch the passphrase anew: cryptsetup {command} -S {number} {on.path}; "
                "then make a new backup and destroy the old one"
            )
        yield Finding("slot.kdf", severity, subject, detail, advice)


def check_memory(on: HeaderSubject) -> Iterator[Finding]:
    """Say whether this host can pay the memory that a slot asks for."""
    metadata = on.reading.metadata
    if metadata is None:
        return
    costs = {slot.id: slot.kdf.memory_kib * 1024 for slot in metadata.keyslots.values() if slot.kdf}
    number = max(costs, key=lambda slot: costs[slot], default=None)
    if number is None or not costs[number]:
        return
    limits = {"this host": on.memory.total, "its control group": on.memory.limit, "the rescue system": on.memory.rescue}
    known = {name: limit for name, limit in limits.items() if limit is not None}
    subject = f"keyslot {number}"
    if not known:
        yield Finding("slot.memory", Severity.UNKNOWN, subject, "the memory of this host could not be read")
        return
    name = min(known, key=lambda limit: known[limit])
    detail = f"argon2 takes {human_bytes(costs[number])}, and {name} has {human_bytes(known[name])}"
    advice = f"stretch it anew with less memory: cryptsetup luksConvertKey -S {number} --pbkdf-memory KIB {on.path}"
    if costs[number] > known[name]:
        yield Finding("slot.memory", Severity.CRITICAL, subject, f"{detail}: it cannot open here", advice)
    elif costs[number] * 2 > known[name]:
        yield Finding("slot.memory", Severity.WARNING, subject, f"{detail}: it may fail at boot", advice)
    else:
        yield on.ok("slot.memory", detail, subject)


def check_null(on: HeaderSubject) -> Iterator[Finding]:
    """Say whether anything is stored in plaintext under the name of a cipher (CVE-2025-59054)."""
    metadata = on.reading.metadata
    if metadata is None:
        return
    advice = "whoever made this header can read the data: treat it as hostile, and format the volume anew"
    slots = [slot.id for slot in metadata.keyslots.values() if is_null(slot.area_encryption)]
    segments = [segment.id for segment in metadata.segments.values() if is_null(segment.encryption)]
    for number in slots:
        detail = "its key material is not encrypted (cipher_null)"
        yield Finding("slot.null", Severity.CRITICAL, f"keyslot {number}", detail, advice)
    for number in segments:
        detail = "the data are not encrypted (cipher_null)"
        yield Finding("slot.null", Severity.CRITICAL, f"segment {number}", detail, advice)
    if not slots and not segments:
        yield on.ok("slot.null", "slots and data name a real cipher")


def check_unbound(on: HeaderSubject) -> Iterator[Finding]:
    """Tell slots that hold a key of nothing."""
    metadata = on.reading.metadata
    if metadata is None:
        return
    bound = {slot for digest in metadata.digests.values() if digest.segments for slot in digest.keyslots}
    for number, slot in sorted(metadata.keyslots.items()):
        if number not in bound and slot.type == "luks2":
            yield Finding("slot.unbound", Severity.INFO, f"keyslot {number}", "its key opens no part of the data")


def check_tokens(on: HeaderSubject) -> Iterator[Finding]:
    """Say whether tokens belong to slots, and whether a person can open the volume without a machine."""
    metadata = on.reading.metadata
    if metadata is None or not metadata.tokens:
        return
    well = True
    for number, token in sorted(metadata.tokens.items()):
        missing = token.keyslots - metadata.keyslots.keys()
        if token.keyslots and not missing:
            continue
        well = False
        what = f"names keyslot {min(missing)}, which does not exist" if missing else "belongs to no key slot"
        advice = f"remove it: cryptsetup token remove --token-id {number} {on.path}"
        yield Finding("token.orphan", Severity.WARNING, f"token {number}", f"the token ({token.type}) {what}", advice)
    tokens = _token_types(metadata)
    usable = on.reading.usable_keyslots
    if usable and all(any(kind != _RECOVERY for kind in tokens.get(number, ())) for number in usable):
        well = False
        kinds = sorted({kind for number in usable for kind in tokens[number]})
        detail = f"every usable slot hangs on a token ({', '.join(kinds)}): when that is lost, so are the data"
        advice = f"add a passphrase or a recovery key: {_ADD_KEY} {on.path}, or systemd-cryptenroll --recovery-key"
        yield Finding("token.orphan", Severity.WARNING, on.name, detail, advice)
    if well:
        yield on.ok("token.orphan", "tokens belong to slots, and there is a way in without them")


def _weigh(kdf: Kdf, policy: Policy) -> tuple[Severity, str]:
    if kdf.type == "pbkdf2":
        detail = f"pbkdf2, {kdf.hash}, {kdf.iterations} iterations"
        if kdf.iterations < policy.bad_pbkdf2_iterations:
            return Severity.CRITICAL, f"{detail}: below {policy.bad_pbkdf2_iterations}"
        if kdf.iterations < policy.min_pbkdf2_iterations:
            return Severity.WARNING, f"{detail}: below {policy.min_pbkdf2_iterations}"
        if kdf.hash == "sha1":
            return Severity.WARNING, f"{detail}: SHA-1 is out of date"
        return Severity.OK, detail
    detail = f"{kdf.type}, {kdf.memory_kib} KiB, {kdf.time} passes"
    if kdf.memory_kib < policy.min_argon2_memory_kib or kdf.time < policy.min_argon2_time:
        least = f"{policy.min_argon2_memory_kib} KiB or {policy.min_argon2_time} passes"
        return Severity.WARNING, f"{detail}: below {least}"
    if kdf.type == "argon2i":
        return Severity.INFO, f"{detail}: argon2id resists more kinds of attack"
    return Severity.OK, detail


def _token_types(metadata: Metadata) -> dict[int, list[str]]:
    types: dict[int, list[str]] = {}
    for token in metadata.tokens.values():
        for slot in token.keyslots:
            types.setdefault(slot, []).append(token.type)
    return types


def _numbers(numbers: list[int]) -> str:
    return ", ".join(str(number) for number in numbers)


CHECKS = (check_count, check_area, check_kdf, check_memory, check_null, check_unbound, check_tokens)
