"""moto's imitation of Amazon S3, over HTTP: versions, storage classes and tags, which small servers lack."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from support.s3_server import S3Server


class MotoServer(S3Server):
    """A running moto. It keeps its buckets in this process's memory until the process ends."""


@contextmanager
def running_moto() -> Iterator[MotoServer]:
    """Run moto in a thread, on a free port of the loopback, until the block ends."""
    # Its import takes a second, which only the tests that use it should pay.
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield MotoServer(f"http://{host}:{port}", "testing", "moto-takes-any-secret")
    finally:
        server.stop()
