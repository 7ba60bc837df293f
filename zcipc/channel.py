"""Two processes, two queues, one segment: bytes and loans in both directions.

The fast path of every call is one compiled function (`methods.py`) run under the interpreter lock; only the sleeping is done
without the lock. What cannot be done at once comes here, to the slow path: take the seat, wait, or say why not.
"""

import contextlib
import functools
import os
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import BufferTooShort
from multiprocessing.util import Finalize
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np

from zcipc import methods, ring
from zcipc import operations as ops
from zcipc.atomics import WORD
from zcipc.errors import (
    Closed,
    CorruptSegment,
    LoanOpen,
    MessageTooLarge,
    PeerDied,
    PermissionDenied,
    TimedOut,
)
from zcipc.methods import entries
from zcipc.native import Handle, accelerate
from zcipc.seats import SEATS_END, seat_address, seated, take_seat
from zcipc.segment import Segment, populate_pages
from zcipc.views import Borrow, Kept, Loan
from zcipc.waiting import Waiting

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

KIND = "channel"
DEFAULT_CAPACITY = 1 << 20  # bytes in each direction
_DATA_OFFSET = 4096  # the queues' data begin on a page of their own
_SMALLEST_CAPACITY = 4096
_NS_PER_S = 1_000_000_000
_SLICE_S = ops.SLICE_NS / _NS_PER_S

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Statistics:
    """A snapshot of one end."""

    messages_sent: int
    messages_received: int
    bytes_queued_out: int  # sent and not yet released by the other end, record headers included
    bytes_queued_in: int  # received or not, and not yet released by this end
    capacity: int  # bytes in each direction
    views_alive: int  # loans and borrows whose memory is still viewed after their end
    peer_pid: int | None  # None until the other end is used
    waiting: Waiting


