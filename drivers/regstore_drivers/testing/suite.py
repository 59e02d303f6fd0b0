"""The parts of the suite, put together."""

from regstore_drivers.testing.deleting import Deleting, RemovalPowers
from regstore_drivers.testing.placing import Copying, Moving, ServerCopying
from regstore_drivers.testing.reading import Describing, Listing, ReadPowers, Streaming
from regstore_drivers.testing.threads import Threads
from regstore_drivers.testing.writing import Writing


class ReadDriverSuite(Describing, Listing, Streaming, ReadPowers):
    """Tests for a driver that only reads: `store` is the fixture of a driver that writes what `driver` reads."""


class DriverSuite(ReadDriverSuite, Writing, Copying, Moving, ServerCopying, Deleting, RemovalPowers, Threads):
    """Tests of all that the contract of a driver promises.

    Subclass it in a test module, give it a fixture `driver` that yields a driver over empty storage, and set the flags
    (see `Basis`) to what the storage can.
    """
