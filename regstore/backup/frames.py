"""Frames of packs that were read lately."""

from __future__ import annotations

import threading
from collections import OrderedDict
from concurrent.futures import Future
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from regstore.backup.pack import Packed

_FRAME_COUNT = 64


class FrameCache:
    """The last frames that were read: neighbours are asked for together, by several threads.

    Args:
        read: reads and decompresses the frame of a packed blob.
    """

    def __init__(self, read: Callable[[Packed], bytes]) -> None:
        self._read = read
        self._lock = threading.Lock()
        self._frames: OrderedDict[tuple[str, int], Future[bytes]] = OrderedDict()

    def get(self, packed: Packed) -> bytes:
        """Return what a blob's frame holds; the first who asks reads it, the others wait."""
        key = (packed.pack, packed.place.frame_offset)
        with self._lock:
            future = self._frames.get(key)
            if is_first := future is None:
                future = self._frames[key] = Future()
                if len(self._frames) > _FRAME_COUNT:
                    self._frames.popitem(last=False)
        if is_first:
            try:
                future.set_result(self._read(packed))
            except BaseException as error:  # noqa: BLE001 - whoever waits for it must be told
                with self._lock:
                    self._frames.pop(key, None)
                future.set_exception(error)
        return future.result()
