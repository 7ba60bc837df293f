"""One sender, many readers, each of which sees every message: one ring, and a place in it for each reader.

The head of the ring is the sender's own: the oldest record that is still whole. The sender raises it before it overwrites
anything, to where the slowest reader is; or, by the policy `slow`, past it. A reader copies a record and then looks at the head
again: if it is past the record, the copy may be torn and is thrown away.
"""

import mmap
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, Self

import numpy as np

from zcipc.algorithms import ring
from zcipc.algorithms import shared_queue as core
from zcipc.algorithms.ring import CAPACITY, COUNT, DATA, EMPTY, HEADER, LINE, NOTHING, POSITION
from zcipc.algorithms.robust_lock import holder_of, lock_word
from zcipc.algorithms.waiting import SLEEPING, Waiting, ring_bell
from zcipc.annotations import Item, Received
from zcipc.display import A_NAME, OF_CAPACITY, Displayed
from zcipc.ends.end import DEFAULT_CAPACITY
from zcipc.errors import Closed, CorruptSegment, MessageTooLarge, PeerDied, PermissionDenied, TimedOut
from zcipc.memory.anonymous_memory import AnonymousMemory
from zcipc.memory.onlooker import Place, ProcessState, QueueState, SeatState, process_state, queued, word
from zcipc.memory.peer import Identity
from zcipc.native.atomics import WORD, compare_exchange, fence, load, load_acquire, memcpy, store, store_release
from zcipc.native.compiled import jit
from zcipc.native.extension import (
    HANDLE_END,
    Handle,
    append_pair,
    as_it_is,
    data_of,
    drop_reference,
    entry,
    new_bytes,
    new_int,
    new_list,
    no_result,
)
from zcipc.queues import decode, encode

KIND = "broadcast"
Policy = Literal["block", "drop", "disconnect"]

# The shared memory: offsets from its start.
_SENDER = 0  # which process, as in a lock; 0 while there is none
_CLOSED = 1 * WORD
_READERS = core.RING + ring.CONTROL_BYTES  # a line for each
# A reader's line.
_READ = 0  # its position
_WHO = 1 * WORD  # which process, as in a lock; 0 while there is none
_GONE = 2 * WORD
# Private words behind those of a queue's member.
_COUNT_OF_READERS = core.MAXSIZE + WORD
_POLICY = core.MAXSIZE + 2 * WORD
_OWN_LINE = core.MAXSIZE + 3 * WORD  # a reader's, its offset in the shared memory
_MISSED = core.MAXSIZE + 4 * WORD

_POLICIES = ("block", "drop", "disconnect")
_DROP, _DISCONNECT = 1, 2
_SMALLEST_CAPACITY = 4096
_SHORTEST_PAUSE_NS, _LONGEST_PAUSE_NS = 4_000_000, 50_000_000  # between two looks whether another lives, as in operations.py
_SEQUENCE = WORD  # bytes before each message: how many were sent before it


@jit
def _slowest(end):
    """Offset of the line of the slowest reader and its position; (0, the sender's) if there is none any more.

    All others were at that position or beyond it, and still are. It itself may have gone on: not its position now is the least.
    """
    base, slowest, least = load(end + core.BASE), 0, load(end + core.PRODUCER + POSITION)
    for index in range(load(end + _COUNT_OF_READERS)):
        line = _READERS + index * LINE
        if load(base + line + _GONE) == 0:
            position = load_acquire(base + line + _READ)  # ACQUIRE pairs with the RELEASE in _go_to(): read before reuse
            if slowest == 0 or position < least:
                slowest, least = line, position
    return slowest, least


@jit
def _raise_head(end):
    """Make room behind the head as the policy says; False where the slowest reader has to be waited for."""
    base, side = load(end + core.BASE), end + core.PRODUCER
    head = load(base + core.RING + ring.HEAD)
    slowest, position = _slowest(end)
    if position <= head:
        policy = load(end + _POLICY)
        if policy == _DISCONNECT:
            store(base + slowest + _GONE, 1)
            return True
        if policy != _DROP:
            return False
        offset = head & (load(side + CAPACITY) - 1)
        header = load(load(side + DATA) + offset)  # its own
        position = head + (-header if header < 0 else HEADER + ring.padded(ring.header_length(header)))
    store(base + core.RING + ring.HEAD, min(position, load(side + POSITION)))
    fence()  # pairs with the fence in _receive(): the head before what is written over records
    return True


