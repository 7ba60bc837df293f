"""A NumPy array sent and received as an object, copied in and copied out, against two memcpy of its size.

An array goes over and comes back, so half a round trip is one `send` and the `recv` of it with nothing at the same time. The
memcpy take turns with it in the same process, block by block, between private buffers that are reused.
"""

import time
from collections.abc import Sequence

import numpy as np
from numba import int64

import zcipc
from zcipc.atomics import clock, memcpy
from zcipc.compiled import entry_point, jit
from zcipc.lab.bench.scenario import Effort, Measured, Scenario, Series, WrongMessage, demand_none, own
from zcipc.lab.launch import Partner

SIZE = 1 << 20  # bytes
_CAPACITY = 4 << 20
_ROUNDS = 20  # in a block


@jit
def _copy_twice(source, between, destination, size, rounds):
    start = clock()
    for _ in range(rounds):
        memcpy(between, source, size)
        memcpy(destination, between, size)
    return clock() - start


_copy = entry_point(_copy_twice, int64(int64, int64, int64, int64, int64))


def _arrays(blocks: int) -> list[Measured]:
    ours, theirs = zcipc.Pipe(capacity=_CAPACITY, waiting=zcipc.Waiting.SPIN)

    def echo() -> None:
        for _ in range((blocks + 1) * _ROUNDS):
            theirs.send(theirs.recv())

    partner = Partner(echo)
    array = np.random.default_rng(0).integers(0, 1 << 62, SIZE // 8)
    source, between, destination = (np.ones(SIZE // 8, np.int64) for _ in range(3))
    buffers = [buffer.ctypes.data for buffer in (source, between, destination)]
    messages, copies = np.zeros(blocks + 1), np.zeros(blocks + 1)
    failures = 0
    for block in range(blocks + 1):
        start = time.monotonic_ns()
        for number in range(_ROUNDS):
            array[0] = array[-1] = number
            ours.send(array)
            back = ours.recv()
            failures += not back[0] == number == back[-1]
        messages[block] = (time.monotonic_ns() - start) / _ROUNDS / 2
        copies[block] = _copy(*buffers, SIZE, _ROUNDS) / _ROUNDS
    partner.join()
    demand_none(failures, "arrays")
    if not (back == array).all():
        raise WrongMessage("the last array came back with other elements")
    return [
        Measured(SIZE, "one_way", "ns", float(np.median(messages[1:]))),
        Measured(SIZE, "two_memcpy", "ns", float(np.median(copies[1:]))),
    ]


def _series(effort: Effort, _peers: bool) -> Sequence[Series]:
    return [own("zcipc", "python", "spin", _arrays, effort.blocks)]


SCENARIO = Scenario("array_copy", "send and recv of a 1 MiB array, against two memcpy", _series)
