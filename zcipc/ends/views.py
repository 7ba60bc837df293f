"""Messages written and read in place: `Loan` and `Borrow`, and their memory while somebody still looks at it.

The buffer of a `with` block is a view of a *window*. When the block ends the buffer is released, and normally nobody else has
the window: both serve the next message. If an array or another view made over it lives on, so does the window, and its bytes
are `Kept` until it is gone.
"""

import contextlib
import functools
import weakref
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self

from zcipc.ends import methods
from zcipc.ends.methods import HELD_BY_OTHERS, entries
from zcipc.native.extension import Block, accelerate, window_type


class _Owner(Protocol):
    """What a loan or a borrow asks of its channel where machine code cannot do it."""

    def _open_loan_slowly(self, loan: "Loan", nbytes: int, timeout: float | None) -> None: ...
    def _end_loan_slowly(self, window: Any, tag: int, drop: bool) -> None: ...
    def _open_borrow_slowly(self, borrow: "Borrow", timeout: float | None) -> None: ...
    def _end_borrow_slowly(self, window: Any, state: int) -> None: ...
    def _label(self) -> str: ...


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


class _View(Block):
    """A loan or a borrow: its message is read or written in a `with` block."""

    __slots__ = ("_buffer", "_channel", "_last_buffer", "_timeout", "_window")
    _buffer: Any  # the memory view of the block and that of the one before, made by the native methods
    _last_buffer: Any

    def __init__(self, memory: memoryview, readonly: bool) -> None:
        self._window = _new_window(memory, readonly)

    def prepared(self, channel: _Owner, timeout: float | None, length: int = 0, tag: int = 0) -> Self:
        """Itself, for a message of the channel; `length` and `tag` are those of a loan."""
        self._channel, self._timeout = channel, timeout
        self.length: int = length
        self.tag: int = tag
        return self

    def retire(self) -> Any:
        """Its window, which it gives up, as somebody may still look at it."""
        with contextlib.suppress(BufferError):  # something was made over the buffer, and keeps the window
            self._buffer.release()
        self._buffer = self._last_buffer = None
        window = self._window
        del self._window
        return window

    def __repr__(self) -> str:
        channel = getattr(self, "_channel", None)  # there until the block ends
        return f"<{type(self).__name__}, {'ended' if channel is None else f'of {channel._label()}'}>"


class Loan(_View):
    """A message being written in place. See `Channel.loan`."""

    __slots__ = ()

    def __enter__(self) -> memoryview:
        """Wait for room, and claim it."""
        channel, window = self._channel, self._window
        window.length = -1
        try:
            channel._open_loan_slowly(self, self.length, self._timeout)
            return entries.show(self)
        except BaseException:
            if window.length >= 0:  # claimed, and then came a signal
                entries.drop(channel, window)
            raise

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        """Send what was written; drop it if the block raised."""
        channel = self._channel  # gone if the block has ended already
        if not entries.end_loan(self, kind is not None):
            channel._end_loan_slowly(self.retire(), self.tag, drop=kind is not None)
            del self._channel


class Borrow(_View):
    """A message being read in place, and its tag. See `Channel.borrow`."""

    __slots__ = ()

    def __enter__(self) -> memoryview:
        """Wait for a message."""
        channel, window = self._channel, self._window
        window.length = -1
        try:
            channel._open_borrow_slowly(self, self._timeout)
            return entries.show(self)
        except BaseException:
            if window.length >= 0:  # held, and then came a signal
                channel._end_borrow_slowly(window, HELD_BY_OTHERS)
            raise

    def __exit__(self, *exception: object) -> None:
        """Give the message back, as soon as nobody looks at it."""
        channel = self._channel  # gone if the block has ended already
        state = entries.end_borrow(self)
        if state != 0:
            channel._end_borrow_slowly(self.retire(), state)
            del self._channel


@functools.cache
def accelerate_blocks() -> None:
    """Once a process, before the first loan or borrow is entered: what needs no waiting is done in machine code."""
    accelerate(Loan, "__enter__", methods.enter_loan)
    accelerate(Loan, "__exit__", methods.exit_loan)
    accelerate(Borrow, "__enter__", methods.enter_borrow)
    accelerate(Borrow, "__exit__", methods.exit_borrow)
