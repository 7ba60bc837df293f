"""Queues for any number of producers and consumers, in the vocabulary of `multiprocessing` and of `faster_fifo`.

There is no feeder thread: when `put` returns, the item is in shared memory, and stays there whoever is killed. Python runs
before a lock is taken and after it is given back, never between (see `shared_queue.py`).
"""

import functools
import os
import pickle
import time
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from queue import Empty, Full
from typing import Any, Generic

import numpy as np

from zcipc import codec
from zcipc.algorithms import ring
from zcipc.algorithms import shared_queue as core
from zcipc.algorithms.robust_lock import FREE, holder_of, lock_word
from zcipc.algorithms.shared_queue import entries
from zcipc.algorithms.waiting import SLEEPING, Waiting
from zcipc.annotations import Item
from zcipc.display import OF_CAPACITY, Displayed
from zcipc.ends.end import DEFAULT_CAPACITY
from zcipc.errors import CorruptSegment, MessageTooLarge, PermissionDenied
from zcipc.memory.anonymous_memory import AnonymousMemory
from zcipc.memory.onlooker import Place, ProcessState, QueueState, SeatState, process_state, queued, word
from zcipc.memory.peer import Identity
from zcipc.memory.segment import populate_pages
from zcipc.native.atomics import WORD
from zcipc.native.extension import Handle, accelerate
from zcipc.operations import SLICE_NS

KIND = "queue"
_NS_PER_S = 1_000_000_000
_UNLIMITED = (1 << 63) - 1
_SMALLEST_CAPACITY = 4096
_LOCK_NS = 5_000_000  # longer than a lock is held by who lives: then one looks whether the holder does
_GRACE_S = 0.25  # beyond a time-out, for a lock whose holder may be dead

Encoded = bytes | tuple[int, Any]  # as they are, or a tag and bytes-like


@dataclass(frozen=True, slots=True)
class QueueStatistics:
    """A queue at one moment, all who use it together. Nothing is counted for it: its two sides have to know all this.

    Attributes:
        items_put, items_got: so far.
        items_unfinished: put, and `task_done` not called for them yet; None for queues without it.
        bytes_put, bytes_got: so far, with the header of each item, its padding to whole words, and gaps.
        bytes_queued: put and not got yet, counted likewise.
        capacity: bytes.
        maxsize: items; 0 for as many as fit.
        sleep_for: of "room" and "message", those for which somebody sleeps, or gave up and nothing came since.
        waiting: how this process waits.
    """

    items_put: int
    items_got: int
    items_unfinished: int | None
    bytes_put: int
    bytes_got: int
    bytes_queued: int = field(metadata=OF_CAPACITY)
    capacity: int
    maxsize: int
    sleep_for: tuple[str, ...]
    waiting: Waiting


