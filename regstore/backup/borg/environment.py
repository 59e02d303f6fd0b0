"""The variables that borg runs with."""

from __future__ import annotations

import os
import secrets
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

from regstore.backup.borg.passphrase import without_passphrase
from regstore.state import state_directory

if TYPE_CHECKING:
    from pathlib import Path

_SSH = "ssh -oBatchMode=yes -oConnectTimeout=30 -oServerAliveInterval=30 -oServerAliveCountMax=4"
"""It asks nothing, and a host that does not answer is given up."""


def make_environment(files_cache: str = "", *, takes_lock: bool) -> dict[str, str]:
    """Return this process's variables with what borg needs; what the operator set for borg stays. No passphrase.

    Args:
        files_cache: which memory of files it uses; empty: the common one.
        takes_lock: whether borg may wait for a lock. borg locks its cache on this host even to look whether it was
            there before: who takes no lock has an empty one.
    """
    base = state_directory() / "borg"
    environment = without_passphrase(dict(os.environ))
    environment |= {"LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "BORG_EXIT_CODES": "modern"}
    if files_cache:
        environment.setdefault("BORG_FILES_CACHE_SUFFIX", files_cache)
    environment.setdefault("BORG_BASE_DIR", str(base))
    if not takes_lock:
        environment["BORG_CACHE_DIR"] = str(base / "no-cache")
    environment.setdefault("BORG_DISPLAY_PASSPHRASE", "no")
    environment.setdefault("BORG_RELOCATED_REPO_ACCESS_IS_OK", "no")
    environment.setdefault("BORG_RSH", _SSH)
    if "BORG_HOST_ID" not in environment and (identity := _read_host_id(base)):
        environment["BORG_HOST_ID"] = identity
    return environment


def _read_host_id(base: Path) -> str:
    """Return what borg's locks call this host, so that those of runs that died here are known to be stale.

    borg's own name for it is made of DNS and a network address, both of which may change. The host's name is part of
    this one: of two containers that share their state none may take the other's lock for a dead one. Empty where no
    state can be kept.
    """
    path = base / "host-id"
    with suppress(OSError):
        base.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = base / f"host-id.{secrets.token_hex(4)}.tmp"
        if not path.exists():
            temporary.write_text(secrets.token_hex(8))
            with suppress(FileExistsError):
                os.link(temporary, path)
            temporary.unlink()
        return f"{socket.gethostname()}@{path.read_text()}"
    return ""
