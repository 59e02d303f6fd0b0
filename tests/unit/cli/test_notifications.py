"""What is told of a night that an operator sleeps through: through the command line, on a real volume."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from regstore.cli.notifications import tell
from regstore.lock import hold_lock
from regstore.notify import Report
from regstore_drivers.url import open_driver
from support.collection import Done, run_cli
from support.images import layers
from support.receivers import Receiver, Sendmail, receiving
from support.volume import VolumeWriter


class Host:
    """A volume, a receiver for pings and webhooks, a sendmail, and a configuration that names all of them."""

    def __init__(self, base: Path, receiver: Receiver) -> None:
        self.base = base
        self.volume = base / "volume"
        VolumeWriter(self.volume).push_image("app", "v1", layers(1, "app"))
        self.receiver = receiver
        self.sendmail = Sendmail(base / "bin")
        self.sendmail.install()
        self.file = base / "config.toml"
        self.configure('steps = ["gc"]')

    def configure(self, *night: str, channels: bool = True) -> None:
        url = self.receiver.url
        lines = ["[registry.main]", f'location = "{self.volume}"', "[nightly.main]", *night]
        if channels:
            lines += [f'ping_url = "{url}/ping"', f'webhook_url = "{url}/hook"', 'mail_to = "ops@example.org"']
        self.file.write_text("\n".join(lines))

    def run(self, *words: object) -> Done:
        return run_cli(self.base / "state", "--config", self.file, "run", *words)

    @property
    def told(self) -> list[str]:
        """What the receiver was asked, without the secret."""
        return [path.removeprefix("/secret-path/") for path in self.receiver.paths]

    @property
    def subjects(self) -> list[str]:
        """What stands in the subjects of mails behind the host."""
        return [str(mail["Subject"]).partition(": ")[2] for mail in self.sendmail.mails]


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    with receiving() as receiver:
        host = Host(tmp_path, receiver)
        monkeypatch.setenv("PATH", f"{host.sendmail.directory}:{os.environ['PATH']}")
        yield host


class TestNight:
    def test_a_good_one_is_told_to_the_monitor_only(self, host: Host) -> None:
        done = host.run("nightly", "-q", "main").expect(0)
        assert (done.stdout, done.stderr) == ("", "")
        assert host.told == ["ping/start", "ping/0"]
        assert host.subjects == []

    def test_a_good_one_where_that_is_wanted(self, host: Host) -> None:
        host.configure('steps = ["gc"]', 'notify = "always"')
        host.run("nightly", "-q", "main").expect(0)
        assert host.told == ["ping/start", "ping/0", "hook"]
        assert host.subjects == ["nightly main: ok"]

    def test_findings(self, host: Host) -> None:
        for data in host.volume.rglob("data"):
            data.write_bytes(b"rot")
        host.configure('steps = ["fsck", "report"]')
        done = host.run("nightly", "-q", "main").expect(1)
        assert done.stderr == "regstore: warning: nightly main: findings (fsck, report)\n"
        assert host.told == ["ping/start", "ping/1", "hook"]
        document = host.receiver.documents_of("hook")[0]
        assert document["outcome"] == "findings"
        assert document["text"].endswith(": nightly main: findings (fsck, report)")
        assert "manifest-corrupt" in document["steps"][0]["output_tail"]
        (mail,) = host.sendmail.mails
        assert host.subjects == ["nightly main: findings (fsck, report)"]
        assert mail["To"] == "ops@example.org"
        assert "manifest-corrupt" in mail.get_content()

    def test_a_failed_step(self, host: Host) -> None:
        (host.volume / "docker").rename(host.volume / "gone")
        done = host.run("nightly", "-q", "main").expect(4)
        assert done.stderr == "regstore: nightly main: failed (gc)\n"
        assert host.told == ["ping/start", "ping/4", "hook"]
        assert host.subjects == ["nightly main: failed (gc)"]
        assert host.receiver.documents_of("hook")[0]["steps"][0]["exit_code"] == 2

    def test_another_night_still_runs(self, host: Host) -> None:
        directory = host.base / "state" / "regstore"
        directory.mkdir(parents=True)
        with hold_lock(open_driver(str(directory)), "another night", key="nightly-main.lock"):
            host.run("nightly", "main").expect_error(5, "another night")
        assert host.told == ["ping/start", "ping/5", "hook"]
        document = host.receiver.documents_of("hook")[0]
        assert (document["outcome"], document["steps"]) == ("locked", [])
        assert "another night" in document["error"]
        assert host.subjects == ["nightly main: locked"]
        assert "another night" in host.sendmail.mails[0].get_content()

    def test_what_cannot_be_planned(self, host: Host) -> None:
        host.configure('steps = ["sleep"]')
        host.run("nightly", "main").expect_error(2, "sleep")
        assert host.told == ["ping/start", "ping/2", "hook"]
        assert "sleep" in host.receiver.documents_of("hook")[0]["error"]
        assert host.subjects == ["nightly main: failed"]

    def test_a_state_that_cannot_be_written(self, host: Host) -> None:
        (host.base / "state").write_text("a file")
        assert host.run("nightly", "main").code == 4
        assert host.told == ["ping/start", "ping/4", "hook"]

    def test_a_dry_run_tells_nobody(self, host: Host) -> None:
        host.run("nightly", "--dry-run", "main").expect(0)
        assert host.told == []

    def test_a_night_that_is_stopped(self, host: Host) -> None:
        """systemd stops a unit with SIGTERM: that is told too."""
        fifo = host.base / "blocks"
        os.mkfifo(fifo)
        host.configure('steps = ["metrics"]', f'textfile = "{fifo}"')  # waits for a reader
        with subprocess.Popen(
            [sys.executable, "-m", "regstore", "--config", host.file, "run", "nightly", "-q", "main"],
            env={**os.environ, "XDG_STATE_HOME": str(host.base / "state")},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            while not host.told:
                time.sleep(0.05)
            time.sleep(1)
            process.send_signal(signal.SIGTERM)
            time.sleep(1)
            # Not waiting: on a busy machine the step may have ended before it opened its end.
            reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
            _, said = process.communicate(timeout=60)
            os.close(reader)
        assert process.returncode == 143
        assert "[interrupted]" in said
        assert host.told == ["ping/start", "ping/143", "hook"]
        assert host.subjects[0].startswith("nightly main: interrupted")


class TestTrouble:
    """A message that does not arrive is a warning, and no other channel or exit code depends on it."""

    def test_a_receiver_that_refuses(self, host: Host) -> None:
        host.receiver.status = 500
        host.configure('steps = ["gc"]', 'notify = "always"')
        done = host.run("nightly", "-q", "main").expect(0)
        warnings = [line for line in done.stderr.splitlines() if line.startswith("regstore: ")]
        assert [line.split()[2] for line in warnings] == ["ping", "ping", "webhook"]
        assert all("was not told: http://127.0.0.1:" in line for line in warnings)
        assert "secret" not in done.stderr
        assert host.subjects == ["nightly main: ok"]

    def test_no_mail(self, host: Host) -> None:
        host.sendmail.install("echo 'queue is full' >&2; exit 75")
        host.configure('steps = ["gc"]', 'notify = "always"')
        done = host.run("nightly", "-q", "main").expect(0)
        assert "mail was not told" in done.stderr
        assert "ended with 75: queue is full" in done.stderr
        assert host.told == ["ping/start", "ping/0", "hook"]

    def test_a_channel_that_cannot_even_try(self, capsys: pytest.CaptureFixture[str]) -> None:
        class Broken:
            name = target = "broken"

            def begin(self) -> str:
                return ""

            def end(self, _: Report) -> str:
                raise RuntimeError("can't start new thread")

            test = end

        told: list[Report] = []

        class Whole(Broken):
            def end(self, report: Report) -> str:
                told.append(report)
                return ""

        tell([Broken(), Whole()], Report("host", "main", "/srv", time.time(), 0.0, 4))
        assert "broken was not told: RuntimeError" in capsys.readouterr().err
        assert len(told) == 1

    def test_a_receiver_that_hangs(self, host: Host) -> None:
        host.receiver.hangs = True
        host.configure('steps = ["gc"]')
        started = time.monotonic()
        done = host.run("nightly", "-q", "main").expect(0)
        assert done.stderr.count("does not answer") == 2
        assert 15 < time.monotonic() - started < 60


class TestTest:
    def test_every_channel(self, host: Host) -> None:
        lines = host.run("test-notifications").expect(0).stdout.splitlines()
        assert [line.split()[0::3] for line in lines[1:]] == [["main", "ok"]] * 3
        assert "secret" not in "".join(lines)
        assert host.told == ["ping/log", "hook"]
        assert host.receiver.documents_of("hook")[0]["outcome"] == "test"
        assert host.subjects == ["nightly main: test"]

    def test_json_and_a_failure(self, host: Host) -> None:
        host.sendmail.install("exit 1")
        channels = host.run("test-notifications", "--json", "main").expect(4).json["channels"]
        assert [channel["channel"] for channel in channels] == ["ping", "webhook", "mail"]
        assert [channel["problem"] is None for channel in channels] == [True, True, False]
        assert "failed: " in host.run("test-notifications", "main").expect(4).stdout

    def test_nothing_to_test(self, host: Host) -> None:
        host.configure('steps = ["gc"]', channels=False)
        host.run("test-notifications").expect_error(2, "[nightly.main]", "mail_to")
        host.run("test-notifications", "other").expect_error(2, "[nightly.other]")

    def test_nothing_is_run(self, host: Host) -> None:
        host.run("test-notifications").expect(0)
        assert not list((host.base / "state").rglob("*.jobs.json"))


class TestConfiguration:
    @pytest.mark.parametrize(
        ("line", "words"),
        [
            ('notify = "never"', "failure, always"),
            ('mail_to = "a@b\\nBcc: c"', "no address"),
            ('mail_to = "-oQ/tmp"', "no address"),
            ('mail_to = ["a@b, c@d"]', "no address"),
            ('mail_to = "Ops <ops@example.org>"', "no address"),
            ('mail_to = "ops@exämple.org"', "no address"),
            ("mail_to = 3", "mail_to cannot be 3"),
            ('ping_url = "http://x"\nping_url_file = "/x"', "remove one"),
            ('webhook_url = "http://x"\nwebhook_url_file = "/x"', "remove one"),
            ('webhok_url = "http://x"', "webhook_url"),
        ],
    )
    def test_mistakes(self, host: Host, line: str, words: str) -> None:
        host.configure(line, channels=False)
        host.run("nightly", "main").expect_error(2, words)

    def test_what_is_right(self, host: Host) -> None:
        host.configure('mail_to = ["root", "o.p+s@mail.example.org"]', 'notify = "failure"', channels=False)
        assert len(host.run("test-notifications", "--json").expect(0).json["channels"]) == 1
        assert host.sendmail.mails[0]["To"] == "root, o.p+s@mail.example.org"