@jit
def _send(sender, data, tag):
    end = load(sender + HANDLE_END)
    side = end + core.PRODUCER
    address, length = data_of(data)  # the caller keeps it
    payload = ring.claim_anew(side, _SEQUENCE + length)
    while payload == NOTHING:
        if not _raise_head(end):
            ring_bell(load(end + core.BASE) + core.RING + ring.CONSUMER_BELL)  # there may be a gap to go past
            return core.AGAIN
        payload = ring.claim_anew(side, _SEQUENCE + length)
    if payload < 0:
        return ring.CORRUPT
    store(payload, load(side + COUNT))
    memcpy(payload + _SEQUENCE, address, length)
    ring.commit(side, _SEQUENCE + length, tag)
    ring_bell(load(end + core.BASE) + core.RING + ring.CONSUMER_BELL)
    return core.DONE


@jit
def _go_to(end, position):
    base, side = load(end + core.BASE), end + core.CONSUMER
    store(side + POSITION, position)
    store_release(base + load(end + _OWN_LINE) + _READ, position)  # RELEASE pairs with the ACQUIRE in _slowest()
    ring_bell(base + core.RING + ring.PRODUCER_BELL)


@jit
def _receive(reader):
    """`[(tag, bytes)]`; or AGAIN, CORRUPT."""
    end = load(reader + HANDLE_END)
    base, side = load(end + core.BASE), end + core.CONSUMER
    data, capacity, head = load(side + DATA), load(side + CAPACITY), base + core.RING + ring.HEAD
    while True:
        oldest = load_acquire(head) & -WORD
        if oldest > load(side + POSITION):
            _go_to(end, oldest)
        position = load(side + POSITION)
        offset = position & (capacity - 1)
        header = load_acquire(data + offset)  # ACQUIRE pairs with the RELEASE in publish()
        length = ring.header_length(header) - _SEQUENCE
        size = -header if header < 0 else HEADER + _SEQUENCE + ring.padded(length)
        possible = header != EMPTY and 0 < size <= capacity - offset and size & (WORD - 1) == 0 and (header < 0 or length >= 0)
        sequence, message = 0, 0
        if possible and header > 0:
            sequence = load(data + offset + HEADER)
            message = new_bytes(data + offset + HEADER + _SEQUENCE, length)
            if message == 0:
                return 0
        fence()  # pairs with the fence in _raise_head(): the copy before the second look
        if load(head) > position:
            if message != 0:
                drop_reference(message)
            continue
        if not possible:
            return new_int(core.AGAIN if header == EMPTY else ring.CORRUPT)
        found = new_list(0) if header > 0 else 0
        if header > 0 and (found == 0 or not append_pair(found, ring.header_tag(header), message)):
            return 0  # no memory: the message stays
        _go_to(end, position + size)
        if header > 0:
            store(end + _MISSED, load(end + _MISSED) + sequence - load(side + COUNT))
            store(side + COUNT, sequence + 1)
            return found


@jit
def _find_slowest(sender):
    return _slowest(load(sender + HANDLE_END))[0]


@jit
def _set_word(member, offset, value):
    """Set a shared word, and wake everybody."""
    base = load(load(member + HANDLE_END) + core.BASE)
    store_release(base + offset, value)
    ring_bell(base + core.RING + ring.CONSUMER_BELL)
    ring_bell(base + core.RING + ring.PRODUCER_BELL)


@jit
def _come(member, offset, me):
    """Be the process that this place is for; who is."""
    base = load(load(member + HANDLE_END) + core.BASE)
    holder = compare_exchange(base + offset, 0, me)
    return me if holder == 0 else holder


class _Entries:
    send: Callable[..., int] = entry(_send, "OOL", new_int)
    receive: Callable[..., int | list[tuple[int, bytes]]] = entry(_receive, "O", as_it_is)
    slowest: Callable[..., int] = entry(_find_slowest, "O", new_int)
    set_word: Callable[..., None] = entry(_set_word, "OLL", no_result)
    come: Callable[..., int] = entry(_come, "OLL", new_int)


_entries = _Entries()


@dataclass(frozen=True, slots=True)
class BroadcastStatistics:
    """The sender of a broadcast at one moment. Nothing is counted for it: sender and readers have to know all this.

    Attributes:
        messages_sent: by this process so far.
        bytes_sent: so far, with 16 bytes before each message, its padding to whole words, and gaps.
        bytes_queued: sent and not yet read by the slowest reader, counted likewise.
        capacity: bytes.
        slow: what happens to a reader that is too slow.
        readers: who they are, in their order; and of those that have read all, whether one sleeps.
        bytes_behind: sent and not yet read, by each reader.
        waiting: how the sender waits.
    """

    messages_sent: int
    bytes_sent: int
    bytes_queued: int = field(metadata=OF_CAPACITY)
    capacity: int
    slow: Policy
    readers: tuple[SeatState, ...]
    bytes_behind: tuple[int, ...]
    waiting: Waiting


