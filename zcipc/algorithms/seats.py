"""The two seats of a segment: which processes may use it. A seat is taken once, by one process, for good."""

import struct
from collections.abc import Callable

from zcipc.algorithms.ring import LINE
from zcipc.errors import CorruptSegment, PermissionDenied
from zcipc.memory.peer import Identity
from zcipc.memory.segment import HEADER_BYTES, Segment
from zcipc.native.atomics import WORD, compare_exchange, fence, load_acquire, store, store_release
from zcipc.native.compiled import jit
from zcipc.native.extension import entry, new_bool, new_int

SEATS = 2
_GREATEST_PID = 1 << 22  # PID_MAX_LIMIT of Linux
SEATS_END = HEADER_BYTES + SEATS * LINE  # bytes from the start of the segment

# The words of a seat.
_PID = 0 * WORD  # 0 while it is free; whoever changes that has the seat
_START_TIME = 1 * WORD
NAMESPACE = 2 * WORD
_TAKEN = 3 * WORD  # 1 once the words above are all there
_SEAT = struct.Struct("<4q")  # these words


@jit
def _take(seat, pid, start_time, namespace):
    holder = compare_exchange(seat + _PID, 0, pid)
    if holder == 0:
        store(seat + _START_TIME, start_time)
        store(seat + NAMESPACE, namespace)
        store_release(seat + _TAKEN, 1)  # RELEASE pairs with the ACQUIRE in _is_taken(): identity before flag
        fence()  # before the look at the other seat: of two that come at once, at least one sees both taken
    return holder


@jit
def _is_taken(seat):
    return load_acquire(seat + _TAKEN) != 0  # ACQUIRE pairs with the RELEASE in _take()


class _Entries:
    take: Callable[[int, int, int, int], int] = entry(_take, "LLLL", new_int)
    is_taken: Callable[[int], bool] = entry(_is_taken, "L", new_bool)


_entries = _Entries()


def seat_address(segment: Segment, index: int) -> int:
    return segment.address + HEADER_BYTES + index * LINE


def take_seat(segment: Segment, index: int) -> Identity:
    """Make this process the holder of seat `index`, and say who it is; unlink the segment's name if both are taken now.

    Raises:
        PermissionDenied: the seat is another's.
    """
    own = Identity.own()
    holder = _entries.take(seat_address(segment, index), own.pid, own.start_time, own.namespace)
    if holder != 0:
        raise PermissionDenied(
            f"process {own.pid} may not use this end: process {holder} has its seat. "
            "An end belongs to the process that uses it first; make a connection for each pair of processes"
        )
    if seated(segment, 1 - index) is not None:
        segment.unlink()
    return own


def seated(segment: Segment, index: int) -> Identity | None:
    """Who has seat `index`, or None while it is free, or another thread has closed the segment.

    Raises:
        CorruptSegment: its number is none that a process can have.
    """
    try:
        memory = memoryview(segment.buffer)  # keeps it mapped
    except ValueError:
        return None
    with memory:
        holder = _holder(memory, index, taken=_entries.is_taken(seat_address(segment, index)))
    if holder is not None and not 0 < holder.pid <= _GREATEST_PID:
        raise CorruptSegment(f"{segment.name}: process {holder.pid} is said to have a seat, which is no number of a process")
    return holder


def seat_holder(memory: bytes, index: int) -> Identity | None:
    """The same, as an onlooker sees it in a copy of the first `SEATS_END` bytes of a segment."""
    return _holder(memory, index, taken=_SEAT.unpack_from(memory, HEADER_BYTES + index * LINE)[-1] != 0)


def _holder(memory: bytes | memoryview, index: int, taken: bool) -> Identity | None:
    *identity, _ = _SEAT.unpack_from(memory, HEADER_BYTES + index * LINE)
    if taken:
        return Identity(*identity)
    return None if identity[0] == 0 else Identity.of_the_dead(identity[0])  # killed while it sat down: lost for good
