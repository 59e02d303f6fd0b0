"""`regstore metrics`."""

from __future__ import annotations

import socket
import sqlite3
import threading
import time
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import click

from regstore._version import __version__
from regstore.cli import messages
from regstore.cli.lazily import Lazily
from regstore.cli.main import EXIT_STATUS, Session
from regstore.cli.named import REGISTRY, find_store
from regstore.cli.parameters import DURATION
from regstore.cli.rendering import emit
from regstore.errors import InterruptedRunError, RegstoreError, UsageError
from regstore.findings import Severity
from regstore.wording import plain
from regstore_drivers.errors import DriverError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from regstore import jobs as noted_jobs
    from regstore import registry as registries
    from regstore.configuration import Configuration
    from regstore.registry import Registry
    from regstore.report import capacity as capacities
    from regstore.report import exposition
    from regstore.report import forecast as forecasts
    from regstore.report import history as histories
    from regstore.report import options as report_options
    from regstore.work import Cancel
else:
    capacities = Lazily("regstore.report.capacity")
    exposition = Lazily("regstore.report.exposition")
    forecasts = Lazily("regstore.report.forecast")
    histories = Lazily("regstore.report.history")
    report_options = Lazily("regstore.report.options")
    noted_jobs = Lazily("regstore.jobs")
    registries = Lazily("regstore.registry")

_SCAN_SECONDS = 60.0
_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@click.command(
    "metrics",
    epilog=f"""\b
EXAMPLES
  regstore metrics --textfile /var/lib/prometheus/node-exporter/registry.prom /var/lib/registry
  regstore metrics --listen 127.0.0.1:9119 /var/lib/registry
  regstore metrics s3://bucket/prefix

{EXIT_STATUS}""",
)
@click.argument("root", type=REGISTRY)
@click.option("--textfile", metavar="FILE", help="Write FILE, whole or not at all, for node_exporter.")
@click.option("--listen", metavar="ADDRESS:PORT", help="Serve /metrics there until stopped; a scan a minute at most.")
@click.option(
    "--grace", type=DURATION, default="24h", show_default=True, metavar="AGE", help="The grace period of collections."
)
@click.option("--metrics-top", type=click.IntRange(0), default=0, metavar="N", help="The N largest repositories too.")
@click.option("--jobs", type=click.IntRange(1, 256), default=16, show_default=True, help="Requests at once on S3.")
@click.pass_obj
def command(
    session: Session, root: str, textfile: str | None, listen: str | None, grace: float, metrics_top: int, jobs: int
) -> None:
    """Export the numbers of ROOT, and how its jobs and those on its store ended, for Prometheus.

    Without --textfile and --listen they go to stdout. Nothing is recorded in the history of reports.
    """
    if textfile and listen:
        raise UsageError("--textfile and --listen exclude each other")
    address = _parse_address(listen) if listen else None
    registry = registries.open_registry(root, jobs)
    stores = _stores_of(session.configuration, root)
    source = _Source(registry, report_options.Options(grace=grace, jobs=jobs), metrics_top, stores, session.cancel)
    if address is None:
        emit([source.scan()], textfile)
        return
    _serve(address, source, session.cancel)


def _parse_address(text: str) -> tuple[str, int]:
    host, separator, port = text.rpartition(":")
    if not separator or not port.isdecimal() or int(port) > 65535:
        raise UsageError(f"{text!r} is no address: write it as 127.0.0.1:9119")
    return host.strip("[]"), int(port)


def _stores_of(configuration: Configuration, root: str) -> list[str]:
    """Return the stores of backups of a registry, by the nights that are configured for it."""
    nights = [
        configuration.nights.get(name) for name, place in configuration.registries.items() if place.location == root
    ]
    return [find_store(configuration, night.store) for night in nights if night and night.store]


class _Source:
    """Scans, and remembers for a minute what it found."""

    def __init__(
        self, registry: Registry, options: report_options.Options, top: int, stores: Sequence[str], cancel: Cancel
    ) -> None:
        self._registry = registry
        self._options = options
        self._top = top
        self._stores = stores
        self._cancel = cancel
        self._lock = threading.Lock()
        self._text, self._scanned = "", float("-inf")
        self._failure: Exception | None = None

    def scan(self) -> str:
        """Return the metrics as they are now."""
        now = time.time()
        capacity = capacities.measure_capacity(self._registry, self._options, cancel=self._cancel)
        try:
            entries = histories.History(capacity.location).entries()
        except (RegstoreError, OSError, sqlite3.Error) as error:
            messages.warn(f"no forecast: {error}")
            entries = []
        entries.append(histories.Entry(now, capacity.totals))
        points = [(entry.at, entry.totals.get("stored_bytes") or 0) for entry in entries]
        forecast = forecasts.forecast_full(points, capacity.room.free_bytes)
        samples = exposition.capacity_samples(capacity, forecast, capacity.findings, now, self._top)
        jobs = noted_jobs.newest_jobs(capacity.location, *self._stores)
        return exposition.render_exposition([*samples, *exposition.job_samples(capacity.location, jobs)])

    def recent(self) -> str:
        """Return the metrics as they were at most a minute ago. Who asks meanwhile waits."""
        with self._lock:
            if time.monotonic() - self._scanned >= _SCAN_SECONDS:
                self._failure = None
                try:
                    self._text = self.scan()
                except (RegstoreError, DriverError, OSError) as error:
                    if not isinstance(error, InterruptedRunError):
                        messages.tell(Severity.ERROR, str(error))
                    self._failure = error
                self._scanned = time.monotonic()
            if self._failure is not None:
                raise self._failure
            return self._text


def _serve(address: tuple[str, int], source: _Source, cancel: Cancel) -> None:
    class Handler(BaseHTTPRequestHandler):
        server_version = f"regstore/{__version__}"

        def do_GET(self) -> None:
            if self.path.partition("?")[0] != "/metrics":
                self._answer(HTTPStatus.NOT_FOUND, "the metrics are at /metrics\n")
                return
            try:
                text = source.recent()
            except (RegstoreError, DriverError, OSError) as error:
                self._answer(HTTPStatus.INTERNAL_SERVER_ERROR, f"{plain(str(error))}\n")
                return
            self._answer(HTTPStatus.OK, text)

        def _answer(self, status: HTTPStatus, text: str) -> None:
            body = text.encode()
            with suppress(ConnectionError):  # who asked may be gone
                self.send_response(status)
                self.send_header("Content-Type", _CONTENT_TYPE)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass  # a line a scrape is noise

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            pass  # who asked went away

        address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET

    try:
        server = Server(address, Handler)
    except OSError as error:
        raise UsageError(f"cannot listen on {address[0]}:{address[1]}: {error.strerror}") from error
    with server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        messages.note(f"serving http://{address[0]}:{server.server_address[1]}/metrics")
        try:
            while True:
                cancel.wait(3600)
        finally:
            server.shutdown()
