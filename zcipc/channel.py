"""Two processes, two queues, one segment: bytes and loans in both directions.

The fast path of every call is one compiled function (`operations.py`) run under the interpreter lock, which makes it atomic
for the threads of a process; only the sleeping is done without the lock. What cannot be done at once comes here, to the slow
path: take the seat, wait, or say why not.
"""

import contextlib
import functools
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import BufferTooShort
from multiprocessing.util import Finalize
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Self, TypeVar

import numpy as np
from numba import int64, types, void

from zcipc import operations as ops
from zcipc import ring
from zcipc.atomics import WORD, futex_wake, load, store
from zcipc.compiled import entry_point, jit, jit_nogil
from zcipc.errors import (
    Closed,
    CorruptSegment,
    LoanOpen,
    MessageTooLarge,
    PeerDied,
    PermissionDenied,
    TimedOut,
)
from zcipc.objects import new_object, readable_buffer
from zcipc.seats import SEATS_END, seat_address, seated, take_seat
from zcipc.segment import Segment
from zcipc.waiting import CLOSED, Waiting, close_bell, register_for_barrier, ring_bell, set_fenced

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


class _Entries(NamedTuple):
    """The compiled functions that the interpreter calls, past numba's dispatcher."""

    try_send: Callable[..., int]
    receive_bytes: Callable[..., bytes | None]
    try_claim: Callable[..., int]
    commit: Callable[..., None]
    peek: Callable[..., tuple[int, int]]
    drop: Callable[..., None]
    hold: Callable[..., int]
    release: Callable[..., None]
    await_message: Callable[..., None]
    await_room: Callable[..., None]
    open_end: Callable[..., None]
    hang_up: Callable[..., None]


@functools.cache
def _entries() -> _Entries:
    return _Entries(
        try_send=entry_point(ops.try_send_buffer, int64(int64, readable_buffer, int64)),
        receive_bytes=entry_point(ops.receive_bytes, new_object(int64)),
        try_claim=entry_point(ops.try_claim, int64(int64, int64)),
        commit=entry_point(ops.commit, void(int64, int64, int64)),
        peek=entry_point(ops.peek, types.UniTuple(int64, 2)(int64)),
        drop=entry_point(ops.drop, void(int64, int64)),
        hold=entry_point(ops.hold, int64(int64, int64)),
        release=entry_point(ops.release, void(int64, int64)),
        await_message=entry_point(_await_message, void(int64, int64)),
        await_room=entry_point(_await_room, void(int64, int64, int64)),
        open_end=entry_point(_open_end, void(int64, int64, int64)),
        hang_up=entry_point(_hang_up, void(int64)),
    )


@jit_nogil
def _await_message(end, limit_ns):
    ops.await_message(end, limit_ns)


@jit_nogil
def _await_room(end, length, limit_ns):
    ops.await_room(end, length, limit_ns)


@jit
def _open_end(end, must_fence, must_be_fenced):
    """Make the end usable. `must_fence`: this process cannot be reached by membarrier; `must_be_fenced`: it sleeps often."""
    outgoing, incoming = load(end + ops.PRODUCER + ring.CONTROL), load(end + ops.CONSUMER + ring.CONTROL)
    if must_fence:
        set_fenced(outgoing + ring.CONSUMER_BELL)
        set_fenced(incoming + ring.PRODUCER_BELL)
    if must_be_fenced:
        set_fenced(outgoing + ring.PRODUCER_BELL)
        set_fenced(incoming + ring.CONSUMER_BELL)
    store(end + ops.STATE, ops.OPEN)


@jit
def _hang_up(end):
    """Close both own bells and wake the peer, wherever it sleeps; and wake this end's own sleepers."""
    outgoing, incoming = load(end + ops.PRODUCER + ring.CONTROL), load(end + ops.CONSUMER + ring.CONTROL)
    close_bell(outgoing + ring.PRODUCER_BELL)
    close_bell(incoming + ring.CONSUMER_BELL)
    ring_bell(outgoing + ring.CONSUMER_BELL)
    ring_bell(incoming + ring.PRODUCER_BELL)
    futex_wake(outgoing + ring.PRODUCER_BELL)
    futex_wake(incoming + ring.CONSUMER_BELL)


