"""Any sequence of calls on a driver, compared with a dictionary.

`driver_state_machine` makes a test case for pytest or unittest:

    TestMyDriver = driver_state_machine(open_my_driver, key_may_be_directory=False).TestCase

Needs hypothesis.
"""

from __future__ import annotations

import hashlib
import io
from contextlib import ExitStack
from typing import TYPE_CHECKING

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from regstore_drivers.errors import AlreadyExists, DigestMismatch, DriverError, NotFound
from regstore_drivers.keys import in_byte_order, sort_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager

    from regstore_drivers.base import Driver

_NAMES = ("v1", "v1-alpine", "v1.2", "v10", "\N{LATIN SMALL LETTER E WITH ACUTE}", "\N{GRINNING FACE}")
_keys = st.lists(st.sampled_from(_NAMES), min_size=1, max_size=3).map("/".join)
_contents = st.sampled_from((b"", b"a", b"other", 100_000 * b"long"))
_prefixes = st.one_of(st.just(""), _keys, _keys.map("{}/".format))


class DriverMachine(RuleBasedStateMachine):
    """The rules; `driver_state_machine` says over what.

    Where a key cannot be an object and a directory, a call that would make it both must fail and change nothing.
    Directories may stay there when they are empty, and those of a write that failed too, so that such a call is
    then allowed to fail.
    """

    open_driver: Callable[[], AbstractContextManager[Driver]]
    key_may_be_directory: bool
    tells_absent: bool

    def __init__(self) -> None:
        super().__init__()
        self._stack = ExitStack()
        self.driver = self._stack.enter_context(type(self).open_driver())
        self.model: dict[str, bytes] = {}
        self.directories: set[str] = set()

    def teardown(self) -> None:
        """Close the driver."""
        self._stack.close()

    def _store(self, key: str, content: bytes, call: Callable[[], object]) -> bool:
        """Make a call that stores an object; tell whether it did, and whether it had to."""
        parents = {key[:position] for position, character in enumerate(key) if character == "/"}
        has_conflict = not parents.isdisjoint(self.model) or any(other.startswith(f"{key}/") for other in self.model)
        may_fail = not self.key_may_be_directory and (has_conflict or key in self.directories)
        self.directories |= parents
        try:
            call()
        except DriverError:
            if not may_fail:
                raise
            return False
        assert self.key_may_be_directory or not has_conflict, f"{key!r} is an object and a directory now"
        self.model[key] = content
        return True

    @rule(key=_keys, content=_contents, is_stream=st.booleans(), has_digest=st.booleans())
    def write(self, key: str, content: bytes, is_stream: bool, has_digest: bool) -> None:
        """Store an object."""
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}" if has_digest else None
        source = (lambda: io.BytesIO(content)) if is_stream else content
        self._store(key, content, lambda: self.driver.write(key, source, len(content), digest))

    @rule(key=_keys, content=_contents)
    def write_if_absent(self, key: str, content: bytes) -> None:
        """Store an object unless it is there."""
        if key in self.model:
            _must_raise(AlreadyExists, lambda: self.driver.write(key, content, len(content), if_absent=True))
        else:
            self._store(key, content, lambda: self.driver.write(key, content, len(content), if_absent=True))

    @rule(key=_keys, content=_contents, missing=st.sampled_from((-1, 1)))
    def write_other_bytes(self, key: str, content: bytes, missing: int) -> None:
        """Promise other bytes than those that come."""
        before = dict(self.model)
        digest = f"sha256:{hashlib.sha256(content + b'.').hexdigest()}"
        size = max(0, len(content) + missing)
        calls = [lambda: self.driver.write(key, content, len(content), digest)]
        if size != len(content):
            calls.append(lambda: self.driver.write(key, content, size))
        for call in calls:
            try:
                self._store(key, content, call)
            except DigestMismatch:
                pass
            else:
                assert self.model == before, "other bytes than promised were stored"

    @rule(src=_keys, dst=_keys)
    def copy(self, src: str, dst: str) -> None:
        """Copy an object."""
        if src not in self.model:
            _must_raise(NotFound, lambda: self.driver.copy(src, dst))
        elif src != dst:
            self._store(dst, self.model[src], lambda: self.driver.copy(src, dst))

    @rule(src=_keys, dst=_keys)
    def move(self, src: str, dst: str) -> None:
        """Move an object."""
        if src not in self.model:
            _must_raise(NotFound, lambda: self.driver.move(src, dst))
        elif dst in self.model:
            _must_raise(AlreadyExists, lambda: self.driver.move(src, dst))
        elif self._store(dst, self.model[src], lambda: self.driver.move(src, dst)):
            del self.model[src]

    @rule(keys=st.lists(_keys, max_size=4, unique=True))
    def delete(self, keys: list[str]) -> None:
        """Delete objects."""
        outcomes = {outcome.key: outcome.outcome for outcome in self.driver.delete(keys)}
        assert outcomes.keys() == set(keys)
        for key, outcome in outcomes.items():
            if self.model.pop(key, None) is not None:
                assert outcome == "gone", key
            elif self.tells_absent and key not in self.directories:
                assert outcome == "absent", key

    @rule(key=_keys)
    def look(self, key: str) -> None:
        """Look at one object."""
        if key in self.model:
            assert self.driver.stat(key).size == len(self.model[key])
            assert self.driver.read(key) == self.model[key]
        else:
            _must_raise(NotFound, lambda: self.driver.stat(key))
            _must_raise(NotFound, lambda: self.driver.read(key))
            _must_raise(NotFound, lambda: self.driver.open(key))

    @rule(key=_keys, data=st.data())
    def read_range(self, key: str, data: st.DataObject) -> None:
        """Read a part of an object."""
        if key in self.model:
            content = self.model[key]
            offset = data.draw(st.integers(0, len(content)))
            length = data.draw(st.none() | st.integers(0, len(content) - offset))
            with self.driver.open(key, offset, length) as stream:
                assert stream.read() == content[offset : None if length is None else offset + length]

    @rule(prefix=_prefixes, start_after=_prefixes)
    def list(self, prefix: str, start_after: str) -> None:
        """List a part of the keys."""
        expected = [
            key for key in in_byte_order(self.model) if key.startswith(prefix) and sort_key(key) > sort_key(start_after)
        ]
        assert [entry.key for entry in self.driver.list(prefix, start_after)] == expected

    @rule(prefix=st.just("") | _keys.map("{}/".format))
    def list_dir(self, prefix: str) -> None:
        """List the names of one level."""
        names = [*self.driver.list_dir(prefix)]
        expected = _names_below(prefix, self.model)
        assert names == in_byte_order(set(names))
        assert expected <= set(names)
        extra = set(names) - expected
        assert not extra or not self.key_may_be_directory
        assert extra <= _names_below(prefix, (f"{directory}/" for directory in self.directories))

    @invariant()
    def has_the_same_objects(self) -> None:
        """Compare the whole listing."""
        assert [(entry.key, entry.size) for entry in self.driver.list("")] == [
            (key, len(self.model[key])) for key in in_byte_order(self.model)
        ]


