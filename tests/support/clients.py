"""A client that works on a registry while something else does."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress

from support.images import Flavour, Image, digest_of, layer
from support.pusher import ApiError, Pusher


class Worker:
    """A client that pushes, moves, mounts and deletes in repositories that it shares with others, by tags of its own.

    Attributes:
        accepted: tag to the image whose manifest was last answered by 201 under it.
        pushes, refusals: how many images were accepted, and how many of their requests were refused.
        failure: what ended it, if anything did.
    """

    def __init__(self, urls: list[str], name: str, seed: int, is_over: threading.Event) -> None:
        self._name = name
        self._urls = urls
        self._dice = random.Random(seed)
        self._is_over = is_over
        self.accepted: dict[tuple[str, str], Image] = {}
        self.pushes = self.refusals = 0
        self.failure: BaseException | None = None
        self.thread = threading.Thread(target=self._run, name=name)

    def _run(self) -> None:
        """Go on until it is over."""
        try:
            with ExitStack() as stack:
                clients = [stack.enter_context(Pusher(url, head_first=True)) for url in self._urls]
                while not self._is_over.is_set():
                    self._turn(self._dice.choice(clients), self._dice.choice(clients))
                    # Bursts and pauses: without these the volume outgrows what a run has time for on a small machine.
                    if self._dice.random() < 0.2:
                        self._is_over.wait(self._dice.uniform(0, 3))
        except BaseException as error:  # noqa: BLE001 - told by the test's own thread
            self.failure = error

    def _turn(self, client: Pusher, other: Pusher) -> None:
        dice = self._dice
        repository = f"team/app{dice.randrange(3)}"
        tag = f"{self._name}-{dice.randrange(4)}"
        # Few layers, so that many pushes find what a run is about to take; the last makes the image the worker's own.
        data = [layer(f"pool {dice.randrange(8)}"), layer(f"{self._name} {dice.randrange(6)}")]
        seed = f"{self._name} {dice.randrange(4)}" if dice.random() < 0.2 else ""
        flavour: Flavour = "docker" if dice.random() < 0.5 else "oci"

        def push() -> Image:
            if seed:
                return client.push_multi_arch(repository, tag, seed)[0]
            for blob in data:
                client.push_blob(repository, blob)
            # What the one replica was given the other is asked for.
            return other.push_image(repository, tag, data, flavour=flavour)

        try:
            if dice.random() < 0.3:
                client.mount(repository, digest_of(data[0]), f"team/app{dice.randrange(3)}")
            self._accept(push())
        except ApiError:
            self.refusals += 1  # the client is told, and would push again
            return
        if dice.random() < 0.4:
            self._delete(other, self.accepted[repository, tag], push)

    def _accept(self, image: Image) -> None:
        self.pushes += 1
        self.accepted[image.repository, image.tag] = image

    def _delete(self, client: Pusher, image: Image, push: Callable[[], Image]) -> None:
        try:
            client.delete_manifest(image.repository, image.digest)
        except ApiError:
            # A 2.8 registry that meets somebody's half-written tag here has unlinked the manifest and leaves its tags.
            for _ in range(20):
                with suppress(ApiError):
                    self._accept(push())
                    return
            raise
        gone = [
            key for key, other in self.accepted.items() if (key[0], other.digest) == (image.repository, image.digest)
        ]
        for key in gone:
            del self.accepted[key]