class Channel(Handle):
    """One end of a two-way channel for bytes. `Connection` is this with objects.

    Safe for several threads of its process. Time-outs are in seconds; None waits for ever, 0 not at all. Every call that
    waits raises `TimedOut`, `Closed`, `PeerDied`, `PermissionDenied` or `CorruptSegment`, and leaves the channel usable where
    the reason allows.
    """

    def __init__(self, segment: Segment, seat: int, waiting: Waiting = Waiting.HYBRID) -> None:
        self._segment = segment
        self._seat = seat
        self._waiting = waiting
        self._memory = segment.buffer
        self._capacity = (segment.size - _DATA_OFFSET) // 2
        if self._capacity < ring.LINE or self._capacity & (self._capacity - 1):
            raise CorruptSegment(f"{segment.name} has queues of {self._capacity:,} bytes, which no channel has")
        self._shared = False  # another process may hold this end too, and use it first
        self._sleepers = 0  # threads that wait without the interpreter lock: the memory must stay mapped
        self._longest: int = ring.max_message.py_func(self._capacity)
        self._lent: deque[Kept] = deque()  # messages sent but still viewed here, oldest first
        self._borrowed: list[Any] = []  # messages received and not yet given back: windows of open blocks, and what is Kept
        self._spare_loan: Loan | None = None
        self._spare_borrow: Borrow | None = None
        self._owner: int | None = None
        self._opening = threading.Lock()
        self._reaping = False
        self._views_ended = False
        self._unmapped = False
        self._block = np.zeros(ops.END_WORDS + ring.LINE // 8, np.int64)
        self.end = -(-self._block.ctypes.data // ring.LINE) * ring.LINE
        self._words = self._block[(self.end - self._block.ctypes.data) // 8 :]
        for side, index in ((ops.PRODUCER, seat), (ops.CONSUMER, 1 - seat)):
            self._set(side + ring.CONTROL, segment.address + SEATS_END + index * ring.CONTROL_BYTES)
            self._set(side + ring.DATA, segment.address + _DATA_OFFSET + index * self._capacity)
            self._set(side + ring.CAPACITY, self._capacity)
            self._set(side + ring.FLOOR, ring.NO_FLOOR)
        self._set(ops.STATE, ops.FRESH)
        self._set(ops.PEER_SEAT, seat_address(segment, 1 - seat))
        self._set(ops.SPIN_NS, waiting.value)
        _accelerate()
        _channels.add(self)

    # --- bytes

    def send_bytes(
        self, data: "ReadableBuffer", offset: int = 0, size: int | None = None, *, timeout: float | None = None
    ) -> None:
        """Send a copy of `data`, or of `size` bytes of it from `offset`; wait for room.

        Raises:
            MessageTooLarge: it can never fit.
        """
        if offset or size is not None:
            data = _part(data, offset, size)
        self._send_copy(data, 0, timeout)

    def recv_bytes(self, maxlength: int | None = None, *, timeout: float | None = None) -> bytes:
        """The next message, as a copy of its own.

        Raises:
            BufferTooShort: it is longer than `maxlength`; it is lost, as with `multiprocessing`.
        """
        with self.borrow(timeout=timeout) as buffer:
            message = bytes(buffer)
        if maxlength is not None and len(message) > maxlength:
            raise BufferTooShort(message)
        return message

    def poll(self, timeout: float | None = 0.0) -> bool:
        """Whether a message, or the end of all messages, is there within `timeout`."""
        try:
            self._wait(lambda: self._check(entries.peek(self)) == ops.DONE or None, self._sleep_for_message, timeout)
        except TimedOut:
            return False
        except Closed:
            return True
        return True

    # --- zero-copy

    def loan(self, nbytes: int, *, timeout: float | None = None) -> "Loan":
        """Room for a message of `nbytes`, to be written in place: `with channel.loan(n) as buffer: ...`.

        Sent when the block ends, dropped if it raises. One at a time; meanwhile `send_bytes` raises `LoanOpen`. Arrays made
        over the buffer may live on: their memory is not used for another message before they are gone.
        """
        return self._loan(nbytes, timeout, 0)

    def borrow(self, *, timeout: float | None = None) -> "Borrow":
        """The next message, read in place: `with channel.borrow() as buffer: ...`.

        The buffer is read-only. When the block ends, the buffer becomes invalid, and its room goes back to the sender. Arrays
        made over the buffer may live on, and keep the message until they are gone.
        """
        borrow, self._spare_borrow = self._spare_borrow or Borrow(self._memory), None
        return borrow.prepared(self, timeout)

    # --- the rest

    def close(self) -> None:
        """Leave. The other end receives what was sent and then `Closed`; so does a thread that waits here. Idempotent."""
        entries.close(self, self._shared)
        if not self._sleepers:
            self._unmap()

    @property
    def closed(self) -> bool:
        return self._get(ops.STATE) == ops.SHUT

    @property
    def capacity(self) -> int:
        """Bytes of each direction's queue; a message has at most 16 fewer."""
        return self._capacity

    def statistics(self) -> Statistics:
        self._require_open()
        self._reap()
        queued = [
            self._shared_word(side, ring.TAIL) - self._shared_word(side, ring.HEAD) for side in (ops.PRODUCER, ops.CONSUMER)
        ]
        peer = seated(self._segment, 1 - self._seat)
        return Statistics(
            messages_sent=self._get(ops.PRODUCER + ring.COUNT),
            messages_received=self._get(ops.CONSUMER + ring.COUNT),
            bytes_queued_out=queued[0],
            bytes_queued_in=queued[1],
            capacity=self._capacity,
            views_alive=len(self._lent) + sum(isinstance(held, Kept) for held in self._borrowed),
            peer_pid=None if peer is None else peer.pid,
            waiting=self._waiting,
        )

    def share(self) -> None:
        """Let another process take this end, should it come first: closing it here no longer closes it for all.

        Raises:
            PermissionDenied: it is this process's for good, because it has been used here.
        """
        if self._get(ops.STATE) != ops.FRESH:
            raise PermissionDenied(
                f"{self!r} cannot be handed to another process: it is in use here. Hand over an end before its first use"
            )
        self._shared = True
        self._segment.leave_name()

    # --- the slow path

    def _wait(self, attempt: Callable[[], _Result | None], sleep: Callable[[int], None], timeout: float | None) -> _Result:
        """Call `attempt` until it has a result; sleep between the calls."""
        self._require_open()
        deadline = None if timeout is None else time.monotonic() + timeout
        next_look = time.monotonic() + _SLICE_S
        while True:
            now = time.monotonic()
            gone = self._peer_gone(look_at_process=now >= next_look)  # before the queue: what it sent comes first
            result = attempt()
            if result is not None:
                return result
            if gone is not None:
                raise gone()
            if deadline is not None and now >= deadline:
                raise TimedOut(f"nothing happened on {self!r} within {timeout:g} s")
            if now >= next_look:
                next_look = now + _SLICE_S
            limit = next_look if deadline is None else min(next_look, deadline)
            self._sleepers += 1
            try:
                sleep(max(int((limit - now) * _NS_PER_S), 1))
            finally:
                self._sleepers -= 1
                if self.closed and not self._sleepers:
                    self._unmap()
            self._require_open()

    def _sleep_for_message(self, limit_ns: int) -> None:
        entries.await_message(self, limit_ns)

    def _send_copy(self, data: "ReadableBuffer", tag: int, timeout: float | None) -> None:
        if entries.send(self, data, tag) != ops.DONE:
            view = _contiguous(data)
            self._wait_for_room(lambda: self._check(entries.send(self, view, tag)) == ops.DONE or None, view.nbytes, timeout)

    def _loan(self, nbytes: int, timeout: float | None, tag: int) -> Loan:
        loan, self._spare_loan = self._spare_loan or Loan(self._memory), None
        return loan.prepared(self, nbytes, timeout, tag)

    def _open_loan_slowly(self, window: Any, nbytes: int, timeout: float | None) -> None:
        if nbytes < 0:
            raise ValueError(f"a loan of {nbytes} bytes makes no sense")
        self._wait_for_room(lambda: self._check(entries.open_loan(self, window, nbytes)) > 0 or None, nbytes, timeout)

    def _end_loan_slowly(self, window: Any, tag: int, drop: bool) -> None:
        self._require_open()
        self._lent.append(self._kept(window))
        self._reap()
        if drop:
            entries.drop(self, window)
        else:
            entries.commit(self, window, tag)

    def _open_borrow_slowly(self, window: Any, timeout: float | None) -> int:
        def attempt() -> int | None:
            header = self._check(entries.open_borrow(self, window, 0))
            return header if header > 0 else None

        return self._wait(attempt, self._sleep_for_message, timeout)

    def _end_borrow_slowly(self, window: Any, state: int) -> None:
        self._borrowed.append(self._kept(window) if state == methods.VIEWED else Kept(window.position, None))
        if window in self._borrowed:
            self._borrowed.remove(window)
        self._reap()

    def _wait_for_room(self, attempt: Callable[[], _Result | None], length: int, timeout: float | None) -> _Result:
        if length > self._longest:
            raise MessageTooLarge(
                f"a message of {length:,} bytes can never fit in this connection of {self._capacity:,} bytes, which takes "
                f"{self._longest:,}; create it with capacity={1 << (length + 2 * ring.HEADER - 1).bit_length()} or more"
            )

        def sleep(limit_ns: int) -> None:
            self._reap()
            entries.await_room(self, length, limit_ns)

        return self._wait(attempt, sleep, timeout)

    def _check(self, result: int) -> int:
        """Raise what a result of an operation stands for, unless it is DONE, AGAIN or an address."""
        if result == ring.CORRUPT:
            raise CorruptSegment(
                f"{self!r}: the other end wrote an impossible record; close the connection, nothing on it can be trusted"
            )
        if result == ops.PEER_CLOSED:
            raise self._closed_by_peer()
        if result == ops.LOANED:
            raise LoanOpen(f"{self!r} has a loan open: end its `with` block before sending anything else")
        return result

    def _require_open(self) -> None:
        state = self._get(ops.STATE)
        if state == ops.OPEN:
            return
        if state == ops.FRESH:
            with self._opening:
                if self._get(ops.STATE) == ops.FRESH:  # no other thread was first
                    self._open()
        elif state == ops.SHUT:
            raise Closed(f"{self!r} was closed here")
        else:
            raise PermissionDenied(
                f"{self!r} belongs to process {self._owner}, from which this process {os.getpid()} was forked; "
                "give the child an end that the parent has not used yet"
            )

    def _open(self) -> None:
        self._set(ops.NAMESPACE, take_seat(self._segment, self._seat).namespace)
        self._owner = os.getpid()
        _close_at_exit(self._owner)
        fences_reach_us = entries.register_for_barrier()
        populate_pages(self._segment.address, self._segment.size)
        entries.open_end(self, not fences_reach_us, self._waiting is Waiting.BLOCK)
        if not self._peer_can_run_meanwhile():
            self._set(ops.SPIN_NS, 0)

    def _peer_can_run_meanwhile(self) -> bool:
        """Whether there is a core for the peer while this end spins on its own."""
        cores = os.sched_getaffinity(0)
        peer = seated(self._segment, 1 - self._seat)
        if peer is None:
            return os.cpu_count() != 1
        with contextlib.suppress(OSError, OverflowError):  # the peer is gone, of another pid namespace, or no process at all
            cores |= os.sched_getaffinity(peer.pid)
        return len(cores) > 1

    def _peer_gone(self, look_at_process: bool) -> Callable[[], Closed] | None:
        """What makes the error to raise, if the peer is gone. Not the error: a frame that keeps one is kept by it."""
        if entries.is_closed(self):
            return self._closed_by_peer
        if look_at_process:
            peer = seated(self._segment, 1 - self._seat)
            if peer is not None and not peer.is_alive():
                return functools.partial(self._peer_died, peer.pid)
        return None

    def _peer_died(self, pid: int) -> PeerDied:
        return PeerDied(f"process {pid} at the other end of {self!r} ended without closing it")

    def _closed_by_peer(self) -> Closed:
        return Closed(f"the other end of {self!r} was closed, and all it sent is received")

    # --- views of the memory

    def _kept(self, window: Any) -> Kept:
        """A message that is viewed beyond its block, and given back when its last view ends: somebody may wait for its room."""
        channel = weakref.ref(self)

        def ended(_window: object) -> None:
            if (alive := channel()) is not None:
                alive._reap()

        return Kept(window.position, weakref.ref(window, ended))

    def _reap(self) -> None:
        """Give back the memory of loans and borrows that nobody views any more.

        Views end at any instant of any thread, also of one that is just here; who comes second leaves it to the first.
        """
        self._views_ended = True
        while self._views_ended and not self._reaping:
            self._reaping = True  # no call, and so no other thread and no signal, comes between the look and this
            try:
                self._views_ended = False
                self._give_back()
            finally:
                self._reaping = False

    def _give_back(self) -> None:
        while self._lent and self._lent[0].is_over():
            self._lent.popleft()
        self._set(ops.PRODUCER + ring.FLOOR, self._lent[0].position if self._lent else ring.NO_FLOOR)
        over = [kept for kept in self._borrowed if isinstance(kept, Kept) and kept.is_over()]
        for kept in over:
            self._borrowed.remove(kept)
        if over:
            entries.give_back(self, len(over), len(self._borrowed), min((held.position for held in self._borrowed), default=0))

    def _unmap(self) -> None:
        if self._unmapped:
            return
        self._unmapped = True
        self._spare_loan = self._spare_borrow = None
        self._lent.clear()  # whoever views a window keeps it, and the memory below it
        self._borrowed.clear()
        self._segment.close()

    # --- private and shared words

    def _get(self, offset: int) -> int:
        return int(self._words[offset // WORD])

    def _set(self, offset: int, value: int) -> None:
        self._words[offset // WORD] = value

    def _shared_word(self, side: int, offset: int) -> int:
        start = self._get(side + ring.CONTROL) - self._segment.address + offset
        try:
            return int.from_bytes(self._memory[start : start + WORD], "little", signed=True)
        except ValueError:
            self._require_open()  # another thread closed this end meanwhile
            raise

    # --- life

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __del__(self, _is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        if not _is_finalizing() and self.end:  # else all are closed already, or creating it failed
            self.close()

    def __repr__(self) -> str:
        state = ("open", "not used yet", "closed", "the parent's")[self._get(ops.STATE)]
        return f"<{type(self).__name__} {self._segment.name}, end {self._seat}, {state}>"


def create_segment(capacity: int) -> Segment:
    """A segment for a channel with queues of at least `capacity` bytes in each direction.

    Raises:
        ValueError: `capacity` is not positive.
        OutOfSharedMemory: there is no room for it.
    """
    if capacity <= 0:
        raise ValueError(f"a capacity of {capacity} bytes makes no sense")
    power_of_two = max(1 << (capacity - 1).bit_length(), _SMALLEST_CAPACITY)
    return Segment.create(KIND, _DATA_OFFSET + 2 * power_of_two)


@functools.cache
def _accelerate() -> None:
    """Once a process, when the first channel is made: what needs no waiting is done in machine code."""
    accelerate(Channel, "send_bytes", methods.send_bytes)
    accelerate(Channel, "recv_bytes", methods.recv_bytes)


def _contiguous(data: "ReadableBuffer") -> memoryview:
    view = memoryview(data)
    if not view.c_contiguous:
        raise BufferError("the bytes of this object do not lie in one row: send a contiguous copy of it")
    return view


def _part(data: "ReadableBuffer", offset: int, size: int | None) -> memoryview:
    view = memoryview(data).cast("B")
    size = len(view) - offset if size is None else size
    if offset < 0 or size < 0 or offset + size > len(view):
        raise ValueError(f"{size} bytes from {offset} do not lie within a buffer of {len(view)} bytes")
    return view[offset : offset + size]


_channels: weakref.WeakSet[Channel] = weakref.WeakSet()


@functools.cache
def _close_at_exit(pid: int) -> None:
    """Once a process, keyed by its number because a fork copies the cache: tell all peers when process `pid` exits."""
    Finalize(None, _close_all, exitpriority=10)


def _close_all() -> None:
    for channel in list(_channels):
        channel.close()


def _after_fork_in_child() -> None:
    for channel in list(_channels):
        channel._shared = True
        channel._opening = threading.Lock()  # a thread of the parent may hold the old one
        if channel._get(ops.STATE) == ops.OPEN:
            channel._set(ops.STATE, ops.FORKED)


def _after_fork_in_parent() -> None:
    for channel in list(_channels):
        if channel._get(ops.STATE) == ops.FRESH:
            channel._shared = True  # and the child has the memory: it needs no name


os.register_at_fork(after_in_child=_after_fork_in_child, after_in_parent=_after_fork_in_parent)