class Queue(Displayed, Handle, Generic[Item]):
    """A queue of objects: each arrives once, those of one producer in their order.

    It goes to other processes as an argument of `multiprocessing.Process` under any start method, or through a connection of
    `multiprocessing` or of this package. Safe for threads. A killed producer takes with it what it had not put yet, a
    killed consumer what it had got, and nobody else is kept waiting for longer than a quarter of a second.

    Args:
        maxsize: items; 0 for as many as fit.
        capacity: bytes of shared memory, rounded up to a power of two. An item takes 8 more than its own, and has at
            most 16 fewer than the capacity. When it is used up, `put` waits: where `multiprocessing` would collect
            without end, whoever puts everything before anybody gets needs room for everything.
        max_size_bytes: the same, as `faster_fifo` calls it.
        waiting: how to wait for items and for room.
        loads, dumps: in place of pickle, from and to `bytes`. Only for processes that you trust, like pickle.

    Raises:
        OutOfSharedMemory: there is not enough memory.
    """

    def __init__(
        self,
        maxsize: int = 0,
        *,
        capacity: int = DEFAULT_CAPACITY,
        max_size_bytes: int | None = None,
        waiting: Waiting = Waiting.HYBRID,
        loads: Callable[[bytes], Any] | None = None,
        dumps: Callable[[Any], bytes] | None = None,
    ) -> None:
        capacity = max_size_bytes or capacity
        if capacity <= 0:
            raise ValueError(f"a capacity of {capacity} bytes makes no sense")
        power_of_two = max(1 << (capacity - 1).bit_length(), _SMALLEST_CAPACITY)
        self._setup(AnonymousMemory.create(core.DATA_OFFSET + power_of_two, KIND), _namespace(), maxsize, waiting, loads, dumps)
        entries.fence_bells(self)

    def _setup(self, memory: AnonymousMemory, namespace: int, *state: Any) -> None:
        self._memory = memory
        self._namespace = namespace
        self._maxsize, self._waiting, self._loads, self._dumps = self._state = state
        self._closed = False
        self._spin_ns = self._waiting.value if len(os.sched_getaffinity(0)) > 1 else 0
        self._capacity = memory.size - core.DATA_OFFSET
        self._longest: int = ring.max_message.py_func(self._capacity)
        self._block = np.zeros((core.MEMBER_BYTES + ring.LINE) // WORD, np.int64)
        self.end: int = -(-self._block.ctypes.data // ring.LINE) * ring.LINE
        for side in (core.PRODUCER, core.CONSUMER):
            self._set(side + ring.CONTROL, memory.address + core.RING)
            self._set(side + ring.DATA, memory.address + core.DATA_OFFSET)
            self._set(side + ring.CAPACITY, self._capacity)
            self._set(side + ring.FLOOR, ring.NO_FLOOR)
        self._set(core.BASE, memory.address)
        self._set(core.MAXSIZE, self._maxsize if self._maxsize > 0 else _UNLIMITED)
        self._set(core.DIRECT, self._loads is None and self._dumps is None)
        _queues.add(self)
        _accelerate()

    # --- multiprocessing.Queue

    def put(self, obj: Item, block: bool = True, timeout: float | None = None) -> None:
        """Put a copy of `obj`, waiting for room for `timeout` seconds at the most; None is for ever.

        Raises:
            Full: there was no room in time.
            MessageTooLarge: the item can never fit.
            ValueError: the queue was closed here.
        """
        self._put_all([self._encode(obj)], block, timeout)

    def get(self, block: bool = True, timeout: float | None = None) -> Item:
        """Take the next item, the receiver's own, waiting for `timeout` seconds at the most; None is for ever.

        Raises:
            Empty: there was none in time.
            ValueError: the queue was closed here.
        """
        (obj,) = self._get_up_to(1, block, timeout)
        return obj

    def put_nowait(self, obj: Item) -> None:
        """`put(obj, False)`."""
        self.put(obj, False)

    def get_nowait(self) -> Item:
        """`get(False)`."""
        return self.get(False)

    def qsize(self) -> int:
        """Items in the queue just now."""
        return entries.length(self)

    def empty(self) -> bool:
        """Whether there is no item just now."""
        return entries.length(self) == 0

    def full(self) -> bool:
        """Whether `maxsize` is reached, or no room left for any item."""
        limited = self._maxsize > 0 and entries.length(self) >= self._maxsize
        return limited or entries.free_bytes(self) < 3 * ring.HEADER

    def statistics(self) -> QueueStatistics:
        """A snapshot. It takes no lock, and nobody notices."""
        memory = self._memory.copy(core.DATA_OFFSET)
        (producers, put), (consumers, got) = observe(memory, self._capacity, self._namespace)
        return QueueStatistics(
            items_put=_counted(memory, core.PRODUCERS),
            items_got=_counted(memory, core.CONSUMERS),
            items_unfinished=self._unfinished(),
            bytes_put=put.passed,
            bytes_got=got.passed,
            bytes_queued=put.queued,
            capacity=self._capacity,
            maxsize=max(self._maxsize, 0),
            sleep_for=(*producers.sleeps_for, *consumers.sleeps_for),
            waiting=self._waiting,
        )

    def _unfinished(self) -> int | None:
        return None

    def close(self) -> None:
        """Use the queue no more in this process; what it put stays. Idempotent."""
        self._closed = True
        self._set(core.DIRECT, 0)

    def join_thread(self) -> None:
        """Nothing to wait for: what was put is in the queue."""

    def cancel_join_thread(self) -> None:
        """Nothing to cancel: see `join_thread`."""

    # --- faster_fifo.Queue

    def put_many(self, objs: Iterable[Item], block: bool = True, timeout: float | None = None) -> None:
        """Put all of `objs`, with nobody else's items between them, or none.

        Raises:
            Full: there was no room for all in time.
            MessageTooLarge: all together are more than half the capacity, or more than `maxsize`.
            ValueError: the queue was closed here.
        """
        encoded = [self._encode(obj) for obj in objs]
        if encoded:
            self._put_all(encoded, block, timeout)

    def get_many(
        self, block: bool = True, timeout: float | None = None, max_messages_to_get: int = 1_000_000_000
    ) -> list[Item]:
        """Take at least one item, and those behind it that are there already; see `get`."""
        if max_messages_to_get < 1:
            raise ValueError(f"{max_messages_to_get} messages cannot be got")
        return self._get_up_to(max_messages_to_get, block, timeout)

    def put_many_nowait(self, objs: Iterable[Item]) -> None:
        """`put_many(objs, False)`."""
        self.put_many(objs, False)

    def get_many_nowait(self, max_messages_to_get: int = 1_000_000_000) -> list[Item]:
        """`get_many(False)`."""
        return self.get_many(False, max_messages_to_get=max_messages_to_get)

    def is_closed(self) -> bool:
        """Whether it was closed in this process."""
        return self._closed

    # --- objects

    def _encode(self, obj: Any) -> Encoded:
        if self._dumps is None:
            return obj if type(obj) is bytes else encode(obj)
        data = self._dumps(obj)
        return data if type(data) is bytes else bytes(memoryview(data))

    def _decode(self, tag: int, data: bytes) -> Item:
        item: Item = decode(tag, data) if self._loads is None else self._loads(data)
        return item

    # --- the slow path

    def _put_all(self, encoded: list[Encoded], block: bool, timeout: float | None) -> None:
        if self._closed:
            raise ValueError(f"{self!r} is closed")
        if entries.put(self, encoded) != core.DONE:
            self._require_possible(encoded)
            if not self._wait(core.PRODUCERS, lambda: entries.put(self, encoded), block, timeout):
                raise Full

    def _get_up_to(self, most: int, block: bool, timeout: float | None) -> list[Item]:
        if self._closed:
            raise ValueError(f"{self!r} is closed")
        found = entries.get(self, most)
        if not isinstance(found, list):
            found = self._wait(core.CONSUMERS, lambda: entries.get(self, most), block, timeout)
        if not found:
            raise Empty
        return found

    def _wait(self, side: int, attempt: Callable[[], Any], block: bool, timeout: float | None) -> Any:
        """What `attempt` answers, called until it is done; False if the time is over."""
        word, bell = _AWAITED[side]
        timeout = timeout if block else 0.0
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            seen = entries.word(self, word)  # before the attempt: what changes after it ends the wait
            result = attempt()
            if result == core.NOT_OPEN:
                self._open()
            elif result == core.LOCKED:
                self._await_lock(side)
                if deadline is not None and time.monotonic() >= deadline + _GRACE_S:
                    return False
            elif result == core.AGAIN:
                if not self._await_change(word, bell, seen, deadline):
                    return False
            elif result == ring.CORRUPT:
                raise CorruptSegment(f"{self!r} holds an impossible record; give it up, nothing in it can be trusted")
            else:
                return result or True

    def _await_change(self, word: int, bell: int, seen: int, deadline: float | None) -> bool:
        """Wait for a slice at the most; False, without waiting, if the deadline has passed."""
        limit_ns = SLICE_NS
        if deadline is not None:
            limit_ns = int(min(limit_ns, (deadline - time.monotonic()) * _NS_PER_S))
            if limit_ns <= 0:
                return False
        entries.await_change(self, word, bell, seen, self._spin_ns, limit_ns)
        return True

    def _await_lock(self, side: int) -> None:
        """Wait a little, and do away with a holder that is dead."""
        holder = entries.await_lock(self, side, _LOCK_NS)
        unchanged = holder != FREE and entries.word(self, side + core.LOCK) & -2 == holder
        if unchanged and not holder_of(holder, self._namespace).is_alive():
            entries.inherit(self, side, holder)

    def _open(self) -> None:
        if _namespace() != self._namespace:
            raise PermissionDenied(
                f"{self!r} was made in another pid namespace than process {os.getpid()} is in: nobody there could tell "
                "whether this process is alive. Make the queue in the namespace in which it is used"
            )
        populate_pages(self._memory.address, self._memory.size)
        self._set(core.ME, lock_word(Identity.own()))

    def _require_possible(self, encoded: list[Encoded]) -> None:
        lengths = [len(item if isinstance(item, bytes) else item[1]) for item in encoded]
        total = sum(ring.HEADER + ring.padded.py_func(length) for length in lengths)
        if len(encoded) == 1 and lengths[0] > self._longest:
            raise MessageTooLarge(
                f"an item of {lengths[0]:,} bytes can never fit in {self!r}, which takes {self._longest:,}; "
                f"create it with capacity={1 << (total + ring.HEADER - 1).bit_length()} or more"
            )
        if len(encoded) > 1 and total > self._capacity // 2:  # so that they fit from any place in the ring
            raise MessageTooLarge(
                f"{len(encoded):,} items of {total:,} bytes together are more than half of {self!r}; put fewer at a time, or "
                f"create it with capacity={1 << (2 * total - 1).bit_length()} or more"
            )
        if 0 < self._maxsize < len(encoded):
            raise MessageTooLarge(f"{len(encoded):,} items at once can never fit in {self!r}; put fewer at a time")

    def _set(self, offset: int, value: int) -> None:
        self._block[(self.end - self._block.ctypes.data + offset) // WORD] = value

    # --- life

    def __reduce__(self) -> tuple[Callable[..., "Queue"], tuple[Any, ...]]:
        return _attach, (type(self), self._memory, self._namespace, *self._state)

    def _label(self) -> str:
        limit = f", at most {self._maxsize:,} items" if self._maxsize > 0 else ""
        return f"{type(self).__name__} of {self._capacity:,} bytes{limit}"

    def _condition(self) -> str:
        return "closed" if self._closed else f"open, qsize {entries.length(self):,}"


SimpleQueue = Queue  # the one of `multiprocessing` is the one without a feeder thread, and there is none here


class JoinableQueue(Queue[Item]):
    """A `Queue` that counts which items are finished.

    As with `multiprocessing`, an item whose consumer was killed before it called `task_done` stays unfinished for ever.
    """

    def task_done(self) -> None:
        """Say that an item that was got is finished.

        Raises:
            ValueError: all that were put are finished already.
        """
        if entries.finish(self) != core.DONE:
            raise ValueError("task_done() called too many times")

    def _unfinished(self) -> int:
        return entries.unfinished(self)

    def join(self) -> None:
        """Wait until all items that were put are finished."""
        while True:
            seen = entries.word(self, core.FINISHED)
            if entries.unfinished(self) == 0:
                return
            self._await_change(core.FINISHED, core.FINISHED_BELL, seen, None)


# What one who waits on a side looks at: a word that the other side changes, and the bell that it rings.
_AWAITED = {
    core.PRODUCERS: (core.RING + ring.HEAD, core.RING + ring.PRODUCER_BELL),
    core.CONSUMERS: (core.RING + ring.TAIL, core.RING + ring.CONSUMER_BELL),
}


def encode(obj: Any) -> tuple[int, Any]:
    """An object as a tag and the bytes of its message."""
    kind = type(obj)
    if kind is bytes:
        return codec.BYTES, obj
    frame = codec.encode_array(obj) if kind is np.ndarray else None
    if frame is None:
        data, buffers = codec.pickled(obj)
        if not buffers:
            return codec.PICKLE, data
        frame = codec.encode_pickle(data, buffers)
    whole = bytearray(frame.size)
    frame.write(memoryview(whole))
    return frame.tag, whole


def decode(tag: int, data: bytes) -> Any:
    """The object of which `encode` made this."""
    if tag == codec.BYTES:
        return data
    return pickle.loads(data) if tag == codec.PICKLE else codec.decode(tag, memoryview(data))


@functools.cache
def _accelerate() -> None:
    """Once a process, when the first queue is made: what needs no waiting is done in machine code."""
    accelerate(Queue, "put", core.put)
    accelerate(Queue, "get", core.get)


def _attach(kind: type[Queue], memory: AnonymousMemory, namespace: int, *state: Any) -> Queue:
    queue = kind.__new__(kind)
    queue._setup(memory, namespace, *state)
    return queue


def _namespace() -> int:
    return Identity.own().namespace


def observe(memory: bytes, capacity: int, namespace: int) -> tuple[Place, ...]:
    """Both sides of a queue, from the first `shared_queue.DATA_OFFSET` bytes of its memory.

    Args:
        namespace: of those who use it; only one that knows their numbers can tell whether who holds a lock lives.
    """
    tail, head = (word(memory, core.RING + offset) for offset in (ring.TAIL, ring.HEAD))
    in_it = queued(capacity, tail, head)
    return tuple(
        (
            SeatState(role, _holder(memory, side, namespace), (what,) * (word(memory, bell) == SLEEPING), closed=False),
            QueueState(capacity, in_it, passed, _counted(memory, side)),
        )
        for side, role, what, passed, bell in (
            (core.PRODUCERS, "producers", "room", tail, core.RING + ring.PRODUCER_BELL),
            (core.CONSUMERS, "consumers", "message", head, core.RING + ring.CONSUMER_BELL),
        )
    )


def _holder(memory: bytes, side: int, namespace: int) -> ProcessState | None:
    lock = word(memory, side + core.LOCK)
    return None if lock == FREE else process_state(holder_of(lock, namespace))


def _counted(memory: bytes, side: int) -> int:
    return word(memory, side + core.COUNTED)


_queues: weakref.WeakSet[Queue] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for queue in list(_queues):
        queue._set(core.ME, 0)


os.register_at_fork(after_in_child=_after_fork_in_child)
