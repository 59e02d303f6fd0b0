"""Work in a child process with a deadline."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from regstore.luks import isolation
from regstore.luks.isolation import DeadlineError, IsolatedError, call, run
from support.luks_trees import fake_program


def sleep_without_ears() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(60)


def open_files() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


@pytest.fixture
def children() -> Callable[[], list[str]]:
    """The children of this process, but for the servers that other tests of it keep."""

    def now() -> list[str]:
        return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()

    others = now()
    return lambda: [child for child in now() if child not in others]


def test_the_answer_is_the_functions() -> None:
    assert call(lambda: {"pid": [1, "a", None]}, 5) == {"pid": [1, "a", None]}
    assert call(os.getpid, 5) != os.getpid()


def test_a_long_answer() -> None:
    assert len(call(lambda: "x" * 1_000_000, 5)) == 1_000_000


def test_an_error_comes_with_its_number() -> None:
    with pytest.raises(IsolatedError, match="No such file") as caught:
        call(lambda: os.stat("/nowhere").st_size, 5)

    assert caught.value.errno == errno.ENOENT


def test_another_error_comes_with_its_name() -> None:
    with pytest.raises(IsolatedError, match="ZeroDivisionError") as caught:
        call(lambda: 1 // 0, 5)

    assert caught.value.errno == 0


def test_a_child_that_dies_gives_no_answer() -> None:
    with pytest.raises(IsolatedError, match="without an answer"):
        call(lambda: os.kill(os.getpid(), signal.SIGKILL), 5)


def test_a_child_that_hangs_is_ended_at_the_deadline(children: Callable[[], list[str]]) -> None:
    before, started = open_files(), time.monotonic()

    with pytest.raises(DeadlineError):
        call(sleep_without_ears, 0.3)

    assert time.monotonic() - started < 10
    assert open_files() == before
    assert children() == []


def test_the_child_holds_none_of_our_files(tmp_path: Path) -> None:
    with open(tmp_path / "lock", "w") as file:
        number = file.fileno()
        with pytest.raises(IsolatedError) as caught:
            call(lambda: os.fstat(number).st_size, 5)

    assert caught.value.errno == errno.EBADF


def test_a_child_that_cannot_be_killed_is_left(
    monkeypatch: pytest.MonkeyPatch, children: Callable[[], list[str]]
) -> None:
    """As one in state D; its end is taken note of later."""
    monkeypatch.setattr(isolation, "REAP_SECONDS", 0.1)
    with monkeypatch.context() as patch:
        patch.setattr(isolation.os, "kill", lambda pid, number: None)
        started = time.monotonic()
        with pytest.raises(DeadlineError):
            call(lambda: time.sleep(60), 0.2)
        assert time.monotonic() - started < 10
    left = children()
    assert len(left) == 1

    os.kill(int(left[0]), signal.SIGKILL)
    deadline = time.monotonic() + 10
    while children() and time.monotonic() < deadline:
        call(lambda: None, 5)

    assert children() == []


def test_the_interpreter_ends_without_a_child_that_cannot_be_killed() -> None:
    program = """if True:
        import time
        from regstore.luks import isolation
        isolation.REAP_SECONDS = 0.1
        isolation.os.kill = isolation.signal.setitimer = lambda *_: None
        try:
            isolation.call(lambda: time.sleep(60), 0.2)
        except isolation.DeadlineError:
            print(*isolation._abandoned)
        """
    started = time.monotonic()

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    os.kill(int(done.stdout), signal.SIGKILL)
    assert time.monotonic() - started < 30


def test_a_program_tells(programs: Path) -> None:
    fake_program(programs, "teller", "out", 3, "\n first \nsecond")

    output = run(("teller", "a"), 5)

    assert (output.code, output.stdout, output.complaint) == (3, "out", "first")


def test_a_program_gets_no_secrets(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "s3cr3t")
    fake_program(programs, "teller", then="env")

    assert "s3cr3t" not in run(("teller",), 5).stdout


def test_a_program_that_hangs_is_ended_with_its_children(programs: Path, children: Callable[[], list[str]]) -> None:
    fake_program(programs, "hanger", then="trap '' TERM\nsleep 60 & echo $! > $0.pid\nwait\nsleep 60")
    before, started = open_files(), time.monotonic()

    with pytest.raises(DeadlineError, match=r"hanger did not end within 0\.5 s"):
        run(("hanger",), 0.5)

    assert time.monotonic() - started < 10
    assert open_files() == before
    assert children() == []
    state = Path(f"/proc/{(programs / 'hanger.pid').read_text().strip()}/stat")
    deadline = time.monotonic() + 5
    while state.exists() and " Z " not in state.read_text() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not state.exists() or " Z " in state.read_text()


def test_a_program_that_is_not_there() -> None:
    with pytest.raises(IsolatedError) as caught:
        run(("no-such-program",), 5)

    assert caught.value.errno == errno.ENOENT


def test_an_argument_that_no_program_can_get() -> None:
    with pytest.raises(IsolatedError, match="null"):
        run(("true", "a\0b"), 5)
