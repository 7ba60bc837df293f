"""Messages written and read in place: `Loan` and `Borrow`, and their memory while somebody still looks at it.

The buffer of a `with` block is a view of a *window*. When the block ends the buffer is released, and normally nobody else has
the window: it serves the next message. If an array or another view made over it lives on, so does the window, and its bytes
are `Kept` until it is gone.
"""

import functools
import weakref
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

from zcipc import ring
from zcipc.methods import HELD_BY_OTHERS, entries
from zcipc.native import window_type

if TYPE_CHECKING:
    from zcipc.channel import Channel


@functools.cache
def _window_class() -> Any:
    class Window(window_type()):  # type: ignore[misc]
        """A part of shared memory; `memory` keeps it mapped while anything made over the window lives."""

        __slots__ = ("__weakref__", "memory")

    return Window


def _new_window(memory: memoryview, readonly: bool) -> Any:
    window = _window_class()()
    window.memory, window.readonly = memoryview(memory), readonly
    return window


class Kept(NamedTuple):
    """Where a message lies whose `with` block has ended, and the window by which it is still viewed; or None, if by nobody."""

    position: int
    window: "weakref.ref[Any] | None"

    def is_over(self) -> bool:
        return self.window is None or self.window() is None


class Loan:
    """A message being written in place. See `Channel.loan`."""

    __slots__ = ("_buffer", "_channel", "_nbytes", "_tag", "_timeout", "_window")

    def __init__(self, memory: memoryview) -> None:
        self._window = _new_window(memory, readonly=False)

    def prepared(self, channel: "Channel", nbytes: int, timeout: float | None, tag: int) -> "Loan":
        self._channel, self._nbytes, self._timeout, self._tag = channel, nbytes, timeout, tag
        return self

    def __enter__(self) -> memoryview:
        channel, window = self._channel, self._window
        window.length = -1
        try:
            if not 0 <= self._nbytes <= channel._longest or entries.open_loan(channel, window, self._nbytes) < 0:
                channel._open_loan_slowly(window, self._nbytes, self._timeout)
                entries.note_references(channel, window, 0)
            self._buffer = memoryview(window)
        except BaseException:
            if window.length >= 0:  # claimed, and then came a signal
                entries.drop(channel, window)
            raise
        return self._buffer

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        channel, window = self._channel, self._window
        _release(self._buffer)
        end = entries.end_loan if kind is None else entries.drop_loan
        if end(channel, window, self._tag):
            channel._spare_loan = self
        else:
            del self._window
            channel._end_loan_slowly(window, self._tag, drop=kind is not None)
        del self._channel


class Borrow:
    """A message being read in place. See `Channel.borrow`."""

    __slots__ = ("_buffer", "_channel", "_timeout", "_window", "tag")

    def __init__(self, memory: memoryview) -> None:
        self._window = _new_window(memory, readonly=True)

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
                entries.note_references(channel, window, 0)
            channel._borrowed.append(window)
            self._buffer = memoryview(window)
        except BaseException:
            if window.length >= 0:  # held, and then came a signal
                channel._end_borrow_slowly(window, HELD_BY_OTHERS)
            raise
        self.tag = header >> ring.LENGTH_BITS
        return self._buffer

    def __exit__(self, *exception: object) -> None:
        channel, window = self._channel, self._window
        _release(self._buffer)
        state = entries.end_borrow(channel, window)
        if state == 0:
            channel._borrowed.remove(window)
            channel._spare_borrow = self
        else:
            del self._window
            channel._end_borrow_slowly(window, state)
        del self._channel


def _release(buffer: memoryview) -> None:
    """End the use of a buffer, as far as nothing was made over it."""
    try:  # noqa: SIM105 (contextlib.suppress takes as long as all the rest)
        buffer.release()
    except BufferError:  # something was, and keeps the window
        pass
