"""Reports and the channels that carry them: a real server, real programs, and everything that can go wrong."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from regstore.configuration import Nightly
from regstore.notify import Report, mail, open_channels
from regstore.notify.mail import Mail, make_message
from regstore.notify.ping import Ping
from regstore.notify.post import post, shown_url
from regstore.notify.webhook import Webhook
from support.receivers import Receiver, Sendmail, receiving, wait_until_gone


def step(name: str, outcome: str, code: int | None, output: str = "") -> dict[str, Any]:
    return {
        "step": name, "command": ["regstore", name], "outcome": outcome, "exit_code": code, "duration_seconds": 1.0,
        "output": output,
    }  # fmt: skip


GOOD = Report("host", "main", "/srv", 1_800_000_000.0, 61.5, 0, [step("fsck", "ok", 0), step("gc", "ok", 0)])
FINDINGS = replace(GOOD, exit_code=1, steps=[step("fsck", "ok", 0), step("gc", "findings", 1, "bad\n" * 2000)])
FAILED = replace(
    GOOD,
    exit_code=4,
    steps=[
        step("fsck", "findings", 1),
        step("backup", "failed", 4),
        step("gc", "locked", 5),
        step("x", "left out", None),
    ],
    text="a summary\nof lines",
)
LOCKED = replace(GOOD, exit_code=5, steps=[], error="another night\nstill runs")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


@pytest.fixture
def sendmail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sendmail:
    made = Sendmail(tmp_path / "bin")
    made.install()
    monkeypatch.setenv("PATH", f"{made.directory}:{os.environ['PATH']}")
    return made


class TestReport:
    @pytest.mark.parametrize(
        ("report", "title"),
        [
            (GOOD, "nightly main: ok"),
            (FINDINGS, "nightly main: findings (gc)"),
            (FAILED, "nightly main: failed (backup, gc)"),
            (LOCKED, "nightly main: locked"),
            (replace(FAILED, exit_code=143), "nightly main: interrupted (backup, gc)"),
            (replace(GOOD, exit_code=2, steps=[]), "nightly main: failed"),
            (replace(GOOD, is_test=True), "nightly main: test"),
        ],
        ids=["good", "findings", "failed", "locked", "interrupted", "usage", "test"],
    )
    def test_the_title(self, report: Report, title: str) -> None:
        assert report.title == title
        assert report.subject == f"[regstore] host: {title}"

    def test_the_line_is_one(self) -> None:
        assert LOCKED.line == "[regstore] host: nightly main: locked: another night\\nstill runs"
        assert len(replace(LOCKED, error="x" * 10000).line) < 1000

    def test_the_document(self) -> None:
        document = json.loads(json.dumps(FINDINGS.to_json()))
        assert document["schema_version"] == 1
        assert (document["host"], document["registry"], document["location"]) == ("host", "main", "/srv")
        assert document["started_at"] == "2027-01-15T08:00:00+00:00"
        assert (document["duration_seconds"], document["exit_code"], document["outcome"]) == (61.5, 1, "findings")
        assert document["text"] == FINDINGS.line
        assert document["error"] is None
        ok, bad = document["steps"]
        assert (bad["step"], bad["outcome"], bad["exit_code"]) == ("gc", "findings", 1)
        assert "output" not in bad
        assert len(bad["output_tail"]) == 2000
        assert ok["output_tail"] == ""


class TestPost:
    @pytest.mark.parametrize(
        ("url", "shown"),
        [
            ("https://hooks.example.org/services/secret", "https://hooks.example.org/..."),
            ("http://user:secret@127.0.0.1:8000/secret?x=secret", "http://127.0.0.1:8000/..."),
            ("http://[::1]:80/secret", "http://[::1]:80/..."),
            ("file:///etc/secret", "(no http or https URL)"),
            ("http://host:port/secret", "(no http or https URL)"),
            ("http://[secret", "(no http or https URL)"),
            ("secret", "(no http or https URL)"),
            ("http:///secret", "(no http or https URL)"),
        ],
    )
    def test_no_secret_is_shown(self, url: str, shown: str) -> None:
        assert shown_url(url) == shown

    @pytest.mark.parametrize(
        "url",
        [
            "file:///etc/secret",
            "ftp://127.0.0.1/secret",
            "http://host:port/secret",
            "http://[secret",
            "secret",
            "http://127.0.0.1:1/secret",
            "http://127.0.0.1:1/a secret",
            "http://127.0.0.1:1/\x7fsecret",
            "http://nowhere.invalid/secret",
            "http://user:secret@127.0.0.1:1/x",
            "http://" + "a" * 300 + ".invalid/secret",
        ],
    )
    def test_what_cannot_be_asked(self, url: str) -> None:
        problem = post(url, b"", "text/plain")
        assert problem
        assert "secret" not in problem

    @pytest.mark.parametrize("status", [400, 404, 500, 503])
    def test_a_server_that_refuses(self, receiver: Receiver, status: int) -> None:
        receiver.status = status
        problem = post(receiver.url, b"x", "text/plain")
        assert f"/... answers {status} " in problem
        assert "secret" not in problem

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    @pytest.mark.parametrize("target", ["file:///etc/passwd", "http://127.0.0.1:1/secret", "/other"])
    def test_a_redirect_is_not_followed(self, receiver: Receiver, status: int, target: str) -> None:
        receiver.status, receiver.headers = status, {"Location": target}
        problem = post(receiver.url, b"x", "text/plain")
        assert f"answers {status} and points to" in problem
        assert "secret" not in problem
        assert len(receiver.requests) == 1

    def test_a_server_that_hangs(self, receiver: Receiver) -> None:
        receiver.hangs = True
        started = time.monotonic()
        problem = post(receiver.url, b"x", "text/plain", 0.5)
        assert "does not answer" in problem
        assert time.monotonic() - started < 5

    def test_a_server_that_trickles(self, receiver: Receiver) -> None:
        """Each letter is new life to the time of a socket."""
        receiver.trickles = True
        started = time.monotonic()
        problem = post(receiver.url, b"x", "text/plain", 1.0)
        assert problem.endswith("does not answer within 1 seconds")
        assert time.monotonic() - started < 5

    def test_a_server_that_speaks_something_else(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:

            def answer() -> None:
                connection, _ = server.accept()
                with connection:
                    connection.recv(1000)
                    connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")

            thread = threading.Thread(target=answer)
            thread.start()
            problem = post(f"http://127.0.0.1:{server.getsockname()[1]}/secret", b"x", "text/plain")
            thread.join()
        assert problem.startswith("http://127.0.0.1:")
        assert "secret" not in problem


class TestPing:
    def test_begin_end_and_test(self, receiver: Receiver) -> None:
        ping = Ping(f"{receiver.url}/?x=1")
        assert (ping.begin(), ping.end(FAILED), ping.test(GOOD)) == ("", "", "")
        assert receiver.paths == ["/secret-path/start", "/secret-path/4", "/secret-path/log"]
        queries = {path.partition("?")[2] for _, path, _, _ in receiver.requests}
        assert len(queries) == 1
        assert queries.pop().endswith("&x=1")
        assert receiver.requests[1][3] == b"a summary\nof lines"

    def test_without_a_summary_the_line(self, receiver: Receiver) -> None:
        Ping(receiver.url).end(LOCKED)
        assert receiver.paths == ["/secret-path/5"]
        assert receiver.requests[0][3].decode() == LOCKED.line

    def test_two_runs_differ(self, receiver: Receiver) -> None:
        for _ in range(2):
            Ping(receiver.url).begin()
        assert len({path for _, path, _, _ in receiver.requests}) == 2


class TestWebhook:
    def test_failures_only_unless_told_otherwise(self, receiver: Receiver) -> None:
        for is_always in (False, True):
            webhook = Webhook(receiver.url, is_always=is_always)
            for report in (GOOD, FINDINGS, LOCKED):
                assert (webhook.begin(), webhook.end(report)) == ("", "")
        assert [document["exit_code"] for document in receiver.documents] == [1, 5, 0, 1, 5]
        _, path, headers, _ = receiver.requests[0]
        assert (path, headers["Content-Type"]) == ("/secret-path", "application/json")

    def test_a_test_is_always_sent(self, receiver: Receiver) -> None:
        assert Webhook(receiver.url, is_always=False).test(replace(GOOD, is_test=True)) == ""
        assert receiver.documents[0]["outcome"] == "test"


class TestMail:
    def test_a_mail(self, sendmail: Sendmail) -> None:
        assert Mail(("root", "ops@example.org"), is_always=False).end(FAILED) == ""
        (message,) = sendmail.mails
        assert sendmail.arguments == ["-t -i"]
        assert message["Subject"] == "[regstore] host: nightly main: failed (backup, gc)"
        assert message["To"] == "root, ops@example.org"
        assert message["From"] == "regstore <root>"
        assert message["Auto-Submitted"] == "auto-generated"
        assert message["Message-ID"].endswith("@host>")
        assert abs(message["Date"].datetime - datetime.now(UTC)) < timedelta(minutes=5)
        assert message.get_content() == f"{FAILED.line}\n\na summary\nof lines\n"

    def test_failures_only_unless_told_otherwise(self, sendmail: Sendmail) -> None:
        assert Mail(("root",), is_always=False).end(GOOD) == ""
        assert sendmail.mails == []
        assert Mail(("root",), is_always=True).end(GOOD) == ""
        assert len(sendmail.mails) == 1

    def test_no_header_can_be_smuggled_in(self, sendmail: Sendmail) -> None:
        body = ".\n\x00\udcff" + "ü" * 5000
        nasty = replace(FAILED, host="h\nBcc: all@example.org\r\n\r\nx", registry="m\nX-Evil: 1", text=body)
        assert Mail(("root",), is_always=False).end(nasty) == ""
        (message,) = sendmail.mails
        assert set(message.keys()) == {
            "From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "MIME-Version", "Content-Type",
            "Content-Transfer-Encoding",
        }  # fmt: skip
        assert "\\nBcc" in message["Subject"]
        assert message.get_content().endswith(".\n\\x00\\udcff" + "ü" * 5000 + "\n")
        raw = make_message(nasty, ("root",)).as_bytes()
        assert max(map(len, raw.splitlines())) < 999  # RFC 5322, 2.1.1

    def test_an_address_that_is_none(self, sendmail: Sendmail) -> None:
        assert "cannot be written" in Mail(("root\nBcc: x",), is_always=False).test(GOOD)
        assert sendmail.mails == []

    def test_a_program_that_fails(self, sendmail: Sendmail) -> None:
        sendmail.install("echo first >&2; echo 'no \x1bqueue' >&2; exit 75")
        problem = Mail(("root",), is_always=False).test(GOOD)
        assert problem == f"{sendmail.directory}/sendmail ended with 75: no \\x1bqueue"

    def test_a_program_that_does_not_read(self, sendmail: Sendmail) -> None:
        (sendmail.directory / "sendmail").write_text("#!/bin/sh\nexit 3\n")
        long = replace(FAILED, text="x\n" * 90_000)
        assert "ended with 3" in Mail(("root",), is_always=False).end(long)

    def test_a_program_that_hangs(self, sendmail: Sendmail, monkeypatch: pytest.MonkeyPatch) -> None:
        """As postfix's postdrop does where it may not write its queue; what it started ends with it."""
        monkeypatch.setattr(mail, "TIMEOUT_SECONDS", 0.5)
        sendmail.install(f"sleep 60 & echo $! > {sendmail.directory}/child; echo 'read-only' >&2; wait")
        started = time.monotonic()
        problem = Mail(("root",), is_always=False).test(GOOD)
        assert "did not end within" in problem
        assert problem.endswith(": read-only")
        assert time.monotonic() - started < 10
        wait_until_gone(int((sendmail.directory / "child").read_text()))

    def test_a_program_that_leaves_something_behind(self, sendmail: Sendmail) -> None:
        """As exim does, which delivers in the background."""
        sendmail.install(f"sleep 3 & echo $! > {sendmail.directory}/child; exit 0")
        started = time.monotonic()
        assert Mail(("root",), is_always=False).test(GOOD) == ""
        assert time.monotonic() - started < 2.5

    def test_no_program(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setattr(mail, "_PROGRAMS", (str(tmp_path / "sbin/sendmail"),))
        assert "install an MTA" in Mail(("root",), is_always=False).test(GOOD)

    def test_a_program_where_cron_does_not_look(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sendmail: Sendmail
    ) -> None:
        monkeypatch.setenv("PATH", "/usr/bin:/bin")
        monkeypatch.setattr(mail, "_PROGRAMS", (str(sendmail.directory / "sendmail"),))
        assert Mail(("root",), is_always=False).test(GOOD) == ""

    def test_a_program_that_is_none(self, sendmail: Sendmail) -> None:
        (sendmail.directory / "sendmail").write_bytes(b"\x7fELF")
        assert "cannot be run" in Mail(("root",), is_always=False).test(GOOD)


class TestChannels:
    def test_what_is_configured(self) -> None:
        night = Nightly("main", ping_url="https://a/secret", webhook_url="https://b/secret", mail_to=("root", "x@y"))
        shown = [(channel.name, channel.target) for channel in open_channels(night, {})]
        assert shown == [("ping", "https://a/..."), ("webhook", "https://b/..."), ("mail", "root, x@y")]
        assert open_channels(Nightly("main"), {}) == []

    def test_a_url_in_a_file(self, receiver: Receiver, tmp_path: Path) -> None:
        (tmp_path / "url").write_text(f"{receiver.url}\n# a comment\n")
        (channel,) = open_channels(Nightly("main", webhook_url_file=str(tmp_path / "url")), {})
        assert channel.test(GOOD) == ""
        assert len(receiver.requests) == 1

    def test_a_credential_of_systemd(self, receiver: Receiver, tmp_path: Path) -> None:
        (tmp_path / "regstore-ping").write_text(receiver.url)
        (channel,) = open_channels(
            Nightly("main", ping_url_file="regstore-ping"), {"CREDENTIALS_DIRECTORY": str(tmp_path)}
        )
        assert channel.begin() == ""
        assert receiver.paths == ["/secret-path/start"]

    def test_what_cannot_be_read(self, tmp_path: Path) -> None:
        (tmp_path / "empty").touch()
        environment = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
        for file, given, words in (
            (str(tmp_path / "none"), {}, "No such file"),
            (str(tmp_path / "empty"), {}, "is empty"),
            ("none", environment, "No such file"),
            ("name", {}, "LoadCredential="),
        ):
            (channel,) = open_channels(Nightly("main", ping_url_file=file), given)
            assert channel.begin() == ""
            assert words in channel.end(GOOD)
            assert words in channel.test(GOOD)
            assert file in channel.end(GOOD)

    def test_always(self, receiver: Receiver) -> None:
        for when in ("failure", "always"):
            (channel,) = open_channels(Nightly("main", webhook_url=receiver.url, notify=when), {})
            channel.end(GOOD)
        assert len(receiver.requests) == 1
