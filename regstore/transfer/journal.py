"""Which blobs a copy has made durable, so that one that died goes on where it was.

A small file in the state directory for each pair of ends: a line that names them, then 40 bytes a blob (digest, size),
or an upload in parts that was begun (the SHA-256 of its key and id, -1). Losing it costs time: what is at the target is
hashed again.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from regstore.digest import Digest
from regstore.state import state_directory, state_name

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from regstore_drivers.base import MultipartUpload

_RECORD = struct.Struct(">32sq")
_UPLOAD = -1


class Journal:
    """The journal of one copy.

    Args:
        path: its file, or None to keep it in memory only.
        purpose: what is copied where; a journal of another purpose is begun anew.
    """

    def __init__(self, path: Path | None, purpose: dict[str, str]) -> None:
        self._path = path
        self._head = json.dumps(purpose, sort_keys=True).encode() + b"\n"
        self._file = -1
        self._lock = threading.Lock()
        self.done: dict[Digest, int] = {}
        """Digest to bytes of what is durable at the target. Only SHA-256 digests are kept."""
        self.uploads: set[bytes] = set()
        """The names of uploads in parts that were begun; see `has_begun`."""
        self.is_resumed = self._load()

    def _load(self) -> bool:
        """Read what a run that died left; False when there is nothing."""
        if self._path is None:
            return False
        with suppress(OSError):
            data = self._path.read_bytes()
            if data.startswith(self._head):
                body = data[len(self._head) :]
                whole = len(body) - len(body) % _RECORD.size  # a run that died may have left half a record
                for name, size in _RECORD.iter_unpack(body[:whole]):
                    if size == _UPLOAD:
                        self.uploads.add(name)
                    else:
                        self.done[Digest(name)] = size
                return True
        return False

    def add(self, blobs: Iterable[tuple[Digest, int]]) -> None:
        """Note blobs that are durable at the target. Where nothing can be written nothing is noted."""
        records = b""
        for digest, size in blobs:
            if len(digest) == 32:
                self.done[digest] = size
                records += _RECORD.pack(digest, size)
        if records:
            self._append(records)

    def note_upload(self, upload: MultipartUpload) -> None:
        """Note an upload in parts of this copy before its first part is sent. Safe to call from several threads."""
        name = _name_of(upload)
        self.uploads.add(name)
        self._append(_RECORD.pack(name, _UPLOAD))

    def has_begun(self, upload: MultipartUpload) -> bool:
        """Tell whether an upload is one of this copy."""
        return _name_of(upload) in self.uploads

    def _append(self, records: bytes) -> None:
        if self._path is None:
            return
        with suppress(OSError), self._lock:
            if self._file == -1:
                self._open()  # with what was just noted
                return
            os.write(self._file, records)
            os.fsync(self._file)

    def begin(self) -> None:
        """Note that the copy has begun, before it changes anything."""
        with suppress(OSError):
            self._open()

    def _open(self) -> None:
        """Write the head and what is known, whole, and append from then on."""
        if self._file != -1 or self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = self._path.with_suffix(".tmp")
        with open(temporary, "wb") as file:
            uploads = [(name, _UPLOAD) for name in self.uploads]
            file.write(self._head + b"".join([_RECORD.pack(*item) for item in [*self.done.items(), *uploads]]))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self._path)
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)

    def close(self) -> None:
        """Leave it for a later run."""
        if self._file != -1:
            os.close(self._file)
            self._file = -1

    def finish(self) -> None:
        """Forget it: the copy is done."""
        self.close()
        if self._path is not None:
            with suppress(OSError):
                self._path.unlink(missing_ok=True)


def _name_of(upload: MultipartUpload) -> bytes:
    return hashlib.sha256(f"{upload.key}\0{upload.upload_id}".encode()).digest()


def open_journal(kind: str, target: str, purpose: dict[str, str], directory: Path | None = None) -> Journal:
    """Open the journal of a copy.

    Args:
        kind: what copies, such as `restore`.
        target: the location that is written to, without credentials.
        purpose: what is copied.
        directory: where it lies; None: in the state directory.
    """
    path = (directory or state_directory()) / f"{state_name(target)}.{kind}.journal"
    return Journal(path, {"kind": kind, "target": target, **purpose})
