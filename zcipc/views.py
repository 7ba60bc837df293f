"""Messages written and read in place: `Loan` and `Borrow`, and their memory while somebody still looks at it.

The buffer of a `with` block is a view of a *window*, an object that counts its views. When the block ends the buffer is
released. If an array or another view made over it is left, the window is kept, and its bytes with it, until that is gone.
"""

import functools
from types import TracebackType
from typing import TYPE_CHECKING, Any

from zcipc import ring
from zcipc.methods import entries
from zcipc.native import window_type

if TYPE_CHECKING:
    from zcipc.channel import Channel


@functools.cache
def _window_class() -> Any:
    class Window(window_type()):  # type: ignore[misc]
        """A part of shared memory; `memory` keeps it mapped while anything made over the window lives."""

        __slots__ = ("ended", "memory")

    return Window


def _window(memory: memoryview, readonly: bool) -> Any:
    window = _window_class()()
    window.memory, window.readonly, window.ended = memory, readonly, False
    return window


class Loan:
    """A message being written in place. See `Channel.loan`."""

    __slots__ = ("_buffer", "_channel", "_nbytes", "_tag", "_timeout", "_window")

    def __init__(self, memory: memoryview) -> None:
        self._window = _window(memory, readonly=False)

    def prepared(self, channel: "Channel", nbytes: int, timeout: float | None, tag: int = 0) -> "Loan":
        self._channel, self._nbytes, self._timeout, self._tag = channel, nbytes, timeout, tag
        return self

    def __enter__(self) -> memoryview:
        channel, window = self._channel, self._window
        window.length = -1
        try:
            if not 0 <= self._nbytes <= channel._longest or entries.open_loan(channel, window, self._nbytes) < 0:
                channel._open_loan_slowly(window, self._nbytes, self._timeout)
            self._buffer = memoryview(window)
        except BaseException:
            if window.length >= 0:  # claimed, and then came a signal
                entries.drop(channel, window)
            raise
        return self._buffer

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        channel, window = self._channel, self._window
        _release(self._buffer)
        if kind is not None or not entries.end_loan(channel, window, self._tag):
            channel._end_loan_slowly(window, self._tag, drop=kind is not None)
        if not window.views:
            channel._spare_loan = self
        del self._channel


class Borrow:
    """A message being read in place. See `Channel.borrow`."""

    __slots__ = ("_buffer", "_channel", "_timeout", "_window", "tag")

    def __init__(self, memory: memoryview) -> None:
        self._window = _window(memory, readonly=True)

    def prepared(self, channel: "Channel", timeout: float | None) -> "Borrow":
        self._channel, self._timeout = channel, timeout
        return self

    def __enter__(self) -> memoryview:
        channel, window = self._channel, self._window
        window.length = -1
        try:
            header = entries.open_borrow(channel, window, ring.NO_FLOOR if self._timeout is None else 0)
            if header <= 0:
                header = channel._open_borrow_slowly(window, self._timeout)
            channel._borrowed.append(window)
            self._buffer = memoryview(window)
        except BaseException:
            if window.length >= 0:  # held, and then came a signal
                channel._end_borrow_slowly(window)
            raise
        self.tag = header >> ring.LENGTH_BITS
        return self._buffer

    def __exit__(self, *exception: object) -> None:
        channel, window = self._channel, self._window
        _release(self._buffer)
        if entries.end_borrow(channel, window):
            channel._borrowed.remove(window)
        else:
            channel._end_borrow_slowly(window)
        if not window.ended:
            channel._spare_borrow = self
        del self._channel


def _release(buffer: memoryview) -> None:
    """End the use of a buffer, as far as nothing was made over it."""
    try:  # noqa: SIM105 (contextlib.suppress takes as long as all the rest)
        buffer.release()
    except BufferError:  # something was: the window counts it
        pass