@dataclass(frozen=True, slots=True)
class ReaderStatistics:
    """A reader of a broadcast at one moment.

    Attributes:
        messages_received, messages_missed: by this process so far; those missed since the last one received are not known yet.
        bytes_behind: sent and not read here, with 16 bytes before each message, its padding to whole words, and gaps.
        capacity: bytes.
        sender_pid: None until it sends.
        sender_alive: None if there is nobody, or in another pid namespace, where it cannot be looked up.
        waiting: how this reader waits.
    """

    messages_received: int
    messages_missed: int
    bytes_behind: int = field(metadata=OF_CAPACITY)
    capacity: int
    sender_pid: int | None = field(metadata=A_NAME)
    sender_alive: bool | None
    waiting: Waiting


class _Member(Displayed, Handle, ABC):
    """What the sender and a reader have in common. An instance is for the process that uses it first."""

    def __init__(
        self, memory: AnonymousMemory, namespace: int, readers: int, slow: Policy, waiting: Waiting, place: int
    ) -> None:
        self._state = (memory, namespace, readers, slow, waiting, place)
        self._memory, self._namespace, self._waiting, self._place = memory, namespace, waiting, place
        self._readers = readers
        self._slow: Policy = slow
        self._capacity = memory.size - data_offset(readers)
        self._owner: int | None = None
        self._closed = False
        self._block = np.zeros((core.MEMBER_BYTES + ring.LINE) // WORD, np.int64)
        self.end: int = -(-self._block.ctypes.data // ring.LINE) * ring.LINE
        for side in (core.PRODUCER, core.CONSUMER):
            self._set(side + ring.CONTROL, memory.address + core.RING)
            self._set(side + DATA, memory.address + data_offset(readers))
            self._set(side + CAPACITY, self._capacity)
            self._set(side + ring.FLOOR, ring.NO_FLOOR)
        for offset, value in (
            (core.BASE, memory.address), (_COUNT_OF_READERS, readers), (_POLICY, _POLICIES.index(slow)), (_OWN_LINE, place),
        ):  # fmt: skip
            self._set(offset, value)

    def _require_open(self, who: int) -> None:
        if self._closed:
            raise Closed(f"{self!r} was closed here")
        if self._owner != os.getpid():
            own = Identity.own()
            holder = _entries.come(self, who, lock_word(own))
            if holder != lock_word(own) or own.namespace != self._namespace:
                raise PermissionDenied(
                    f"{self!r} belongs to process {holder_of(holder, self._namespace).pid}, which used it first, and "
                    f"to the pid namespace it was made in; process {own.pid} may not use it"
                )
            self._owner = own.pid

    def _await(self, word: int, bell: int, seen: int, start: float, deadline: float | None) -> None:
        """Wait for a change, as long again as since `start` at the most: then one looks whether the other process lives."""
        now = time.monotonic()
        limit_ns = min(max(int((now - start) * 1e9), _SHORTEST_PAUSE_NS), _LONGEST_PAUSE_NS)
        if deadline is not None:
            limit_ns = int(min(limit_ns, (deadline - now) * 1e9))
        if limit_ns <= 0:
            raise TimedOut(f"nothing happened on {self._label()} in time")
        spin_ns = self._waiting.value if len(os.sched_getaffinity(0)) > 1 else 0
        core.entries.await_change(self, word, core.RING + bell, seen, spin_ns, limit_ns)

    def _is_dead(self, who: int) -> bool:
        holder = core.entries.word(self, who)
        return holder != 0 and not holder_of(holder, self._namespace).is_alive()

    def _get(self, offset: int) -> int:
        return int(self._block[(self.end - self._block.ctypes.data + offset) // WORD])

    def _set(self, offset: int, value: int) -> None:
        self._block[(self.end - self._block.ctypes.data + offset) // WORD] = value

    def _observed(self) -> tuple[Place, ...]:
        """The sender, and the readers in their order."""
        return observe(self._memory.copy(data_offset(self._readers)), self._capacity, self._readers, self._namespace)

    def _own_state(self, owner: ProcessState | None) -> str:
        if self._closed:
            return "closed"
        return "not used yet" if owner is None else "open" if self._owner == os.getpid() else f"process {owner.pid}'s"

    def _leave(self, word: int) -> None:
        if not self._closed:
            self._closed = True
            _entries.set_word(self, word, 1)

    def __reduce__(self) -> tuple[Callable[..., "_Member"], tuple[Any, ...]]:
        return type(self), self._state

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None:
        """Leave. Idempotent."""


class Reader(_Member, Generic[Received]):
    """One reader of a `Broadcast`."""

    def recv(self, *, timeout: float | None = None) -> Received:
        """The next message, the reader's own. Unpickles: only for a sender that you trust.

        Raises:
            TimedOut: there was none within `timeout` seconds.
            Closed: the sender closed, or disconnected this reader because it was too slow.
            PeerDied: the sender's process ended without closing.
        """
        self._require_open(self._place + _WHO)
        start = time.monotonic()
        deadline = None if timeout is None else start + timeout
        dead = False
        while True:
            seen, closed = core.entries.word(self, core.RING + ring.TAIL), core.entries.word(self, _CLOSED)
            found = _entries.receive(self)
            if core.entries.word(self, self._place + _GONE):
                if self._slow != "disconnect":
                    raise Closed(f"{self!r} was closed in another process")
                raise Closed(f"{self!r} was too slow, and the sender disconnected it; enlarge capacity, or use slow='drop'")
            if isinstance(found, list):
                ((tag, data),) = found
                message: Received = decode(tag, data)
                return message
            if found == ring.CORRUPT:
                raise CorruptSegment(f"{self!r} holds an impossible record; nothing in it can be trusted")
            if closed:
                raise Closed(f"the sender of {self!r} closed, and all it sent is received")
            if dead:
                raise PeerDied(f"the process of the sender of {self!r} ended without closing it")
            self._await(core.RING + ring.TAIL, ring.CONSUMER_BELL, seen, start, deadline)
            dead = self._is_dead(_SENDER)  # before the next look: what it sent comes first

    @property
    def missed(self) -> int:
        """Messages that were overwritten before this reader came to them, all told until the last one that it received."""
        return self._get(_MISSED)

    def close(self) -> None:
        """Leave: the sender waits for this reader no more. Idempotent."""
        self._leave(self._place + _GONE)

    def statistics(self) -> ReaderStatistics:
        """A snapshot, in any state of this reader. Nobody notices."""
        places = self._observed()
        sender = places[0][0].process
        return ReaderStatistics(
            messages_received=self._get(core.CONSUMER + COUNT) - self.missed,
            messages_missed=self.missed,
            bytes_behind=places[1 + self._index()][1].queued,
            capacity=self._capacity,
            sender_pid=sender.pid if sender else None,
            sender_alive=sender.alive if sender else None,
            waiting=self._waiting,
        )

    def _index(self) -> int:
        return (self._place - _READERS) // LINE

    def _label(self) -> str:
        return f"Reader {self._index()} of a broadcast of {self._capacity:,} bytes"

    def _condition(self) -> str:
        (sender, _), *readers = self._observed()
        here, _ = readers[self._index()]
        state = "disconnected" if here.closed and not self._closed else self._own_state(here.process)
        return f"{state}, {f'sender {sender}' if sender.process else 'no sender yet'}"


class Broadcast(_Member, Generic[Item]):
    """The sender of messages that each of its `readers` sees, in order.

    Sender and readers go to other processes as arguments of `multiprocessing.Process` under any start method, or through a
    connection. Each belongs to the process that uses it first. A reader that has not come yet counts as slow; one that closed
    or whose process ended does not count. If that ended before it came, whoever started it closes the reader in its place.

    Args:
        readers: how many.
        capacity: bytes of shared memory for messages, rounded up to a power of two.
        slow: what happens when there is no room because of the slowest reader. "block": `send` waits. "drop": the oldest
            messages are overwritten, and `Reader.missed` tells how many a reader missed, exactly. "disconnect": the reader is
            given up, and its `recv` raises `Closed`.
        waiting: how to wait.

    Attributes:
        readers: the `Reader`s.

    Raises:
        OutOfSharedMemory: there is not enough memory.
    """

    def __init__(
        self, readers: int, *, capacity: int = DEFAULT_CAPACITY, slow: Policy = "block", waiting: Waiting = Waiting.HYBRID
    ) -> None:
        if readers < 1 or capacity < 1 or slow not in _POLICIES:
            raise ValueError(f"a broadcast needs a reader, a byte of capacity and one of {_POLICIES} as `slow`")
        size = max(1 << (capacity - 1).bit_length(), _SMALLEST_CAPACITY)
        memory = AnonymousMemory.create(data_offset(readers) + size, f"{KIND}-{readers}")
        super().__init__(memory, Identity.own().namespace, readers, slow, waiting, 0)
        core.entries.fence_bells(self)
        places = [_READERS + index * LINE for index in range(readers)]
        self.readers: tuple[Reader[Item], ...] = tuple(Reader(*self._state[:-1], place) for place in places)

    def send(self, obj: Item, *, timeout: float | None = None) -> None:
        """Send a copy of `obj` to all readers. Only with `slow="block"` does it ever wait.

        Raises:
            TimedOut: a reader made no room within `timeout` seconds; nobody got anything.
            MessageTooLarge: it can never fit.
        """
        self._require_open(_SENDER)
        tag, data = encode(obj)
        longest = ring.max_message.py_func(self._capacity) - _SEQUENCE
        if len(data) > longest:
            raise MessageTooLarge(f"a message of {len(data):,} bytes can never fit in {self!r}, which takes {longest:,}")
        start = time.monotonic()
        deadline = None if timeout is None else start + timeout
        while (result := _entries.send(self, data, tag)) == core.AGAIN:
            slowest = _entries.slowest(self)
            if slowest == 0:  # the last one has just left
                continue
            seen = core.entries.word(self, slowest + _READ)
            if self._is_dead(slowest + _WHO):
                _entries.set_word(self, slowest + _GONE, 1)
            elif seen <= core.entries.word(self, core.RING + ring.HEAD):
                self._await(slowest + _READ, ring.PRODUCER_BELL, seen, start, deadline)
        if result == ring.CORRUPT:
            raise CorruptSegment(f"{self!r} has a reader with an impossible position; nothing in it can be trusted")

    def close(self) -> None:
        """Leave: the readers receive what was sent and then `Closed`. Idempotent."""
        self._leave(_CLOSED)

    def __reduce__(self) -> tuple[Callable[..., _Member], tuple[Any, ...]]:
        return _attach, self._state

    def statistics(self) -> BroadcastStatistics:
        """A snapshot, in any state of the sender. Nobody notices."""
        (_, sent), *readers = self._observed()
        return BroadcastStatistics(
            messages_sent=self._get(core.PRODUCER + COUNT),
            bytes_sent=sent.passed,
            bytes_queued=sent.queued,
            capacity=self._capacity,
            slow=self._slow,
            readers=tuple(seat for seat, _ in readers),
            bytes_behind=tuple(read.queued for _, read in readers),
            waiting=self._waiting,
        )

    def _label(self) -> str:
        return f"Broadcast of {self._capacity:,} bytes to {self._readers} readers, slow={self._slow!r}"

    def _condition(self) -> str:
        return self._own_state(self._observed()[0][0].process)


def _attach(*state: Any) -> Broadcast:
    sender: Broadcast = Broadcast.__new__(Broadcast)
    _Member.__init__(sender, *state)
    return sender


def data_offset(readers: int) -> int:
    """Bytes from the start of the memory of a broadcast up to its messages."""
    return -(-(_READERS + readers * LINE) // mmap.PAGESIZE) * mmap.PAGESIZE


def observe(memory: bytes, capacity: int, readers: int, namespace: int) -> tuple[Place, ...]:
    """The sender and its readers, from the first `data_offset(readers)` bytes of the memory; `namespace` as for a queue."""
    tail = word(memory, core.RING + ring.TAIL)
    awaited = word(memory, core.RING + ring.CONSUMER_BELL) == SLEEPING
    seen = []
    for index in range(readers):
        line = _READERS + index * LINE
        behind, gone = queued(capacity, tail, word(memory, line + _READ)), word(memory, line + _GONE) != 0
        sleeps_for = ("message",) * (awaited and behind == 0 and not gone)
        seat = SeatState(f"reader {index}", _process_at(memory, line + _WHO, namespace), sleeps_for, gone)
        seen.append((seat, QueueState(capacity, behind, word(memory, line + _READ))))
    sleeps_for = ("room",) * (word(memory, core.RING + ring.PRODUCER_BELL) == SLEEPING)
    sender = SeatState("sender", _process_at(memory, _SENDER, namespace), sleeps_for, word(memory, _CLOSED) != 0)
    most = max((queue.queued for seat, queue in seen if not seat.closed), default=0)
    return (sender, QueueState(capacity, most, tail)), *seen


def _process_at(memory: bytes, offset: int, namespace: int) -> ProcessState | None:
    who = word(memory, offset)
    return None if who == 0 else process_state(holder_of(who, namespace))
