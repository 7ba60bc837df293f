"""A NumPy array sent and received as an object, copied in and copied out, against two memcpy of its size.

An array goes over and comes back, so half a round trip is one `send` and the `recv` of it with nothing at the same time. The
memcpy take turns with it in the same process, block by block, between private buffers that are reused.

The limit does the same two memcpy, but in two processes: one copies into shared memory, the other out of it, behind a flag and
without a queue, an object or an interpreter. Memory that another core wrote last comes more slowly than one's own.
"""

import mmap
import time
from collections.abc import Sequence

import numpy as np
from numba import int64, void

import zcipc
from zcipc.algorithms.ring import LINE
from zcipc.lab.bench.scenario import LIMIT, Effort, Measured, Scenario, Series, WrongMessage, demand_none, own
from zcipc.lab.harness.launch import Partner
from zcipc.memory.segment import mapping_address, populate_pages
from zcipc.native.atomics import clock, load_acquire, memcpy, pause, store_release
from zcipc.native.compiled import entry_point, jit

SIZE = 1 << 20  # bytes
_CAPACITY = 4 << 20
_PLACES = 3  # that so large messages have in a queue of this capacity
_ROUNDS = 20  # in a block


@jit
def _copy_twice(source, between, destination, size, rounds):
    start = clock()
    for _ in range(rounds):
        memcpy(between, source, size)
        memcpy(destination, between, size)
    return clock() - start


@jit
def _copy_in(flag, places, source, size, number):
    """Copy to the place of message `number`, and say that it is there."""
    memcpy(places + number % _PLACES * size, source, size)
    store_release(flag, number)  # RELEASE pairs with the ACQUIRE in _copy_out()


@jit
def _copy_out(flag, places, destination, size, number):
    while load_acquire(flag) != number:  # ACQUIRE pairs with the RELEASE in _copy_in()
        pause()
    memcpy(destination, places + number % _PLACES * size, size)


_ADDRESSES_AND_NUMBERS = (int64, int64, int64, int64, int64)
_copy = entry_point(_copy_twice, int64(*_ADDRESSES_AND_NUMBERS))
_into = entry_point(_copy_in, void(*_ADDRESSES_AND_NUMBERS))
_out_of = entry_point(_copy_out, void(*_ADDRESSES_AND_NUMBERS))


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


def _without_queue(blocks: int) -> list[Measured]:
    memory = mmap.mmap(-1, 2 * (LINE + _PLACES * SIZE))
    populate_pages(mapping_address(memory), len(memory))
    flags = [mapping_address(memory) + index * LINE for index in range(2)]
    places = [mapping_address(memory) + 2 * LINE + index * _PLACES * SIZE for index in range(2)]
    source, destination = np.ones(SIZE // 8, np.int64), np.ones(SIZE // 8, np.int64)
    copy = destination.ctypes.data

    def echo() -> None:
        for number in range(1, (blocks + 1) * _ROUNDS + 1):
            _out_of(flags[0], places[0], copy, SIZE, number)
            _into(flags[1], places[1], copy, SIZE, number)

    partner = Partner(echo)
    elapsed = np.zeros(blocks + 1)
    for block in range(blocks + 1):
        start = time.monotonic_ns()
        for number in range(block * _ROUNDS + 1, (block + 1) * _ROUNDS + 1):
            source[-1] = number
            _into(flags[0], places[0], source.ctypes.data, SIZE, number)
            _out_of(flags[1], places[1], copy, SIZE, number)
            demand_none(int(destination[-1] != number), "copies")
        elapsed[block] = (time.monotonic_ns() - start) / _ROUNDS / 2
    partner.join()
    return [Measured(SIZE, "one_way", "ns", float(np.median(elapsed[1:])))]


def _series(effort: Effort, _peers: bool) -> Sequence[Series]:
    return [
        own("zcipc", "python", "spin", _arrays, effort.blocks),
        own(LIMIT, "python", "no_queue", _without_queue, effort.blocks),
    ]


SCENARIO = Scenario("array_copy", "send and recv of a 1 MiB array, against two memcpy", _series)
