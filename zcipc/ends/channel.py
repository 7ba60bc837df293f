"""Two processes, two queues, one segment: bytes and loans in both directions.

The fast path of every call is one compiled function (`methods.py`) run under the interpreter lock; only the sleeping is done
without the lock. What cannot be done at once comes here, to the slow path: wait, cut a large message up, or say why not.
"""

import contextlib
import functools
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from zcipc import operations as ops
from zcipc.algorithms import ring
from zcipc.algorithms.waiting import Waiting
from zcipc.annotations import BytesLike
from zcipc.ends import methods
from zcipc.ends.end import End, acquired
from zcipc.ends.methods import NOT_IN_QUEUE, entries
from zcipc.ends.streams import Assembly, cut
from zcipc.ends.views import Borrow, Kept, Loan, accelerate_blocks
from zcipc.errors import BufferTooShort, Closed, MessageTooLarge, TimedOut, WrongDirection
from zcipc.memory.segment import Segment
from zcipc.native.extension import accelerate

_NS_PER_S = 1_000_000_000
_OWN_REFERENCES = 2  # to what a local name alone refers to, as `sys.getrefcount` counts: the name, and its argument

_Result = TypeVar("_Result")


class Channel(End):
    """One end of a two-way channel for bytes. `Connection` is this with objects.

    Safe for several threads of its process. Time-outs are in seconds; None waits for ever, 0 not at all. Every call that
    waits raises `TimedOut`, `Closed`, `PeerDied`, `PermissionDenied` or `CorruptSegment`, and leaves the channel usable where
    the reason allows.
    """

    def __init__(
        self,
        segment: Segment,
        seat: int,
        waiting: Waiting = Waiting.HYBRID,
        *,
        readable: bool = True,
        writable: bool = True,
    ) -> None:
        super().__init__(segment, seat, waiting, readable, writable)
        self._spare_loan: Loan | None = None
        self._spare_borrow: Borrow | None = None
        self._assembly = Assembly()
        self._assembling = threading.Lock()
        self._streaming = threading.Lock()
        _accelerate()

    # --- bytes

    def send_bytes(self, data: BytesLike, offset: int = 0, size: int | None = None, *, timeout: float | None = None) -> None:
        """Send a copy of `data`, or of `size` bytes of it from `offset`; wait for room.

        What is larger than the queue goes through it in parts, and arrives whole or not at all.
        """
        if offset or size is not None:
            data = _part(data, offset, size)
        self._send_copy(data, 0, timeout)

    def recv_bytes(self, maxlength: int | None = None, *, timeout: float | None = None) -> bytes:
        """The next message, as a copy of its own.

        Raises:
            BufferTooShort: it is longer than `maxlength`.
        """
        with self.borrow(timeout=timeout) as buffer:
            message = bytes(buffer)
        if maxlength is not None and len(message) > maxlength:
            raise BufferTooShort(message)
        return message

    def recv_bytes_into(self, buffer: BytesLike, offset: int = 0, *, timeout: float | None = None) -> int:
        """Copy the next message into `buffer` from byte `offset` on; its length in bytes.

        Raises:
            BufferTooShort: it is longer than the buffer from there on.
            ValueError: `offset` does not lie within the buffer.
        """
        room = _part(buffer, offset, None)
        if room.readonly:
            raise TypeError(f"a message cannot be received into {type(buffer).__name__}, which is read-only")
        with self.borrow(timeout=timeout) as message:
            if len(message) > len(room):
                raise BufferTooShort(bytes(message))
            room[: len(message)] = message
            return len(message)

    def poll(self, timeout: float | None = 0.0) -> bool:
        """Whether a message, the first part of one, or the end of all messages is there within `timeout`."""
        if entries.peek(self) == ops.DONE:
            return True
        try:
            self._wait_for_message(lambda: self._check(entries.peek(self)) == ops.DONE or None, timeout)
        except TimedOut:
            return False
        except Closed:
            return True
        return True

    def watch_for_room(self, nbytes: int) -> None:
        """Let the descriptor of `fileno` become readable, once, when a message of `nbytes` may fit: for who must not wait.

        To be called after sending with `timeout=0` raised `TimedOut`. A `poll` that finds no message silences it again.
        """
        self.fileno()
        entries.watch_for_room(self, min(nbytes, self._longest))

    # --- zero-copy

    def loan(self, nbytes: int, *, timeout: float | None = None) -> "Loan":
        """Room for a message of `nbytes`, to be written in place: `with channel.loan(n) as buffer: ...`.

        Sent when the block ends, dropped if it raises. One at a time; meanwhile `send_bytes` raises `LoanOpen`. Arrays made
        over the buffer may live on: their memory is not used for another message before they are gone.

        Raises:
            MessageTooLarge: it can never fit into the queue. Only `send` and `send_bytes` cut messages up.
        """
        return self._loan_tagged(nbytes, timeout, 0)

    def borrow(self, *, timeout: float | None = None) -> "Borrow":
        """The next message, read in place: `with channel.borrow() as buffer: ...`.

        The buffer is read-only. When the block ends, the buffer becomes invalid, and its room goes back to the sender. Arrays
        made over the buffer may live on, and keep the message until they are gone. A message larger than the queue is put
        together in private memory, and read there.
        """
        spare, self._spare_borrow = self._spare_borrow, None
        if spare is None or sys.getrefcount(spare) > _OWN_REFERENCES:
            spare = Borrow(self._memory_to_view(), readonly=True)
        return spare.prepared(self, timeout)

    # --- the slow path

    def _wait_for_message(self, attempt: Callable[[], _Result | None], timeout: float | None) -> _Result:
        if not self._readable:
            raise WrongDirection(f"{self!r} is for sending only: Pipe(duplex=False) gives the reader first, the writer second")
        return self._wait(attempt, functools.partial(entries.await_message, self), timeout)

    def _send_copy(self, data: BytesLike, tag: int, timeout: float | None) -> None:
        if entries.send(self, data, tag) != ops.DONE:
            view = _contiguous(data)
            if view.nbytes > self._longest:
                self._send_parts([view.cast("B")], view.nbytes, tag, timeout)
            else:
                self._wait_for_room(
                    lambda: self._check(entries.send(self, view, tag)) == ops.DONE or None, view.nbytes, timeout
                )

    def _send_parts(self, pieces: Iterable[memoryview], size: int, tag: int, timeout: float | None) -> None:
        """Send a message of `size` bytes, too large for the queue, which consists of `pieces`.

        Raises:
            MessageTooLarge: it is not to wait, and would have to.
        """
        if timeout == 0:
            raise MessageTooLarge(
                f"a message of {size:,} bytes passes through this connection of {self._capacity:,} bytes only while both ends "
                f"wait for each other; allow it some time, or make it with capacity={1 << size.bit_length()} or more"
            )
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._stream(timeout):
            for kind, chunk in cut(pieces, size, tag, self._capacity):
                left = None if deadline is None else deadline - time.monotonic()
                self._send_chunk(chunk, kind, left)

    @contextlib.contextmanager
    def _stream(self, timeout: float | None) -> Iterator[None]:
        """Meanwhile only `_send_chunk` sends. A message that is not complete by the end is dropped by its receiver."""
        if not acquired(self._streaming, timeout):
            raise TimedOut(f"another thread was sending on {self!r} all the {timeout:g} s")
        try:
            yield
        finally:
            entries.end_stream(self)
            self._streaming.release()

    def _send_chunk(self, chunk: memoryview, kind: int, timeout: float | None) -> None:
        def attempt() -> bool | None:
            return self._check(entries.send_chunk(self, chunk, kind)) == ops.DONE or None

        self._wait_for_room(attempt, chunk.nbytes, timeout, in_parts=True)

    def _loan_tagged(self, nbytes: int, timeout: float | None, tag: int) -> Loan:
        spare, self._spare_loan = self._spare_loan, None
        if spare is None or sys.getrefcount(spare) > _OWN_REFERENCES:
            spare = Loan(self._memory_to_view(), readonly=False)
        return spare.prepared(self, timeout, nbytes, tag)

    def _open_loan_slowly(self, loan: Loan, nbytes: int, timeout: float | None) -> None:
        if nbytes < 0:
            raise ValueError(f"a loan of {nbytes} bytes makes no sense")
        self._wait_for_room(lambda: self._check(entries.open_loan(loan)) > 0 or None, nbytes, timeout)

    def _end_loan_slowly(self, window: Any, tag: int, drop: bool) -> None:
        self._require_open()
        self._lent.append(self._kept(window))
        self._reap()
        if drop:
            entries.drop(self, window)
        else:
            entries.commit(self, window, tag)

    def _open_borrow_slowly(self, borrow: Borrow, timeout: float | None) -> None:
        def attempt() -> bool | None:
            header = self._check(entries.open_borrow(borrow))
            return self._assemble(borrow) if header == ops.CHUNKED else header > 0 or None

        self._wait_for_message(attempt, timeout)
        window = borrow._window
        if window is not self._reading and window.position != NOT_IN_QUEUE:
            self._borrowed.append(window)

    def _assemble(self, borrow: Borrow) -> bool | None:
        """Point the window at a message that was too large for the queue; True, if it is complete."""
        with self._assembling:
            message = self._assembly.take(self, self._capacity)
            tag = self._assembly.tag
        if message is None:
            return None
        window = borrow._window
        window.memory, window.address, window.length = message.data, message.ctypes.data, message.nbytes
        window.position = NOT_IN_QUEUE
        borrow.tag = tag
        return True

    def _end_borrow_slowly(self, window: Any, state: int) -> None:
        if window.position != NOT_IN_QUEUE:
            self._borrowed.append(self._kept(window) if state == methods.VIEWED else Kept(window.position, None))
        if window is self._reading:
            self._reading = None
        elif window in self._borrowed:
            self._borrowed.remove(window)
        self._reap()

    def _wait_for_room(
        self, attempt: Callable[[], _Result | None], length: int, timeout: float | None, in_parts: bool = False
    ) -> _Result:
        if length > self._longest:
            raise MessageTooLarge(
                f"a message of {length:,} bytes can never fit in this connection of {self._capacity:,} bytes, which takes "
                f"{self._longest:,}; create it with capacity={1 << (length + 2 * ring.HEADER - 1).bit_length()} or more"
            )

        def sleep(waited_ns: int, limit_ns: int) -> bool:
            if not in_parts and self._streaming.locked():  # there may be room, but it is not for this message
                if self._streaming.acquire(timeout=(limit_ns - waited_ns) / _NS_PER_S):
                    self._streaming.release()
                return False
            return entries.await_room(self, length, waited_ns, limit_ns)

        return self._wait(attempt, sleep, timeout)

    def _unmap(self) -> None:
        for spare in (self._spare_loan, self._spare_borrow):
            if spare is not None:
                entries.reopen(spare)
                spare.retire()
        self._spare_loan = self._spare_borrow = None
        super()._unmap()


@functools.cache
def _accelerate() -> None:
    """Once a process, when the first channel is made: what needs no waiting is done in machine code."""
    accelerate(Channel, "send_bytes", methods.send_bytes)
    accelerate(Channel, "recv_bytes", methods.recv_bytes)
    accelerate(Channel, "loan", methods.loan)
    accelerate(Channel, "borrow", methods.borrow)
    accelerate_blocks()


def _contiguous(data: Any) -> memoryview:
    view = memoryview(data)
    if not view.c_contiguous:
        raise BufferError("the bytes of this object do not lie in one row: send a contiguous copy of it")
    return view


def _part(data: Any, offset: int, size: int | None) -> memoryview:
    view = memoryview(data).cast("B")
    size = len(view) - offset if size is None else size
    if offset < 0 or size < 0 or offset + size > len(view):
        raise ValueError(f"{size} bytes from {offset} do not lie within a buffer of {len(view)} bytes")
    return view[offset : offset + size]
