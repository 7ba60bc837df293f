"""The paper's four calls, on the paper's queue: a semaphore-guarded buffer of slots, copied into and out of.

`ipc_init` binds two processes; a third is refused. Two departures from the listings, so that the program works: each direction
has a queue of its own, because from one shared queue a process would receive its own messages; and a call handles one message,
where the listings loop for ever.
"""

import functools
import os
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba import int64, void

from zcipc.algorithms import bounded_buffer
from zcipc.algorithms.ring import LINE
from zcipc.algorithms.seats import SEATS_END, seated, take_seat
from zcipc.annotations import BytesLike
from zcipc.display import Displayed
from zcipc.errors import Closed, CorruptSegment, MessageTooLarge, NameNotFound, NameTaken, PeerDied, PermissionDenied, TimedOut
from zcipc.memory.onlooker import ProcessState, process_state, word
from zcipc.memory.peer import Identity
from zcipc.memory.segment import PREFIX, Segment
from zcipc.native.compiled import entry_point, jit_nogil
from zcipc.native.objects import address_of, length_of, readable_buffer, writable_buffer

KIND = "ipc"
DEFAULT_SLOTS = 16
DEFAULT_SLOT_BYTES = 8192

_SLICE_NS = 50_000_000  # a wait ends at least this often to look for the peer's death, a time-out, Ctrl-C
_NS_PER_S = 1_000_000_000
_DESTROYED = SEATS_END  # offset of the byte that one side sets when it leaves
_GEOMETRY = SEATS_END + 8
_GEOMETRY_WORDS = struct.Struct("<qq")  # slots, slot_bytes
_QUEUES = SEATS_END + LINE


@jit_nogil
def _send(queue, message, timeout_ns):
    return bounded_buffer.send(queue, address_of(message), length_of(message), timeout_ns)


@jit_nogil
def _receive(queue, message_buffer, timeout_ns):
    return bounded_buffer.receive(queue, address_of(message_buffer), timeout_ns)


class _Entries(NamedTuple):
    send: Callable[..., int]
    receive: Callable[..., int]
    initialise: Callable[..., None]
    free_mutex: Callable[..., None]


@functools.cache
def _entries() -> _Entries:
    return _Entries(
        send=entry_point(_send, int64(int64, readable_buffer, int64)),
        receive=entry_point(_receive, int64(int64, writable_buffer, int64)),
        initialise=entry_point(bounded_buffer.initialise, void(int64)),
        free_mutex=entry_point(bounded_buffer.free_mutex, void(int64)),
    )


@dataclass(frozen=True, slots=True)
class IpcStatistics:
    """Two processes that are bound, at one moment. Pairs are in the order of their numbers.

    Attributes:
        processes: the two.
        messages_sent: by each so far; 0 once the object is destroyed here.
        messages_queued: by each, and not received by the other one yet; 0 once the object is destroyed here.
        slots, slot_bytes: the size of each direction's queue.
    """

    processes: tuple[ProcessState, ProcessState]
    messages_sent: tuple[int, int]
    messages_queued: tuple[int, int]
    slots: int
    slot_bytes: int


