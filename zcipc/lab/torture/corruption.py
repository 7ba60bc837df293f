"""Corrupt and hostile memory: any word that both sides see, overwritten with any value, while both sides go on.

A victim holds both ends, so that a case takes microseconds: it overwrites one word, calls whatever there is to call, and puts
back memory and ends as they were. Every call must return, or raise an error of the package. Beside the
mapping, where nothing else is, lie pages that nobody may touch: to reach for them is the death of the victim, and is seen.
"""

import ctypes
import mmap
import time
from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import Any

import numpy as np

from zcipc import Connection, Pipe, ZcipcError, codec
from zcipc import operations as ops
from zcipc.algorithms.ring import CONTROL_BYTES, LENGTH_BITS, LENGTH_MASK, POSITION
from zcipc.algorithms.seats import SEATS_END
from zcipc.lab.torture.messages import sealed
from zcipc.lab.torture.processes import PATIENCE_S, Victim, count_outcome
from zcipc.lab.torture.tally import Tally
from zcipc.native.atomics import WORD

CASES = 4000  # a round
_CAPACITY = 4096  # bytes
_DATA_OFFSET = 4096
CONTROL_END = SEATS_END + 2 * CONTROL_BYTES
_SHORT_WAIT_S = 0.0002
_GUARD_BYTES = 1 << 24
_PROT_NONE, _MAP_PRIVATE, _MAP_ANONYMOUS, _MAP_FIXED_NOREPLACE = 0, 0x02, 0x20, 0x100000
_PICKLES = (0, codec.PICKLE, codec.PICKLE_AND_BUFFERS)
_CASE, _ERRORS, _ASTRAY, _WORDS = range(4)

_BOUNDARIES = (
    *(0, 1, 2, 3, 7, 8, -1, -2, -7, -8),
    *(_CAPACITY + near for near in (-16, -9, -8, -1, 0, 1, 8, 16)),
    *(-_CAPACITY + near for near in (-8, -1, 0, 1, 8)),
    *(LENGTH_MASK + near for near in (-1, 0, 1)),
    *((1 << LENGTH_BITS) * tag + 1 + length for tag in (1, 2, 4, 99) for length in (0, 8, _CAPACITY, LENGTH_MASK - 1)),
    *((1 << bits) + near for bits in (31, 32, 47, 62) for near in (-1, 0, 1)),
    *(near - (1 << 63) for near in (0, 1, 8)),
    (1 << 63) - 1,
)


def corruption(random: Random) -> Tally:
    """One round: a victim that meets `CASES` corruptions."""
    tally = Tally()
    seed = random.getrandbits(32)
    progress = np.frombuffer(mmap.mmap(-1, WORD * _WORDS), np.int64)
    with Victim(lambda: _suffer(Random(seed), progress)) as victim:
        status = victim.outcome(_Stalled(progress))
    tally.corruptions += int(progress[_CASE])
    count_outcome(status, tally, f"case {progress[_CASE]} of corruption {seed}")
    tally.fault("crashes", f"messages longer than any queue, corruption {seed}", int(progress[_ASTRAY]))
    return tally


class _Stalled:
    """Whether the victim has been at one case for too long."""

    def __init__(self, progress: "np.ndarray[Any, Any]") -> None:
        self._progress, self._case, self._since = progress, -1, time.monotonic()

    def __call__(self) -> bool:
        if self._progress[_CASE] != self._case:
            self._case, self._since = int(self._progress[_CASE]), time.monotonic()
        return time.monotonic() - self._since > PATIENCE_S


def _suffer(random: Random, progress: "np.ndarray[Any, Any]") -> None:
    ends = Pipe(capacity=_CAPACITY)
    for end in ends:
        end.poll()
    memory = np.frombuffer(ends[0]._segment.buffer, np.int64)
    guard(memory.ctypes.data, memory.nbytes)
    for case in range(CASES):
        progress[_CASE] = case
        _prepare(ends, random)
        kept = memory.copy(), [end._words.copy() for end in ends]
        memory[_some_word(ends, random)] = some_value(random)
        _use(ends, random, progress)
        memory[:] = kept[0]
        for end, words in zip(ends, kept[1], strict=True):
            end._words[:] = words
        _drain(ends)
    progress[_CASE] = CASES


