"""A stream of large loaned messages, every byte written by one side and read by the other; and the same without a queue.

Without a queue, one process writes the buffers and the other reads them at the same time, round and round, and neither waits
for the other: that is what the memory system lets two cores do at once. They are the same buffers, so that each line moves from
core to core as it does through a queue; the reader starts half a round away from the writer, to meet it as seldom as it can.

How many bytes a round has decides much, so a ratio holds for this one. Within the second cache both are slow; at twice the
round chosen here the reader without a queue, far behind, is much faster than that of a queue, which is close behind.

So a third series has the reader close behind, as a queue does and with as many buffers: a flag each way and nothing else.
"""

import functools
import mmap
from collections.abc import Callable, Sequence

import numpy as np
from numba import int64, types

import zcipc
from zcipc import operations as ops
from zcipc.algorithms.ring import HEADER, LINE, header_length
from zcipc.lab.bench.scenario import LIMIT, Effort, Measured, Scenario, Series, own
from zcipc.lab.bench.stream import Consume, Produce, durations, opened
from zcipc.lab.harness.launch import shared_array
from zcipc.lab.harness.payload import fill, is_whole
from zcipc.memory.segment import mapping_address
from zcipc.native.atomics import clock, compiler_fence, load, load_acquire, pause, store, store_release
from zcipc.native.compiled import entry_point, jit

SIZES = tuple(64 << 10 << 2 * step for step in range(5))  # bytes, 64 KiB to 16 MiB
_ROUND = 4  # messages of the largest kind that fit the queue, or buffers without one
_SMALLEST_ROUND_BYTES = 4 << 20  # beyond the second cache: what lies dirty in the other core's comes slowly
_TIMES = types.UniTuple(int64, 2)


@jit
def _send_all(end, size, volume):
    start = clock()
    for stamp in range(volume):
        fill(ops.claim(end, size, ops.FOREVER), size, stamp)
        ops.commit(end, size, 0)
    return start


@jit
def _receive_all(end, size, volume):
    failures = 0
    for stamp in range(volume):
        header, address = ops.borrow(end, ops.FOREVER)
        failures += header_length(header) != size or not is_whole(address, size, stamp)
        ops.skip(end, header)
    return failures, clock()


@jit
def _write_all(buffers, number, size, volume):
    start = clock()
    for stamp in range(volume):
        fill(buffers + stamp % number * size, size, stamp)
        compiler_fence()
    return start


@jit
def _read_all(buffers, number, size, found, volume):
    """Read as a consumer does; how many were whole goes to `found`. None can be wrong, for nothing says when it was written."""
    whole = 0
    for stamp in range(volume):
        whole += is_whole(buffers + (stamp + number // 2) % number * size, size, stamp)
        compiler_fence()
    store(found, whole)
    return 0, clock()


@jit
def _write_in_turn(flags, buffers, number, size, volume):
    """As `_write_all`, but wait until a buffer has been read, and say that it is written."""
    count = load(flags)
    start = clock()
    for stamp in range(volume):
        while count - load_acquire(flags + LINE) == number:  # ACQUIRE pairs with the RELEASE in _read_in_turn()
            pause()
        fill(buffers + count % number * size, size, stamp)
        count += 1
        store_release(flags, count)  # RELEASE pairs with the ACQUIRE in _read_in_turn()
    return start


@jit
def _read_in_turn(flags, buffers, number, size, volume):
    failures = 0
    count = load(flags + LINE)
    for stamp in range(volume):
        while load_acquire(flags) == count:  # ACQUIRE pairs with the RELEASE in _write_in_turn()
            pause()
        failures += not is_whole(buffers + count % number * size, size, stamp)
        count += 1
        store_release(flags + LINE, count)  # RELEASE pairs with the ACQUIRE in _write_in_turn()
    return failures, clock()


_send = entry_point(_send_all, int64(int64, int64, int64))
_receive = entry_point(_receive_all, _TIMES(int64, int64, int64))
_write = entry_point(_write_all, int64(int64, int64, int64, int64))
_read = entry_point(_read_all, _TIMES(int64, int64, int64, int64, int64))
_write_next = entry_point(_write_in_turn, int64(int64, int64, int64, int64, int64))
_read_next = entry_point(_read_in_turn, _TIMES(int64, int64, int64, int64, int64))


def _zcipc(size: int, volume: int, blocks: int) -> list[Measured]:
    left, right = zcipc.Pipe(capacity=_round_bytes(size), waiting=zcipc.Waiting.SPIN)

    def producer() -> Produce:
        return functools.partial(_send, opened(left), size)

    def consumer() -> Consume:
        return functools.partial(_receive, opened(right), size)

    return _rate("zcipc", size, producer, consumer, volume, blocks)


def _without_queue(size: int, volume: int, blocks: int) -> list[Measured]:
    memory, found = mmap.mmap(-1, _round_bytes(size)), shared_array(1)
    buffers = mapping_address(memory), _round_bytes(size) // size, size
    return _rate(
        "no queue",
        size,
        lambda: functools.partial(_write, *buffers),
        lambda: functools.partial(_read, *buffers, found.ctypes.data),
        volume,
        blocks,
    )


def _in_turn(size: int, volume: int, blocks: int) -> list[Measured]:
    memory = mmap.mmap(-1, 2 * LINE + _round_bytes(size))
    flags = mapping_address(memory)
    buffers = flags, flags + 2 * LINE, _round_bytes(size) // (size + HEADER), size
    return _rate(
        "buffers in turn",
        size,
        lambda: functools.partial(_write_next, *buffers),
        lambda: functools.partial(_read_next, *buffers),
        volume,
        blocks,
    )


def _round_bytes(size: int) -> int:
    return max(_ROUND * size, _SMALLEST_ROUND_BYTES)


def _rate(
    what: str, size: int, producer: Callable[[], Produce], consumer: Callable[[], Consume], volume: int, blocks: int
) -> list[Measured]:
    elapsed = durations(what, producer, consumer, volume, blocks)
    return [Measured(size, "bytes_per_s", "B/s", float(np.median(volume * size / elapsed * 1e9)))]


def _series(effort: Effort, _peers: bool) -> Sequence[Series]:
    return [
        own(system, "compiled", mode, task, size, max(effort.stream_bytes // size, 8), effort.blocks)
        for size in SIZES
        for system, mode, task in (
            ("zcipc_loan", "spin", _zcipc),
            (LIMIT, "no_queue", _without_queue),
            ("in_turn", "a_flag_each_way", _in_turn),
        )
    ]


SCENARIO = Scenario("bulk_stream", "loaned messages one way, all bytes written and read, against no queue", _series)