class Channel:
    """One end of a two-way channel for bytes. `Connection` is this with objects.

    Safe for several threads of its process. Time-outs are in seconds; None waits for ever, 0 not at all. Every call that
    waits raises `TimedOut`, `Closed`, `PeerDied`, `PermissionDenied` or `CorruptSegment`, and leaves the channel usable where
    the reason allows.
    """

    def __init__(self, segment: Segment, seat: int, waiting: Waiting = Waiting.HYBRID) -> None:
        self._segment = segment
        self._seat = seat
        self._waiting = waiting
        self._memory = segment.buffer.toreadonly()
        self._capacity = (segment.size - _DATA_OFFSET) // 2
        if self._capacity < ring.LINE or self._capacity & (self._capacity - 1):
            raise CorruptSegment(f"{segment.name} has queues of {self._capacity:,} bytes, which no channel has")
        self._shared = False  # another process may hold this end too, and use it first
        self._sleepers = 0  # threads that wait without the interpreter lock: the memory must stay mapped
        self._views: deque[tuple[int, _View]] = deque()  # loans sent but still viewed here: position, view; oldest first
        self._borrows: deque[Borrow] = deque()  # received and not yet released, oldest first
        self._owner: int | None = None
        self._opening = threading.Lock()
        self._block = np.zeros(ops.END_WORDS + ring.LINE // 8, np.int64)
        self.end: int = -(-self._block.ctypes.data // ring.LINE) * ring.LINE
        self._words = self._block[(self.end - self._block.ctypes.data) // 8 :]
        for side, index in ((ops.PRODUCER, seat), (ops.CONSUMER, 1 - seat)):
            self._set(side + ring.CONTROL, segment.address + SEATS_END + index * ring.CONTROL_BYTES)
            self._set(side + ring.DATA, segment.address + _DATA_OFFSET + index * self._capacity)
            self._set(side + ring.CAPACITY, self._capacity)
            self._set(side + ring.FLOOR, ring.NO_FLOOR)
        self._set(ops.STATE, ops.FRESH)
        self._set(ops.PEER_SEAT, seat_address(segment, 1 - seat))
        self._set(ops.SPIN_NS, waiting.value)
        self._entries = _entries()
        self._try_send = self._entries.try_send
        self._receive_bytes = self._entries.receive_bytes
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
        if self._try_send(self.end, data, 0) != ops.DONE:
            self._send_waiting(data, 0, timeout)

    def recv_bytes(self, maxlength: int | None = None, *, timeout: float | None = None) -> bytes:
        """The next message, as a copy of its own.

        Raises:
            BufferTooShort: it is longer than `maxlength`; it is lost, as with `multiprocessing`.
        """
        message = self._receive_bytes(self.end)
        if message is None:
            message = self._wait(self._receive_now, self._sleep_for_message, timeout)
        if maxlength is not None and len(message) > maxlength:
            raise BufferTooShort(message)
        return message

    def poll(self, timeout: float | None = 0.0) -> bool:
        """Whether a message, or the end of all messages, is there within `timeout`."""
        try:
            self._wait(self._peek_now, self._sleep_for_message, timeout)
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
        return Loan(self, nbytes, timeout)

    def borrow(self, *, timeout: float | None = None) -> "Borrow":
        """The next message, read in place: `with channel.borrow() as buffer: ...`.

        The buffer is read-only. When the block ends, the buffer becomes invalid, and its room goes back to the sender. Arrays
        made over the buffer may live on, and keep the message until they are gone.
        """
        return Borrow(self, timeout)

    # --- the rest

    def close(self) -> None:
        """Leave. The other end receives what was sent and then `Closed`; so does a thread that waits here. Idempotent."""
        state = self._get(ops.STATE)
        if state == ops.SHUT:
            return
        self._set(ops.STATE, ops.SHUT)
        if state == ops.OPEN or (state == ops.FRESH and not self._shared):
            self._entries.hang_up(self.end)
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
            views_alive=len(self._views) + sum(borrow.ended for borrow in self._borrows),
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

    def _wait(
        self, attempt: Callable[[], _Result | None], sleep: Callable[[int], None], timeout: float | None
    ) -> _Result:
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
                raise gone
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
        self._entries.await_message(self.end, limit_ns)

    def _receive_now(self) -> bytes | None:
        self._peek_now()  # says what is wrong, where anything is
        return self._receive_bytes(self.end)

    def _peek_now(self) -> tuple[int, int] | None:
        header, payload = self._entries.peek(self.end)
        if header:
            return header, payload
        self._check(payload)
        return None

    def _send_waiting(self, data: "ReadableBuffer", tag: int, timeout: float | None) -> None:
        length = memoryview(data).nbytes

        def attempt() -> bool | None:
            return self._check(self._try_send(self.end, data, tag)) == ops.DONE or None

        self._wait_for_room(attempt, length, timeout)

    def _claim_waiting(self, nbytes: int, timeout: float | None) -> int:
        def attempt() -> int | None:
            payload = self._check(self._entries.try_claim(self.end, nbytes))
            return payload if payload > 0 else None

        return self._wait_for_room(attempt, nbytes, timeout)

    def _wait_for_room(self, attempt: Callable[[], _Result | None], length: int, timeout: float | None) -> _Result:
        longest = ring.max_message.py_func(self._capacity)
        if length > longest:
            raise MessageTooLarge(
                f"a message of {length:,} bytes can never fit in this connection of {self._capacity:,} bytes, which takes "
                f"{longest:,}; create it with capacity={1 << (length + 2 * ring.HEADER - 1).bit_length()} or more"
            )

        def sleep(limit_ns: int) -> None:
            self._reap()
            self._entries.await_room(self.end, length, limit_ns)

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
        take_seat(self._segment, self._seat)
        self._owner = os.getpid()
        _close_at_exit(self._owner)
        fences_reach_us = register_for_barrier()
        self._entries.open_end(self.end, not fences_reach_us, self._waiting is Waiting.BLOCK)
        if not self._peer_can_run_meanwhile():
            self._set(ops.SPIN_NS, 0)

    def _peer_can_run_meanwhile(self) -> bool:
        """Whether there is a core for the peer while this end spins on its own."""
        cores = os.sched_getaffinity(0)
        peer = seated(self._segment, 1 - self._seat)
        if peer is None:
            return os.cpu_count() != 1
        with contextlib.suppress(OSError):  # the peer is gone, or of another pid namespace
            cores |= os.sched_getaffinity(peer.pid)
        return len(cores) > 1

    def _peer_gone(self, look_at_process: bool) -> Closed | None:
        if self._shared_word(ops.CONSUMER, ring.PRODUCER_BELL) == CLOSED:
            return self._closed_by_peer()
        if look_at_process:
            peer = seated(self._segment, 1 - self._seat)
            if peer is not None and not peer.is_alive():
                return PeerDied(f"process {peer.pid} at the other end of {self!r} ended without closing it")
        return None

    def _closed_by_peer(self) -> Closed:
        return Closed(f"the other end of {self!r} was closed, and all it sent is received")

    # --- views of the memory

    def _reap(self) -> None:
        """Give back the memory of loans and borrows that nobody views any more."""
        while self._views and self._views[0][1].is_over():
            self._views.popleft()
        self._set(ops.PRODUCER + ring.FLOOR, self._views[0][0] if self._views else ring.NO_FLOOR)
        if not self._borrows:
            return
        while self._borrows and self._borrows[0].is_over():
            self._borrows.popleft()
        position = self._borrows[0].start if self._borrows else self._get(ops.CONSUMER + ring.POSITION)
        self._entries.release(self.end, position)

    def _unmap(self) -> None:
        with contextlib.suppress(BufferError):  # a view lives on; the segment waits for it
            self._memory.release()
        self._segment.close()

    # --- private and shared words

    def _get(self, offset: int) -> int:
        return int(self._words[offset // WORD])

    def _set(self, offset: int, value: int) -> None:
        self._words[offset // WORD] = value

    def _shared_word(self, side: int, offset: int) -> int:
        start = self._get(side + ring.CONTROL) - self._segment.address + offset
        return int.from_bytes(self._memory[start : start + WORD], "little", signed=True)

    # --- life

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_entries"):  # else creating it failed
            self.close()

    def __repr__(self) -> str:
        state = ("open", "not used yet", "closed", "the parent's")[self._get(ops.STATE)]
        return f"<{type(self).__name__} {self._segment.name}, end {self._seat}, {state}>"


class Loan:
    """A message being written in place. See `Channel.loan`."""

    __slots__ = ("_channel", "_nbytes", "_start", "_tag", "_timeout", "_view")

    def __init__(self, channel: Channel, nbytes: int, timeout: float | None, tag: int = 0) -> None:
        self._channel = channel
        self._nbytes = nbytes
        self._timeout = timeout
        self._tag = tag

    def __enter__(self) -> memoryview:
        channel = self._channel
        if self._nbytes < 0:
            raise ValueError(f"a loan of {self._nbytes} bytes makes no sense")
        if self._nbytes > channel.capacity or (payload := channel._entries.try_claim(channel.end, self._nbytes)) < 0:
            payload = channel._claim_waiting(self._nbytes, self._timeout)
        channel._set(ops.LOAN, payload)
        self._start = channel._get(ops.PRODUCER + ring.POSITION)
        self._view = _View(channel._segment.buffer, payload - channel._segment.address, self._nbytes)
        return self._view.buffer

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        channel = self._channel
        channel._require_open()
        if not self._view.is_over():
            channel._views.append((self._start, self._view))
            channel._reap()
        if kind is not None:
            channel._entries.drop(channel.end, self._nbytes)
        else:
            channel._entries.commit(channel.end, self._nbytes, self._tag)


class Borrow:
    """A message being read in place. See `Channel.borrow`."""

    __slots__ = ("_channel", "_timeout", "_view", "ended", "start", "tag")

    def __init__(self, channel: Channel, timeout: float | None) -> None:
        self._channel = channel
        self._timeout = timeout
        self.ended = False

    def __enter__(self) -> memoryview:
        channel = self._channel
        header, payload = channel._entries.peek(channel.end)
        if header == 0:
            header, payload = channel._wait(channel._peek_now, channel._sleep_for_message, self._timeout)
        length = (header & ring.LENGTH_MASK) - 1
        self.tag = header >> ring.LENGTH_BITS
        self._view = _View(channel._memory, payload - channel._segment.address, length)
        self.start = channel._get(ops.CONSUMER + ring.POSITION)
        channel._entries.hold(channel.end, header)
        channel._borrows.append(self)
        return self._view.buffer

    def __exit__(self, *exception: object) -> None:
        self.ended = True
        self._view.is_over()  # the buffer becomes invalid, even if an earlier borrow is still open
        if not self._channel.closed:
            self._channel._reap()

    def is_over(self) -> bool:
        """Whether the block has ended and no view of the message is left."""
        return self.ended and self._view.is_over()


class _View:
    """A part of shared memory lent out as a `memoryview`, and whether anything made over it is still alive.

    The buffer's exporter is an array that belongs to this view alone: whatever is made over the buffer keeps the exporter
    alive, so the view is over when the buffer is released and the exporter gone.
    """

    __slots__ = ("_exporter", "buffer")

    def __init__(self, memory: memoryview, start: int, length: int) -> None:
        exporter = np.frombuffer(memory, np.uint8, length, start) if length else np.empty(0, np.uint8)
        exporter.flags.writeable = not memory.readonly
        self._exporter = weakref.ref(exporter)
        self.buffer = exporter.data

    def is_over(self) -> bool:
        """End the buffer's use; whether nothing made over it is left."""
        with contextlib.suppress(BufferError):
            self.buffer.release()
        return self._exporter() is None


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
            channel.share()


os.register_at_fork(after_in_child=_after_fork_in_child, after_in_parent=_after_fork_in_parent)