def _prepare(ends: tuple[Connection, Connection], random: Random) -> None:
    """A few messages on their way in both directions, so that laps, gaps and lengths differ from case to case."""
    for end in ends:
        with suppress(ZcipcError):
            for _ in range(random.randint(0, 4)):
                if random.random() < 0.2:
                    end.send(np.arange(random.randint(0, 60)), timeout=0)
                else:
                    end.send_bytes(sealed(0, random.choice((12, 24, 200, 1000))), timeout=0)


def _drain(ends: tuple[Connection, Connection]) -> None:
    for end in ends:
        while end.poll():
            end.recv_bytes(timeout=0)


def _some_word(ends: tuple[Connection, Connection], random: Random) -> int:
    """Index of a word: of the segment's header, the seats and the control lines; of a record's header; or any other."""
    kind = random.random()
    if kind < 0.4:
        return random.randrange(CONTROL_END // WORD)
    if kind < 0.9:
        index = random.randrange(2)
        end, side = ends[index], random.choice((ops.CONSUMER, ops.PRODUCER))
        queue = index if side == ops.PRODUCER else 1 - index
        offset = end._get(side + POSITION) % _CAPACITY
        return (_DATA_OFFSET + queue * _CAPACITY + offset) // WORD
    return random.randrange((_DATA_OFFSET + 2 * _CAPACITY) // WORD)


def some_value(random: Random) -> int:
    """A word near a boundary of anything, or of any bits."""
    if random.random() < 0.7:
        return random.choice(_BOUNDARIES)
    return random.getrandbits(random.randint(1, 64)) - (1 << 63) if random.random() < 0.5 else random.getrandbits(63)


def _use(ends: tuple[Connection, Connection], random: Random, progress: "np.ndarray[Any, Any]") -> None:
    """Both sides go on; what a call raises must be an error of the package, and what it returns must fit into a queue."""
    for _ in range(6):
        end = random.choice(ends)
        try:
            received = random.choice(_CALLS)(end)
        except ZcipcError:
            progress[_ERRORS] += 1
        else:
            progress[_ASTRAY] += received > _CAPACITY


def _send(end: Connection) -> int:
    end.send_bytes(bytes(100), timeout=0)
    return 0


def _wait_for_room(end: Connection) -> int:
    end.send_bytes(bytes(3000), timeout=_SHORT_WAIT_S)
    return 0


def _receive(end: Connection) -> int:
    return len(end.recv_bytes(timeout=0))


def _wait_for_message(end: Connection) -> int:
    return len(end.recv_bytes(timeout=_SHORT_WAIT_S))


def _decode(end: Connection) -> int:
    with (message := end.borrow(timeout=0)) as buffer:
        if message.tag not in _PICKLES:  # a pickle of a hostile peer may do anything, and is not for hostile peers
            codec.decode(message.tag, buffer)
        return len(buffer)


def _borrow_and_keep(end: Connection) -> int:
    with end.borrow(timeout=0) as buffer:
        kept = np.frombuffer(buffer, np.uint8)
    return len(kept.tobytes())


def _lend(end: Connection) -> int:
    with end.loan(300, timeout=0) as buffer:
        buffer[:] = bytes(300)
    return 0


def _send_array(end: Connection) -> int:
    end.send(np.arange(20), timeout=0)
    return 0


def _look(end: Connection) -> int:
    end.statistics()
    return int(end.poll())


_CALLS: tuple[Callable[[Connection], int], ...] = (
    *(_send, _wait_for_room, _receive, _receive, _wait_for_message),
    *(_decode, _decode, _borrow_and_keep, _lend, _send_array, _look),
)


def guard(address: int, size: int) -> None:
    """Lay pages that nobody may touch before and after the mapping, as far as nothing else lies there."""
    libc = ctypes.CDLL(None)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    flags = _MAP_PRIVATE | _MAP_ANONYMOUS | _MAP_FIXED_NOREPLACE
    end = -(-(address + size) // mmap.PAGESIZE) * mmap.PAGESIZE
    for length in (_GUARD_BYTES, mmap.PAGESIZE):
        for start in (address - length, end):
            libc.mmap(start, length, _PROT_NONE, flags, -1, 0)
