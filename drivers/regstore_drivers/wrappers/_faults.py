"""The faults that `Faulty` can commit: each stands between a call and the wrapped driver."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

from regstore_drivers.streams import PieceStream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO

    from regstore_drivers.errors import DriverError


@dataclass(frozen=True, slots=True)
class Request:
    """One call: what it is, and where."""

    operation: str
    key: str
    location: str

    def error(self, error: type[DriverError] | BaseException) -> BaseException:
        """Return an error, made for this request if only its class is given."""
        if isinstance(error, BaseException):
            return error
        return error("injected fault", operation=self.operation, key=self.key, location=self.location)


class Fault(Protocol):
    """Makes a call, and something else."""

    def call(self, request: Request, call: Callable[[], Any]) -> Any:
        """Make a call that returns a value or a stream."""

    def items(self, request: Request, call: Callable[[], Iterator[Any]]) -> Iterator[Any]:
        """Make a call that yields items."""


@dataclass(frozen=True, slots=True)
class Fail:
    """Raises instead of calling, or after so many items of a listing or bytes of a stream."""

    error: type[DriverError] | BaseException
    after: int | None

    def call(self, request: Request, call: Callable[[], Any]) -> Any:
        error = request.error(self.error)
        if self.after is None or request.operation != "open":
            raise error
        return _Cut(call(), self.after, error)

    def items(self, request: Request, call: Callable[[], Iterator[Any]]) -> Iterator[Any]:
        if self.after is not None:
            yield from islice(call(), self.after)
        raise request.error(self.error)


@dataclass(frozen=True, slots=True)
class LoseReply:
    """Calls, and then raises."""

    error: type[DriverError] | BaseException

    def call(self, request: Request, call: Callable[[], Any]) -> Any:
        result = call()
        if request.operation == "open":
            result.close()
        raise request.error(self.error)

    def items(self, request: Request, call: Callable[[], Iterator[Any]]) -> Iterator[Any]:
        for _ in call():
            yield from ()
        raise request.error(self.error)


@dataclass(frozen=True, slots=True)
class EndEarly:
    """Gives only the beginning, as if that were all."""

    after: int

    def call(self, request: Request, call: Callable[[], Any]) -> Any:
        result = call()
        return _Cut(result, self.after, None) if request.operation == "open" else result[: self.after]

    def items(self, request: Request, call: Callable[[], Iterator[Any]]) -> Iterator[Any]:
        return islice(call(), self.after)


@dataclass(frozen=True, slots=True)
class Hooks:
    """Calls one function before and another one after the call, or after the last item."""

    before: Callable[[], object] | None = None
    after: Callable[[], object] | None = None

    def call(self, request: Request, call: Callable[[], Any]) -> Any:
        if self.before is not None:
            self.before()
        result = call()
        if self.after is not None:
            self.after()
        return result

    def items(self, request: Request, call: Callable[[], Iterator[Any]]) -> Iterator[Any]:
        if self.before is not None:
            self.before()
        yield from call()
        if self.after is not None:
            self.after()


class _Cut(PieceStream):
    """The beginning of a stream, and then an error or the end."""

    def __init__(self, stream: BinaryIO, size: int, error: BaseException | None) -> None:
        self._stream = stream
        self._left = size
        self._error = error

    def read_piece(self, size: int) -> bytes:
        if not self._left and self._error is not None:
            raise self._error
        piece = self._stream.read(min(size, self._left))
        self._left -= len(piece)
        return piece

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()
