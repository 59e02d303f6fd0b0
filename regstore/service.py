"""Units of systemd, or a line of cron, that run the nights of the configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

UNIT_DIRECTORY = "/etc/systemd/system"
CRON_FILE = "/etc/cron.d/regstore"

# No SuccessExitStatus=1: findings shall mark the unit as failed, so that somebody looks.
# KillMode=: the night passes the request to stop on to its step, which a second one would end at once.
# OOMPolicy=: a step that ate all memory is killed, and the others go on; `stop`, the default, would end the night.
_SERVICE = """\
# Written by regstore service install; changes belong into `systemctl edit regstore-nightly@.service`.
[Unit]
Description=regstore: the night of registry %i
Wants=network-online.target
After=network-online.target local-fs.target

[Service]
Type=oneshot
ExecStart={program} --config {config} run nightly -q %i
Environment=XDG_STATE_HOME=/var/lib
StateDirectory=regstore
UMask=0077
Nice=19
IOSchedulingClass=idle
TimeoutStopSec=120
KillMode=mixed
OOMPolicy=continue
NoNewPrivileges={no_new_privileges}
ProtectSystem=strict
ProtectHome=read-only
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectControlGroups=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
PrivateTmp=yes
{mail}{paths}"""

# sendmail writes into the queue of the MTA: where it may not, postfix's waits for ever and exim's fails. With most it
# is setuid or setgid, which NoNewPrivileges= takes from it: what it leaves in the queue then belongs to somebody else.
_MAIL_DIRECTORIES = (
    "/var/spool/postfix",
    "/var/spool/exim4",
    "/var/spool/exim",
    "/var/log/exim4",
    "/var/log/exim",
    "/var/spool/nullmailer",
    "/var/spool/smtpd",
    "/var/spool/dma",
    "/var/spool/mqueue",
    "/var/spool/clientmqueue",
)
_MAIL_COMMENT = "# For mail_to: sendmail is setuid or setgid and writes into the queue of the MTA.\n"

_TIMER = """\
# Written by regstore service install.
[Unit]
Description=regstore: every night for registry %i

[Timer]
OnCalendar=*-*-* {hour:02}:{minute:02}:00
RandomizedDelaySec=30min
Persistent=true

[Install]
WantedBy=timers.target
"""

_CRON = """\
# Written by regstore service install. Mail comes only when somebody should read it.
SHELL=/bin/sh
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
{lines}"""


@dataclass(frozen=True, slots=True)
class ServiceFile:
    """A file and what it holds."""

    path: str
    text: str


def make_units(
    program: str,
    config: str,
    writable: Iterable[str],
    time: tuple[int, int],
    directory: str = UNIT_DIRECTORY,
    *,
    has_mail: bool = False,
) -> list[ServiceFile]:
    """Return a service and a timer, templates with the registry's name as instance.

    Args:
        program: the path of regstore.
        config: the path of its configuration.
        writable: directories that a night writes to; all else is read-only for it.
        time: hour and minute.
        directory: where units lie.
        has_mail: whether a night sends mail: the unit may then use the host's sendmail.
    """
    # A disk that is not there must not keep the unit from running: the night says that it is missing.
    service = _SERVICE.format(
        program=_escape(program).replace("$", "$$"),
        config=_escape(config).replace("$", "$$"),
        no_new_privileges="no" if has_mail else "yes",
        mail=_MAIL_COMMENT + _writable(_MAIL_DIRECTORIES) if has_mail else "",
        paths=_writable(sorted(set(writable))),
    )
    return [
        ServiceFile(f"{directory}/regstore-nightly@.service", service),
        ServiceFile(f"{directory}/regstore-nightly@.timer", _TIMER.format(hour=time[0], minute=time[1])),
    ]


def _writable(paths: Iterable[str]) -> str:
    return "".join(f"ReadWritePaths=-{_escape(path)}\n" for path in paths)


def make_cron(
    program: str, config: str, names: Sequence[str], time: tuple[int, int], file: str = CRON_FILE
) -> ServiceFile:
    """Return a file for cron.d with a line for each registry."""
    hour, minute = time
    command = f"root {_quote(program)} --config {_quote(config)} run nightly -q"
    return ServiceFile(
        file, _CRON.format(lines="".join(f"{minute} {hour} * * *  {command} {name}\n" for name in names))
    )


def _escape(path: str) -> str:
    """Return a path as a unit's setting takes it (systemd.unit(5), specifiers; systemd.syntax(7), quoting)."""
    text = path.replace("%", "%%").replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"' if any(character.isspace() or character in "'\"" for character in text) else text


def _quote(path: str) -> str:
    """Return a path for a shell in a crontab, where % ends the command (crontab(5))."""
    text = path.replace("'", "'\\''").replace("%", "\\%")
    return text if text.replace("/", "").replace("-", "").replace("_", "").replace(".", "").isalnum() else f"'{text}'"
