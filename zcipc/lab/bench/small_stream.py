"""A stream of 8-byte messages: one push for each, in batches, and through a textbook queue of two indices.

The textbook queue holds bare items. With a length for each, which is what a queue of messages needs, its items are as long as a
record here, and as many lines have to travel.
"""

import functools
from collections.abc import Callable, Sequence

import numpy as np
from numba import int64, types

import zcipc
from zcipc import operations as ops
from zcipc.lab.bench import two_index
from zcipc.lab.bench.scenario import Effort, Measured, Scenario, Series, own
from zcipc.lab.bench.stream import Consume, Produce, durations, opened
from zcipc.lab.bench.two_index import TwoIndexEnd, TwoIndexQueue
from zcipc.lab.harness.payload import words
from zcipc.native.atomics import WORD, clock
from zcipc.native.compiled import entry_point, jit

BATCH = 512  # messages in one record
_SLOTS = 1 << 12  # of the textbook queue: it fits the first cache
_TIMES = types.UniTuple(int64, 2)


@jit
def _push_zcipc(end, volume):
    start = clock()
    for item in range(volume):
        words(ops.claim(end, WORD, ops.FOREVER), WORD)[0] = item
        ops.commit(end, WORD, 0)
    return start


@jit
def _pop_zcipc(end, volume):
    failures = 0
    for item in range(volume):
        header, address = ops.borrow(end, ops.FOREVER)
        failures += words(address, WORD)[0] != item
        ops.skip(end, header)
    return failures, clock()


@jit
def _push_batches(end, volume):
    start = clock()
    for first in range(0, volume, BATCH):
        batch = words(ops.claim(end, BATCH * WORD, ops.FOREVER), BATCH * WORD)
        for index in range(BATCH):
            batch[index] = first + index
        ops.commit(end, BATCH * WORD, 0)
    return start


@jit
def _pop_batches(end, volume):
    failures = 0
    for first in range(0, volume, BATCH):
        header, address = ops.borrow(end, ops.FOREVER)
        batch = words(address, BATCH * WORD)
        for index in range(BATCH):
            failures += batch[index] != first + index
        ops.skip(end, header)
    return failures, clock()


_TWO_INDEX = types.NamedUniTuple(int64, 4, TwoIndexEnd)
_LOOPS = {
    "one": (
        entry_point(_push_zcipc, int64(int64, int64)),
        entry_point(_pop_zcipc, _TIMES(int64, int64)),
    ),
    "batches": (
        entry_point(_push_batches, int64(int64, int64)),
        entry_point(_pop_batches, _TIMES(int64, int64)),
    ),
    "two_index": (
        entry_point(two_index.produce, int64(_TWO_INDEX, int64)),
        entry_point(two_index.consume, _TIMES(_TWO_INDEX, int64)),
    ),
}


def _zcipc(loop: str, volume: int, blocks: int) -> list[Measured]:
    push, pop = _LOOPS[loop]
    left, right = zcipc.Pipe(waiting=zcipc.Waiting.SPIN)

    def producer() -> Produce:
        return functools.partial(push, opened(left))

    def consumer() -> Consume:
        return functools.partial(pop, opened(right))

    return _rates(f"zcipc, {loop}", producer, consumer, volume, blocks)


def _two_index(pauses: int, slot_bytes: int, volume: int, blocks: int) -> list[Measured]:
    push, pop = _LOOPS["two_index"]
    queue = TwoIndexQueue(_SLOTS * WORD // slot_bytes, pauses, slot_bytes)
    return _rates(
        "the textbook queue",
        lambda: functools.partial(push, queue.end()),
        lambda: functools.partial(pop, queue.end()),
        volume,
        blocks,
    )


def _rates(
    what: str, producer: Callable[[], Produce], consumer: Callable[[], Consume], volume: int, blocks: int
) -> list[Measured]:
    elapsed = durations(what, producer, consumer, volume, blocks)
    return [Measured(WORD, "messages_per_s", "1/s", float(np.median(volume / elapsed * 1e9)))]


def _series(effort: Effort, _peers: bool) -> Sequence[Series]:
    volume = -(-effort.stream_messages // BATCH) * BATCH
    return [
        own("zcipc", "compiled", "one_push_a_message", _zcipc, "one", volume, effort.blocks),
        own("zcipc_batches", "compiled", f"{BATCH}_a_push", _zcipc, "batches", 4 * volume, effort.blocks),
        *(
            own(f"two_index{kind}{patience}", "compiled", mode, _two_index, pauses, slot_bytes, volume, effort.blocks)
            for kind, slot_bytes in (("", WORD), ("_and_length", 2 * WORD))
            for patience, mode, pauses in (("", "polls", 1), ("_patient", "polls_seldom", 32))
        ),
    ]


SCENARIO = Scenario("small_stream", "8-byte messages one way, against a textbook queue", _series)
