"""Mail through the host's own sendmail program, which every MTA brings: regstore knows no SMTP and no password."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from contextlib import suppress
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import localtime, make_msgid
from typing import TYPE_CHECKING

from regstore.wording import plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from regstore.notify.report import Report

TIMEOUT_SECONDS = 30.0
_PROGRAMS = ("/usr/sbin/sendmail", "/usr/lib/sendmail")  # FHS; cron's PATH has neither directory
_SHOWN_BYTES = 1000
_BODY_CHARACTERS = 200_000


class Mail:
    """Reports to some addresses."""

    name = "mail"

    def __init__(self, addresses: Sequence[str], *, is_always: bool) -> None:
        self._addresses = addresses
        self._is_always = is_always
        self.target = ", ".join(addresses)

    def begin(self) -> str:
        """Say nothing."""
        return ""

    def end(self, report: Report) -> str:
        """Say how a run ended, where that is wanted; return what went wrong, or nothing."""
        return self.test(report) if self._is_always or report.exit_code else ""

    def test(self, report: Report) -> str:
        """Send in any case; return what went wrong, or nothing."""
        try:
            message = make_message(report, self._addresses)
        except ValueError as error:
            return f"the mail cannot be written: {plain(str(error))}"
        return _send(message.as_bytes())


def make_message(report: Report, addresses: Sequence[str]) -> EmailMessage:
    """Return a report as mail.

    `Auto-Submitted` keeps vacation programs silent (RFC 3834, 5). The sender has no domain, as cron's has none: the
    MTA knows how this host is called outside.

    Raises:
        ValueError: an address is none.
    """
    message = EmailMessage()
    message["From"] = Address("regstore", "root")
    message["To"] = ", ".join(addresses)
    message["Subject"] = report.subject
    message["Date"] = localtime()
    message["Message-ID"] = make_msgid(domain=_host_of_ids(report.host))
    message["Auto-Submitted"] = "auto-generated"
    lines = f"{report.line}\n\n{report.text}"[:_BODY_CHARACTERS].split("\n")
    message.set_content("".join(f"{plain(line.expandtabs())}\n" for line in lines), charset="utf-8")
    return message


def _host_of_ids(host: str) -> str:
    letters = "".join(c for c in host if c.isascii() and (c.isalnum() or c in "-."))
    return letters or "localhost"


def _send(message: bytes) -> str:
    program = shutil.which("sendmail") or next((path for path in _PROGRAMS if os.access(path, os.X_OK)), None)
    if program is None:
        return "there is no sendmail program: install an MTA, such as postfix, exim or msmtp-mta"
    # Not through a pipe, which what it leaves running in the background may hold open for ever; nor on a disk: that may
    # be what is full.
    with open(os.memfd_create("sendmail"), "w+b") as output:
        try:
            process = subprocess.Popen(
                [program, "-t", "-i"], stdin=subprocess.PIPE, stdout=output, stderr=output, start_new_session=True
            )
        except OSError as error:
            return f"{program} cannot be run: {error.strerror}"
        try:
            process.communicate(message, timeout=TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            # The whole group: postfix's postdrop tries for ever where it may not write.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return f"{program} did not end within {TIMEOUT_SECONDS:.0f} seconds{_said(output.fileno())}"
        if process.returncode:
            return f"{program} ended with {process.returncode}{_said(output.fileno())}"
    return ""


def _said(descriptor: int) -> str:
    size = os.fstat(descriptor).st_size
    text = os.pread(descriptor, _SHOWN_BYTES, max(size - _SHOWN_BYTES, 0)).decode("utf-8", "replace").strip()
    return f": {plain(text.splitlines()[-1])}" if text else ""