def driver_state_machine(
    open_driver: Callable[[], AbstractContextManager[Driver]],
    *,
    key_may_be_directory: bool = True,
    tells_absent: bool = True,
    examples: int = 50,
    steps: int = 30,
) -> type[DriverMachine]:
    """Make a state machine over a driver; its attribute TestCase is what pytest runs.

    Args:
        open_driver: opens a driver over empty storage, for one sequence of calls.
        key_may_be_directory: see `regstore_drivers.testing.basis.Basis`.
        tells_absent: see there.
        examples: how many sequences to try.
        steps: how many calls each has at most.
    """
    attributes = {
        "open_driver": staticmethod(open_driver),
        "key_may_be_directory": key_may_be_directory,
        "tells_absent": tells_absent,
    }
    machine: type[DriverMachine] = type("Machine", (DriverMachine,), attributes)
    machine.TestCase.settings = settings(
        max_examples=examples, stateful_step_count=steps, deadline=None, derandomize=True
    )
    return machine


def _must_raise(kind: type[DriverError], call: Callable[[], object]) -> None:
    try:
        call()
    except kind:
        return
    raise AssertionError(f"{kind.__name__} was not raised")


def _names_below(prefix: str, keys: Iterable[str]) -> set[str]:
    """Return the names one level below a prefix that keys make."""
    found = set()
    for key in keys:
        if key.startswith(prefix) and key != prefix:
            name, slash, _ = key[len(prefix) :].partition("/")
            found.add(name + slash)
    return found