class Ipc(Displayed):
    """Two processes bound to shared memory. Made by `ipc_init`.

    Attributes:
        processes: the two, in the order of their numbers.
        slots, slot_bytes: the size of each direction's queue.
        message_buffer: this process's own; `ipc_receive` copies messages into it.
    """

    def __init__(self, segment: Segment, processes: tuple[Identity, Identity]) -> None:
        self._segment = segment
        self.processes = processes
        self.slots: int
        self.slot_bytes: int
        self.slots, self.slot_bytes = _GEOMETRY_WORDS.unpack_from(segment.buffer, _GEOMETRY)
        queue_bytes = bounded_buffer.shared_bytes(self.slots, self.slot_bytes)
        if self.slots <= 0 or self.slot_bytes <= 0 or segment.size != _QUEUES + 2 * queue_bytes:
            raise CorruptSegment(f"{segment.name} claims {self.slots} slots of {self.slot_bytes} bytes, which is not its size")
        self.message_buffer: bytearray = bytearray(self.slot_bytes)
        self._queues = np.array(
            [[segment.address + _QUEUES + index * queue_bytes, self.slots, self.slot_bytes] for index in (0, 1)], np.int64
        )

    def queue(self, sender: int) -> int:
        """Address of the queue that process number `sender` (0 or 1) sends to, for compiled code."""
        return int(self._queues[sender].ctypes.data)

    def own_index(self) -> int:
        """Which of the two this process is.

        Raises:
            PermissionDenied: neither.
        """
        pid = os.getpid()
        for index, process in enumerate(self.processes):
            if process.pid == pid:
                return index
        first, second = (process.pid for process in self.processes)
        raise PermissionDenied(f"process {pid} is not bound by this ipc object: only {first} and {second} may send and receive")

    def peer(self) -> Identity:
        """The other one of the two."""
        return self.processes[1 - self.own_index()]

    def statistics(self) -> IpcStatistics:
        """A snapshot, also when the object is destroyed, and in a third process."""
        first, second = (process_state(process) for process in self.processes)
        sent, received = zip(*(self._counts(sender) for sender in (0, 1)), strict=True)
        return IpcStatistics((first, second), sent, (sent[0] - received[0], sent[1] - received[1]), self.slots, self.slot_bytes)

    def _counts(self, sender: int) -> tuple[int, int]:
        """Messages sent by process number `sender`, and received from it."""
        if self._segment.closed:
            return 0, 0
        start = int(self._queues[sender][0]) - self._segment.address
        memory = bytes(self._segment.buffer[start : start + bounded_buffer.SLOTS_START])
        return word(memory, bounded_buffer.WRITE), word(memory, bounded_buffer.READ)

    def _label(self) -> str:
        first, second = (process.pid for process in self.processes)
        return f"Ipc of processes {first} and {second}, {self.slots} slots of {self.slot_bytes:,} bytes each way"

    def _condition(self) -> str:
        dead = [str(process_state(process)) for process in self.processes if not process.is_alive()]
        return ", ".join(["destroyed" if self.is_destroyed() else "open", *dead])

    def is_destroyed(self) -> bool:
        """Whether one of the two has called `ipc_destroy`."""
        return self._segment.closed or self._segment.buffer[_DESTROYED] != 0

    def destroy(self) -> None:
        """See `ipc_destroy`."""
        if not self._segment.closed:
            self._segment.buffer[_DESTROYED] = 1
            self._segment.unlink()
            self._segment.close()


