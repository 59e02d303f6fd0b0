"""What an ended run of borg means: old codes, new codes, and messages."""

from __future__ import annotations

import pytest

from regstore.backup.borg.outcome import Message, Outcome, raise_error
from regstore.errors import LockedError, RefusedError, RegstoreError, StorageFailedError, UsageError

TRACEBACK = """\
Local Exception
Traceback (most recent call last):
  File "/usr/lib/python3/dist-packages/borg/archiver.py", line 5213, in main
    exit_code = archiver.run(args)
OSError: [Errno 28] No space left on device

Platform: Linux host 6.1.0
Borg: 1.2.4  Python: CPython 3.11.2
"""
SEGMENT_GONE = "FileNotFoundError: [Errno 2] No such file or directory: '/srv/backup/data/0/13'"


def failed(code: int, identity: str = "", text: str = "told by borg") -> Outcome:
    return Outcome(code, [Message("ERROR", identity, text)])


@pytest.mark.parametrize(
    ("outcome", "kind", "slug"),
    [
        (failed(2, "Repository.DoesNotExist"), UsageError, "store-missing"),
        (failed(13), UsageError, "store-missing"),
        (failed(2, "Repository.InvalidRepository"), UsageError, "store-missing"),
        (failed(2, "Repository.AlreadyExists"), UsageError, "store-exists"),
        (failed(10), UsageError, "store-exists"),
        (failed(2, "Repository.PathAlreadyExists"), RefusedError, "store-not-empty"),
        (failed(2, "PassphraseWrong"), StorageFailedError, "key-wrong"),
        (failed(52), StorageFailedError, "key-wrong"),
        (failed(2, "NoPassphraseFailure"), StorageFailedError, "key-wrong"),
        (failed(50), StorageFailedError, "key-wrong"),
        (failed(2, "LockTimeout"), LockedError, "locked"),
        (failed(73), LockedError, "locked"),
        (failed(2, "Exception", TRACEBACK), StorageFailedError, "full"),
        (failed(2, "Repository.InsufficientFreeSpaceError"), StorageFailedError, "full"),
        (failed(2, "Exception", "OSError: [Errno 122] Disk quota exceeded"), StorageFailedError, "full"),
        (failed(2, "ConnectionClosedWithHint"), StorageFailedError, "borg-failed"),
        (failed(2, "Archive.AlreadyExists"), StorageFailedError, "borg-failed"),
        (failed(1, "", "file changed while we backed it up"), StorageFailedError, "borg-failed"),
        (failed(3), StorageFailedError, "borg-failed"),
        (failed(-9), StorageFailedError, "borg-failed"),
    ],
)
def test_errors_by_code_and_id(outcome: Outcome, kind: type[RegstoreError], slug: str) -> None:
    with pytest.raises(kind) as caught:
        raise_error(outcome, "borg:/backup", "list")

    assert caught.value.code == slug
    assert "borg:/backup" in str(caught.value)
    assert caught.value.hint or slug == "store-exists"


def test_a_lock_that_cannot_be_made_is_no_lock_of_another_run() -> None:
    """As on a file system that is mounted read-only."""
    outcome = failed(2, "LockFailed", "Failed to create/acquire the lock /b/lock.exclusive ([Errno 30] Read-only).")

    with pytest.raises(StorageFailedError, match="Read-only"):
        raise_error(outcome, "borg:/b", "store in")


def test_a_lock_is_told_with_its_holder() -> None:
    with pytest.raises(LockedError, match="pid 12 on somewhere"):
        raise_error(failed(73), "borg:/b", "store in", ["pid 12 on somewhere"])


def test_of_a_traceback_the_error_is_told() -> None:
    assert failed(2, "Exception", TRACEBACK).text == "OSError: [Errno 28] No space left on device"


@pytest.mark.parametrize(
    "outcome",
    [
        failed(2, "IntegrityError", "Data integrity error: Segment entry checksum mismatch [segment 5, offset 8]"),
        failed(90),
        failed(2, "Repository.ObjectNotFound", "Object with key 00 not found in repository /b."),
        failed(2, "Archive.DoesNotExist"),
        failed(31),
        failed(2, "Exception", SEGMENT_GONE),
        failed(2, "Exception", "OSError: [Errno 5] Input/output error"),
    ],
)
def test_damage_is_told_from_failures(outcome: Outcome) -> None:
    assert outcome.is_damage


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome(0, [Message("WARNING", "", "Data integrity error: once")]),
        failed(1, "", "Include pattern 'x' never matched."),
        failed(2, "ConnectionClosed", "Connection closed by remote host"),
        failed(73, "LockTimeout", "Failed to create/acquire the lock /srv/data/b/lock.exclusive (timeout)."),
        failed(2, "Exception", "FileNotFoundError: [Errno 2] No such file or directory: '/srv/data/config'"),
        failed(-13),
    ],
)
def test_failures_are_no_damage(outcome: Outcome) -> None:
    assert not outcome.is_damage


@pytest.mark.parametrize(
    ("code", "expected"), [(0, False), (1, True), (2, False), (99, False), (100, True), (107, True), (128, False)]
)
def test_warnings_by_old_codes_and_new_ones(code: int, expected: bool) -> None:
    assert Outcome(code).is_warning is expected


def test_a_run_without_messages_is_told_by_its_code() -> None:
    assert Outcome(77).text == "it ended with 77"
