"""How borg is run: what it gets, what is read of it, and how it is stopped."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from regstore.backup.borg.outcome import Message
from regstore.backup.borg.run import Borg
from regstore.errors import InterruptedRunError
from regstore.work import Cancel

MakeBorg = Callable[[str], Borg]

TELL = """\
fd = int(os.environ["BORG_PASSPHRASE_FD"])
print(json.dumps({
    "arguments": sys.argv[1:],
    "passphrase": os.read(fd, 100).decode(),
    "stdin": sys.stdin.read(),
    "cwd": os.getcwd(),
    "environment": dict(os.environ),
    "session": os.getsid(0),
}))
"""


def test_the_passphrase_comes_by_a_pipe_and_by_nothing_else(
    make_borg: MakeBorg, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BORG_PASSPHRASE", "of somebody else")
    monkeypatch.setenv("BORG_PASSCOMMAND", "false")
    borg = make_borg(TELL)

    for _ in range(2):  # each call has a pipe of its own
        told = json.loads(borg.run(["list", "/r"]).output)
        assert told["passphrase"] == "secret\n"
        assert "secret" not in str(told["arguments"]) + str(told["environment"])
        assert {"BORG_PASSPHRASE", "BORG_PASSCOMMAND"}.isdisjoint(told["environment"])


def test_nothing_can_be_asked(make_borg: MakeBorg) -> None:
    told = json.loads(make_borg(TELL).run(["list", "/r"]).output)

    assert told["stdin"] == ""
    assert told["session"] != os.getsid(0)  # no terminal either
    assert "BatchMode=yes" in told["environment"]["BORG_RSH"]


def test_arguments_and_variables(make_borg: MakeBorg, tmp_path: Path, state_home: Path) -> None:
    told = json.loads(make_borg(TELL).run(["list", "/r"], cwd=str(tmp_path), files_cache="abc").output)

    assert told["arguments"] == ["--log-json", "--lock-wait", "7", "list", "/r"]
    assert told["cwd"] == str(tmp_path)
    expected = {
        "LANG": "C.UTF-8",
        "BORG_EXIT_CODES": "modern",
        "BORG_FILES_CACHE_SUFFIX": "abc",
        "BORG_BASE_DIR": str(state_home / "regstore" / "borg"),
        "BORG_RELOCATED_REPO_ACCESS_IS_OK": "no",
    }
    assert expected.items() <= told["environment"].items()


def test_who_takes_no_lock_waits_for_none_of_the_cache_either(
    make_borg: MakeBorg, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BORG_CACHE_DIR", "/of/the/operator")
    borg = make_borg(TELL)

    told = json.loads(borg.run(["list", "/r"], takes_lock=False).output)
    with borg.stream(["export-tar", "/r::a", "-"]) as (stdout, _):
        streaming = json.loads(stdout.read())
    writing = json.loads(borg.run(["create", "/r::a"]).output)

    assert told["arguments"][3:] == ["list", "--bypass-lock", "/r"]
    assert streaming["arguments"][3:] == ["export-tar", "--bypass-lock", "/r::a", "-"]
    assert writing["arguments"][3:] == ["create", "/r::a"]
    assert told["environment"]["BORG_CACHE_DIR"] == streaming["environment"]["BORG_CACHE_DIR"] != "/of/the/operator"
    assert writing["environment"]["BORG_CACHE_DIR"] == "/of/the/operator"


def test_paths_are_fed_one_by_one(make_borg: MakeBorg) -> None:
    made: list[str] = []

    def paths() -> Iterator[str]:
        for name in ("a", "b b", "c\nc"):
            made.append(name)
            yield name

    outcome = make_borg("sys.stdout.buffer.write(sys.stdin.buffer.read())").run(["create"], paths=paths())

    assert outcome.output == b"a\0b b\0c\nc\0"
    assert made == ["a", "b b", "c\nc"]


def test_a_program_that_reads_no_further_is_no_error_here(make_borg: MakeBorg) -> None:
    outcome = make_borg("sys.exit(2)").run(["create"], paths=(f"path {number}" for number in range(100_000)))

    assert outcome.code == 2


def test_the_log_is_read_and_what_is_no_json_is_passed_over(make_borg: MakeBorg) -> None:
    counts: list[int] = []
    files: list[tuple[str, str]] = []
    borg = make_borg(
        "def log(**line): print(json.dumps(line), file=sys.stderr)\n"
        "sys.stdin.read()\n"
        "print('Enter passphrase for key /r: ', end='', file=sys.stderr)\n"
        "log(type='log_message', levelname='ERROR', msgid='PassphraseWrong', message='wrong')\n"
        "print('{no json', file=sys.stderr)\n"
        "log(type='archive_progress', original_size=10)\n"
        "log(type='archive_progress', original_size=25)\n"
        "log(type='archive_progress', finished=True)\n"
        "log(type='file_status', status='A', path='some file')\n"
        "log(type='of the future')\n"
    )

    outcome = borg.run(["create"], paths=[], on_count=counts.append, on_file=lambda *seen: files.append(seen))

    assert outcome.messages == [Message("ERROR", "PassphraseWrong", "wrong")]
    assert counts == [10, 15]
    assert files == [("A", "some file")]


def test_who_asks_to_stop_does_not_wait_for_borg(make_borg: MakeBorg, tmp_path: Path) -> None:
    mark = tmp_path / "rolled-back"
    borg = make_borg(
        "import signal\n"
        f"signal.signal(signal.SIGTERM, lambda *_: (open({str(mark)!r}, 'w').close(), sys.exit(2)))\n"
        "time.sleep(60)\n"
    )
    cancel = Cancel()
    threading.Timer(0.7, cancel.request).start()
    started = time.monotonic()

    with pytest.raises(InterruptedRunError):
        borg.run(["create"], paths=(str(number) for number in range(1_000_000)), cancel=cancel)

    assert time.monotonic() - started < 20
    assert mark.exists()


def test_a_stream_that_is_left_early_ends_the_program(make_borg: MakeBorg) -> None:
    borg = make_borg("while True: sys.stdout.buffer.write(b'x' * 65536)")

    with borg.stream(["export-tar"]) as (stdout, outcome):
        assert stdout.read(10) == b"x" * 10

    assert outcome.code != 0


def test_this_host_keeps_its_name_among_locks(make_borg: MakeBorg, monkeypatch: pytest.MonkeyPatch) -> None:
    borg = make_borg(TELL)
    names = {json.loads(borg.run(["list"]).output)["environment"]["BORG_HOST_ID"] for _ in range(3)}
    assert len(names) == 1
    assert len(names.pop().partition("@")[2]) == 16

    monkeypatch.setenv("BORG_HOST_ID", "of the operator")
    assert json.loads(borg.run(["list"]).output)["environment"]["BORG_HOST_ID"] == "of the operator"


def test_without_a_place_for_state_borg_names_this_host_itself(
    make_borg: MakeBorg, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))

    assert "BORG_HOST_ID" not in json.loads(make_borg(TELL).run(["list"]).output)["environment"]
