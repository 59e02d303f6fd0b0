"""Whether a key file opens a volume: the only proof of it. The key is read by cryptsetup, never here."""

from __future__ import annotations

import errno
import re
from typing import TYPE_CHECKING

from regstore.luks.findings import Finding, Severity
from regstore.luks.host import available_bytes
from regstore.luks.isolation import DeadlineError, IsolatedError, run
from regstore.wording import human_bytes, plain

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from regstore.luks.metadata import Metadata
    from regstore.luks.sysroot import Sysroot

_SECONDS = 120.0
_NO_MATCH, _NO_MEMORY = 2, 3


def check_opens(
    key_file: Path, device: Path, header: Path | None, metadata: Metadata, sysroot: Sysroot
) -> Iterator[Finding]:
    """slot.opens: ask cryptsetup, which maps nothing and, without its locks, repairs nothing."""
    subject = plain(str(key_file))
    needed = max((slot.kdf.memory_kib * 1024 for slot in metadata.bound_keyslots if slot.kdf), default=0)
    available = available_bytes(sysroot)
    if available is not None and needed > available:
        detail = f"not tried: argon2 takes {human_bytes(needed)}, and {human_bytes(available)} are free"
        yield Finding("slot.opens", Severity.UNKNOWN, subject, detail)
        return
    command = ["cryptsetup", "--disable-locks", "--verbose", "open", "--test-passphrase", "--batch-mode"]
    # Without this a token may open it, and the key file would get the credit.
    command += ["--token-type", "none-of-the-tokens"]
    command += ["--key-file", str(key_file), *(["--header", str(header)] if header else []), "--", str(device)]
    try:
        answer = run(command, _SECONDS)
    except DeadlineError as error:
        yield Finding("slot.opens", Severity.UNKNOWN, subject, plain(str(error)))
        return
    except IsolatedError as error:
        detail = "there is no cryptsetup here" if error.errno == errno.ENOENT else plain(str(error))
        yield Finding("slot.opens", Severity.UNKNOWN, subject, detail)
        return
    slot = re.search(r"Key slot ([0-9]+) unlocked", answer.stdout + answer.stderr)
    if answer.code == 0:
        which = f"keyslot {slot[1]}" if slot else "a key slot"
        yield Finding("slot.opens", Severity.OK, subject, f"it opens {which}")
    elif answer.code == _NO_MATCH:
        yield Finding(
            "slot.opens",
            Severity.CRITICAL,
            subject,
            "it opens no key slot",
            "find the key that does, or add this one with another passphrase: cryptsetup luksAddKey; a newline at the "
            "end of the file is part of the key",
        )
    elif answer.code == _NO_MEMORY:
        yield Finding(
            "slot.opens",
            Severity.CRITICAL,
            subject,
            "cryptsetup had not enough memory to try",
            "stretch the slot anew with less memory: cryptsetup luksConvertKey --pbkdf-memory KIB",
        )
    else:
        yield Finding("slot.opens", Severity.UNKNOWN, subject, f"cryptsetup: {plain(answer.complaint)}")
