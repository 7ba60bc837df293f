"""One end of a connection: its private words, its seat, how it waits, its descriptor and its life.

What is the same whatever goes through the connection. `Channel` adds bytes and loans, `Connection` objects.
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
from dataclasses import dataclass, field
from multiprocessing.util import Finalize
from typing import Any, Self, TypeVar

import numpy as np

from zcipc import operations as ops
from zcipc.algorithms import ring
from zcipc.algorithms.doorbell import Doorbell, where_to_ring
from zcipc.algorithms.seats import SEATS, SEATS_END, seat_address, seat_holder, seated, take_seat
from zcipc.algorithms.waiting import CLOSED, SLEEPING, Waiting
from zcipc.display import A_NAME, OF_CAPACITY, Displayed
from zcipc.ends.methods import entries
from zcipc.ends.views import Kept
from zcipc.errors import Closed, CorruptSegment, LoanOpen, PeerDied, PermissionDenied, TimedOut, WrongDirection
from zcipc.memory.onlooker import Place, QueueState, SeatState, process_state, queued, word
from zcipc.memory.segment import Segment, populate_pages
from zcipc.native.atomics import WORD
from zcipc.native.extension import Handle

KIND = "channel"
DEFAULT_CAPACITY = 1 << 20  # bytes in each direction
_DATA_OFFSET = 4096  # the queues' data begin on a page of their own
_SMALLEST_CAPACITY = 4096
_NS_PER_S = 1_000_000_000
_SLICE_S = ops.SLICE_NS / _NS_PER_S

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Statistics:
    """One end of a connection at one moment. Nothing is counted for it: an end has to know all this, or shared memory shows it.

    Attributes:
        messages_sent, messages_received: by this end so far. The other end's are its own affair.
        bytes_sent, bytes_received: likewise, with the header of each record, its padding to whole words, and gaps.
        bytes_queued_out: sent and not yet released by the other end, counted likewise; 0 when this end is closed.
        bytes_queued_in: received or not, and not yet released by this end; 0 when this end is closed.
        capacity: bytes in each direction.
        views_alive: loans and borrows whose memory is still viewed after their end.
        peer_pid: who has the other end; None until it is used, and when this end is closed.
        peer_alive: None if there is nobody, or in another pid namespace, where it cannot be looked up.
        peer_sleeps_for: of "message" and "room", those for which it sleeps, or gave up and nothing came since.
        waiting: how this end waits.
    """

    messages_sent: int
    messages_received: int
    bytes_sent: int
    bytes_received: int
    bytes_queued_out: int = field(metadata=OF_CAPACITY)
    bytes_queued_in: int = field(metadata=OF_CAPACITY)
    capacity: int
    views_alive: int
    peer_pid: int | None = field(metadata=A_NAME)
    peer_alive: bool | None
    peer_sleeps_for: tuple[str, ...]
    waiting: Waiting


def acquired(lock: threading.Lock, timeout: float | None) -> bool:
    """Whether `lock` was acquired within `timeout` seconds: at once if not positive, some day if None or infinite."""
    return lock.acquire(timeout=-1 if timeout is None else min(max(timeout, 0), threading.TIMEOUT_MAX))


class End(Displayed, Handle):
    """One end of a segment with two queues. Base of `Channel`."""

    # The native methods know where the last three lie: `methods.CHANNEL_READING` and so on.
    __slots__ = ("__dict__", "__weakref__", "_reading", "_spare_borrow", "_spare_loan")

    def __init__(self, segment: Segment, seat: int, waiting: Waiting, readable: bool, writable: bool) -> None:
        self._segment = segment
        self._seat = seat
        self._waiting = waiting
        self._readable, self._writable = readable, writable
        self._memory = memoryview(segment.buffer)  # of its own, so that the memory stays mapped until this end is closed
        self._capacity = queue_capacity(segment.size)
        if self._capacity < ring.LINE or self._capacity & (self._capacity - 1):
            raise CorruptSegment(f"{segment.name} has queues of {self._capacity:,} bytes, which no channel has")
        self._shared = False  # another process may hold this end too, and use it first
        self._next_look = 0.0  # when to look whether the peer's process lives; also for those who poll and never wait
        self._longest: int = ring.max_message.py_func(self._capacity)
        self._lent: deque[Kept] = deque()  # messages sent but still viewed here, oldest first
        self._reading: Any = None  # the window of an open block that was opened while no other message was held
        self._borrowed: list[Any] = []  # other messages received and not yet given back: windows of open blocks, what is Kept
        self._reaping = False
        self._views_ended = False
        self._unmapped = False
        self._owner: int | None = None
        self._doorbell: Doorbell | None = None
        self._opening = threading.Lock()
        self._block = np.zeros(ops.END_WORDS + ring.LINE // 8, np.int64)
        self.end: int = -(-self._block.ctypes.data // ring.LINE) * ring.LINE
        self._words = self._block[(self.end - self._block.ctypes.data) // 8 :]
        for side, index in ((ops.PRODUCER, seat), (ops.CONSUMER, 1 - seat)):
            self._set(side + ring.CONTROL, segment.address + control_offset(index))
            self._set(side + ring.DATA, segment.address + _DATA_OFFSET + index * self._capacity)
            self._set(side + ring.CAPACITY, self._capacity)
            self._set(side + ring.FLOOR, ring.NO_FLOOR)
        self._set(ops.STATE, ops.FRESH)
        self._set(ops.PEER_SEAT, seat_address(segment, 1 - seat))
        self._set(ops.SPIN_NS, waiting.value)
        if not writable:
            self._set(ops.LOAN, ops.READ_ONLY)
        _ends.add(self)

    def close(self) -> None:
        """Leave. The other end receives what was sent and then `Closed`; so does a thread that waits here. Idempotent."""
        entries.close(self, self._shared)
        self._stop_watching()
        self._unmap_unless_used()

    @property
    def closed(self) -> bool:
        """Whether it was closed here."""
        return self._get(ops.STATE) == ops.SHUT

    @property
    def readable(self) -> bool:
        """Whether it can receive; False for the second end of `Pipe(duplex=False)`."""
        return self._readable

    @property
    def writable(self) -> bool:
        """Whether it can send; False for the first end of `Pipe(duplex=False)`."""
        return self._writable

    @property
    def capacity(self) -> int:
        """Bytes of each direction's queue; a message has at most 16 fewer."""
        return self._capacity

    def statistics(self) -> Statistics:
        """A snapshot, in any state of this end. It takes no seat, and the other end does not notice."""
        places = self._observed()
        (peer, incoming), (_, outgoing) = (places[1 - self._seat], places[self._seat]) if places else (_NOBODY, _NOBODY)
        return Statistics(
            messages_sent=self._get(ops.PRODUCER + ring.COUNT),
            messages_received=self._get(ops.CONSUMER + ring.COUNT),
            bytes_sent=self._get(ops.PRODUCER + ring.POSITION),
            bytes_received=self._get(ops.CONSUMER + ring.POSITION),
            bytes_queued_out=outgoing.queued,
            bytes_queued_in=incoming.queued,
            capacity=self._capacity,
            views_alive=sum(isinstance(held, Kept) and not held.is_over() for held in [*self._lent, *self._borrowed]),
            peer_pid=peer.process.pid if peer.process else None,
            peer_alive=peer.process.alive if peer.process else None,
            peer_sleeps_for=peer.sleeps_for,
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

    def fileno(self) -> int:
        """A descriptor that is readable while a message, or the end of all messages, is there.

        For `selectors`, asyncio and `multiprocessing.connection.wait`; not to be read from. From the first call on the end is
        watched: the peer makes a system call whenever a message finds this end idle. The descriptor may be readable without a
        message after the peer dropped a loan, and when several threads receive; `poll` knows.

        Raises:
            OSError: no descriptor is left, or the peer is in another pid namespace and could not ring.
        """
        self._require_open()
        if self._doorbell is None:
            with self._opening:
                self._doorbell = self._doorbell or self._watch()
        return self._doorbell.fileno()

    # --- waiting

    def _wait(self, attempt: Callable[[], _Result | None], sleep: Callable[[int, int], bool], timeout: float | None) -> _Result:
        """Call `attempt` until it has a result.

        Between the calls, `sleep(waited_ns, limit_ns)`, which says whether the peer seems to have ended; see
        `operations.await_message`.
        """
        self._require_open()
        start, ended = time.monotonic(), self._get(ops.PEER_ENDED) != 0
        self._set(ops.PEER_ENDED, 0)
        deadline = None if timeout is None else start + timeout
        while True:
            now = time.monotonic()
            look = ended or now >= self._next_look
            if look:
                self._next_look = now + _SLICE_S
            gone = self._peer_gone(look)  # before the queue: what it sent comes first
            result = attempt()
            if result is not None:
                return result
            if gone is not None:
                raise gone()
            if deadline is not None and now >= deadline:
                raise TimedOut(f"nothing happened on {self._label()} within {timeout:g} s")
            limit = self._next_look if deadline is None else min(self._next_look, deadline)
            ended = sleep(int((now - start) * _NS_PER_S), int((limit - start) * _NS_PER_S) + 1)
            self._require_open()

    def _check(self, result: int) -> int:
        """Raise what a result of an operation stands for, unless it is one to wait after, or an address."""
        if result == ring.CORRUPT:
            raise CorruptSegment(
                f"{self!r}: the other end wrote an impossible record; close the connection, nothing on it can be trusted"
            )
        if result == ops.PEER_CLOSED:
            raise self._closed_by_peer()
        if result == ops.LOANED and self._get(ops.LOAN) == ops.READ_ONLY:
            raise WrongDirection(
                f"{self!r} is for receiving only: Pipe(duplex=False) gives the reader first, the writer second"
            )
        if result == ops.LOANED and self._get(ops.LOAN) > 0:
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
            self._unmap_unless_used()
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
        with contextlib.suppress(OSError):  # the peer is gone, or of another pid namespace
            cores |= os.sched_getaffinity(peer.pid)
        return len(cores) > 1

    def _peer_gone(self, look_at_process: bool) -> Callable[[], Closed] | None:
        """What makes the error to raise, if the peer is gone. Not the error: a frame that keeps one is kept by it."""
        if entries.is_closed(self):
            return self._closed_by_peer
        if look_at_process or (self._doorbell is not None and self._doorbell.tells_of_death()):
            peer = seated(self._segment, 1 - self._seat)
            if peer is not None and not peer.is_alive():
                return functools.partial(self._peer_died, peer.pid)
            if peer is not None and self._doorbell is not None and self._doorbell.tells_of_death():
                self._doorbell.follow(peer)  # it is just ending: its FIFO has said so, and does not say it twice
        return None

    def _peer_died(self, pid: int) -> PeerDied:
        return PeerDied(f"process {pid} at the other end of {self!r} ended without closing it")

    def _closed_by_peer(self) -> Closed:
        return Closed(f"the other end of {self!r} was closed, and all it sent is received")

    # --- the descriptor

    def _watch(self) -> Doorbell:
        doorbell = Doorbell()
        entries.watch(self, doorbell.fifo, doorbell.event, where_to_ring(os.getpid(), doorbell.fifo))
        peer = seated(self._segment, 1 - self._seat)
        if peer is not None:
            doorbell.follow(peer)
        return doorbell

    def _stop_watching(self) -> None:
        entries.stop_watching(self)
        if self._doorbell is not None:
            self._doorbell.close()

    # --- views of the memory

    def _memory_to_view(self) -> memoryview:
        """For a new window; an end that was closed has none left, and says so."""
        self._require_open()
        return self._memory

    def _kept(self, window: Any) -> Kept:
        """A message that is viewed beyond its block, and given back when its last view ends: somebody may wait for its room."""
        end = weakref.ref(self)

        def ended(_window: object) -> None:
            if (alive := end()) is not None:
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
            held = self._borrowed if self._reading is None else [self._reading, *self._borrowed]
            entries.give_back(self, len(over), len(held), min((one.position for one in held), default=0))

    def _unmap_unless_used(self) -> None:
        """Of a closed end: by a thread that waits, which then comes here."""
        if not self._get(ops.SLEEPERS):
            self._unmap()

    def _unmap(self) -> None:
        if self._unmapped:
            return
        self._unmapped = True
        self._lent.clear()  # whoever views a window keeps it, and the memory below it
        self._borrowed.clear()
        self._reading = None
        self._memory = memoryview(b"")
        self._segment.close()

    # --- private and shared words

    def _get(self, offset: int) -> int:
        return int(self._words[offset // WORD])

    def _set(self, offset: int, value: int) -> None:
        self._words[offset // WORD] = value

    def _observed(self) -> tuple[Place, ...]:
        """Both ends, as an onlooker sees them; none once this end is closed and its memory gone."""
        memory = bytes(self._memory[: control_offset(SEATS)])
        return observe(memory, self._capacity) if memory else ()

    # --- life

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __del__(self, _is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        if not _is_finalizing() and self.end:  # else all are closed already, or creating it failed
            self.close()

    def _label(self) -> str:
        direction = "" if self._readable and self._writable else ", receives only" if self._readable else ", sends only"
        return f"{type(self).__name__} {self._segment.name}, end {self._seat}, {self._capacity:,} bytes each way{direction}"

    def _condition(self) -> str:
        state = ("open", "not used yet", "closed", "the parent's")[self._get(ops.STATE)]
        if not (places := self._observed()):
            return state
        peer, _ = places[1 - self._seat]
        return f"{state}, {f'peer {peer}' if peer.process else 'no peer yet'}"


_NOBODY = SeatState("", None, (), closed=False), QueueState(0, 0, 0)


def queue_capacity(segment_size: int) -> int:
    """Bytes of each of the two queues in a segment of `segment_size` bytes."""
    return (segment_size - _DATA_OFFSET) // 2


def control_offset(index: int) -> int:
    """Where in the segment the control lines of the queue lie that seat `index` sends to."""
    return SEATS_END + index * ring.CONTROL_BYTES


def observe(memory: bytes, capacity: int) -> tuple[Place, ...]:
    """Both ends of a channel, each with what it sends, from the first `control_offset(SEATS)` bytes of its segment."""
    return tuple((_observe_seat(memory, index), _observe_queue(memory, index, capacity)) for index in range(SEATS))


def _observe_seat(memory: bytes, index: int) -> SeatState:
    holder = seat_holder(memory, index)
    bells = {
        "message": word(memory, control_offset(1 - index) + ring.CONSUMER_BELL),
        "room": word(memory, control_offset(index) + ring.PRODUCER_BELL),
    }
    sleeps_for = tuple(what for what, bell in bells.items() if bell == SLEEPING)
    return SeatState(f"end {index}", process_state(holder) if holder else None, sleeps_for, CLOSED in bells.values())


def _observe_queue(memory: bytes, index: int, capacity: int) -> QueueState:
    tail, head = (word(memory, control_offset(index) + offset) for offset in (ring.TAIL, ring.HEAD))
    return QueueState(capacity, queued(capacity, tail, head), tail)


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


_ends: weakref.WeakSet[End] = weakref.WeakSet()


@functools.cache
def _close_at_exit(pid: int) -> None:
    """Once a process, keyed by its number because a fork copies the cache: tell all peers when process `pid` exits."""
    Finalize(None, _close_all, exitpriority=10)


def _close_all() -> None:
    for end in list(_ends):
        end.close()


def _after_fork_in_child() -> None:
    for end in list(_ends):
        end._shared = True
        end._opening = threading.Lock()  # a thread of the parent may hold the old one
        end._stop_watching()
        if end._get(ops.STATE) == ops.OPEN:
            end._set(ops.STATE, ops.FORKED)


def _after_fork_in_parent() -> None:
    for end in list(_ends):
        if end._get(ops.STATE) == ops.FRESH:
            end._shared = True  # and the child has the memory: it needs no name


os.register_at_fork(after_in_child=_after_fork_in_child, after_in_parent=_after_fork_in_parent)
