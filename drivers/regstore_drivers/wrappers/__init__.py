"""Drivers over a driver: each adds one behaviour and keeps the contract."""

from regstore_drivers.wrappers.counting import Counting
from regstore_drivers.wrappers.faulty import Faulty
from regstore_drivers.wrappers.read_only import ReadOnly
from regstore_drivers.wrappers.recording import Recording
from regstore_drivers.wrappers.retrying import Retrying
from regstore_drivers.wrappers.throttled import Throttled

__all__ = ["Counting", "Faulty", "ReadOnly", "Recording", "Retrying", "Throttled"]