def ipc_init(first_pid: int, second_pid: int, *, slots: int = DEFAULT_SLOTS, slot_bytes: int = DEFAULT_SLOT_BYTES) -> Ipc:
    """Bind two processes to shared memory: one queue each way, of `slots` slots for messages of up to `slot_bytes` bytes.

    Each of the two calls it with the same two numbers; whoever comes first makes the memory, the other one finds it, and then
    its name is gone. A third process may make it for them, and still may not send or receive.

    Raises:
        ProcessLookupError: one of the processes does not exist.
        OutOfSharedMemory: there is no room for the slots.
    """
    if slots <= 0 or slot_bytes <= 0:
        raise ValueError(f"{slots} slots of {slot_bytes} bytes make no queue")
    first, second = sorted((Identity.of(first_pid), Identity.of(second_pid)), key=lambda process: process.pid)
    name = f"ipc-{first.pid}.{first.start_time}-{second.pid}.{second.start_time}"
    segment = None
    while segment is None:  # the other two may meet, and the name go, between the two
        segment = _create(name, slots, -(-slot_bytes // 8) * 8) or _attach(name)
    ipc = Ipc(segment, (first, second))
    if os.getpid() in (first.pid, second.pid) and seated(ipc._segment, ipc.own_index()) is None:
        take_seat(ipc._segment, ipc.own_index())
    return ipc


def _create(name: str, slots: int, slot_bytes: int) -> Segment | None:
    """The memory, complete before it gets its name; None if the name is taken."""
    segment = Segment.create(KIND, _QUEUES + 2 * bounded_buffer.shared_bytes(slots, slot_bytes))
    _GEOMETRY_WORDS.pack_into(segment.buffer, _GEOMETRY, slots, slot_bytes)
    ipc = Ipc(segment, (Identity.own(), Identity.own()))
    for index in (0, 1):
        _entries().initialise(ipc.queue(index))
    try:
        segment.rename(name)
    except NameTaken:
        segment.close()
        return None
    return segment


def _attach(name: str) -> Segment | None:
    """The memory that another process made; None if it is gone meanwhile."""
    try:
        return Segment.attach(KIND, PREFIX + name)
    except NameNotFound:
        return None


def ipc_send(ipc: Ipc, message: BytesLike, *, timeout: float | None = None) -> None:
    """Copy `message` into the next empty slot towards the other process.

    Raises:
        PermissionDenied: this process is not one of the two.
        MessageTooLarge: a slot is smaller.
        TimedOut, Closed, PeerDied: no slot became empty in time, or never will.
    """
    queue = ipc.queue(ipc.own_index())
    result = _patiently(ipc, queue, lambda limit_ns: _entries().send(queue, message, limit_ns), timeout)
    if result == bounded_buffer.TOO_LARGE:
        size = memoryview(message).nbytes  # type: ignore[arg-type]  # see BytesLike
        raise MessageTooLarge(
            f"a message of {size:,} bytes does not fit into a slot of {ipc.slot_bytes:,}; call ipc_init with slot_bytes={size}"
        )


def ipc_receive(ipc: Ipc, *, timeout: float | None = None) -> memoryview:
    """Copy the next message from the other process into `ipc.message_buffer`; a view of it, valid until the next call.

    Raises:
        PermissionDenied: this process is not one of the two.
        TimedOut, Closed, PeerDied: no message came in time, or none will.
        CorruptSegment: a slot holds an impossible length.
    """
    queue = ipc.queue(1 - ipc.own_index())
    length = _patiently(ipc, queue, lambda limit_ns: _entries().receive(queue, ipc.message_buffer, limit_ns), timeout)
    if length == bounded_buffer.CORRUPT:
        raise CorruptSegment("a slot holds an impossible length: something else wrote into the shared memory")
    return memoryview(ipc.message_buffer)[:length]


def _patiently(ipc: Ipc, queue: int, attempt: Callable[[int], int], timeout: float | None) -> int:
    """Repeat `attempt(limit_ns)` until it does not time out, the other process is gone, or `timeout` seconds have passed."""
    start = time.monotonic()
    while True:
        if ipc.is_destroyed():
            raise Closed("the ipc object was destroyed: call ipc_init again in both processes")
        left_ns = _SLICE_NS if timeout is None else int(min((start + timeout - time.monotonic()) * _NS_PER_S, _SLICE_NS))
        peer_lives = ipc.peer().is_alive()  # before the queue: what it sent comes first
        result = attempt(max(left_ns, 0) if peer_lives else _SLICE_NS)
        if result == bounded_buffer.MUTEX_TAKEN and not peer_lives:
            _entries().free_mutex(queue)
            continue
        if result not in (bounded_buffer.TIMED_OUT, bounded_buffer.MUTEX_TAKEN):
            return result
        if not peer_lives:
            raise PeerDied(f"process {ipc.peer().pid} ended without ipc_destroy; what it sent is received")
        if left_ns <= 0:
            raise TimedOut(f"nothing happened between {os.getpid()} and {ipc.peer().pid} within {timeout:g} s")


def ipc_destroy(ipc: Ipc) -> None:
    """Unbind both processes and give the shared memory back. The other one's calls end with `Closed`. Idempotent."""
    ipc.destroy()
