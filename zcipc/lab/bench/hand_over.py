"""A loaned message handed over and answered by one like it, its payload never touched: does the time depend on its size?

Claimed and committed, received and released. The connection is made for the size, with room for two messages.
"""

import os
from collections.abc import Sequence

import numpy as np
from numba import int64

import zcipc
from zcipc import operations as ops
from zcipc.algorithms.ring import HEADER, header_length, header_tag
from zcipc.ends.end import DEFAULT_CAPACITY
from zcipc.lab.bench.scenario import Effort, Measured, Scenario, Series, demand_none, own
from zcipc.lab.bench.stream import opened
from zcipc.lab.harness.launch import Partner
from zcipc.lab.runs.machine import describe
from zcipc.native.atomics import clock
from zcipc.native.compiled import entry_point, jit

SIZES = tuple(64 << 3 * step for step in range(9))  # bytes, 64 B to 1 GiB
_ROUNDS = 2000  # in a block
_TAGS = 1 << 15  # a message's tag is its number, as far as a tag reaches
_SHARE = 0.7  # of the memory that is free: the rest is for whoever else runs


@jit
def _give(end, size, number):
    """Hand over message `number`; 1 if there was no room in spite of the answer to the last one."""
    if ops.claim(end, size, ops.FOREVER) < 0:
        return 1
    ops.commit(end, size, number % _TAGS)
    return 0


@jit
def _take(end, size, number):
    """Take message `number` and give it back; 1 if it was another."""
    header, _ = ops.borrow(end, ops.FOREVER)
    ops.skip(end, header)
    return header_length(header) != size or header_tag(header) != number % _TAGS


@jit
def _ping(end, size, elapsed):
    failures = number = 0
    for block in range(len(elapsed)):
        start = clock()
        for _ in range(_ROUNDS):
            failures += _give(end, size, number)
            failures += _take(end, size, number)
            number += 1
        elapsed[block] = clock() - start
    return failures


@jit
def _pong(end, size, rounds):
    failures = 0
    for number in range(rounds):
        failures += _take(end, size, number)
        failures += _give(end, size, number)
    return failures


_ping_now = entry_point(_ping, int64(int64, int64, int64[::1]))
_pong_now = entry_point(_pong, int64(int64, int64, int64))


def _hand_overs(sizes: Sequence[int], blocks: int) -> list[Measured]:
    """All sizes in one launch, for the slope is that of a launch."""
    return [Measured(size, "round_trip", "ns", _round_trip(size, blocks)) for size in sizes]


def _round_trip(size: int, blocks: int) -> float:
    left, right = zcipc.Pipe(capacity=_capacity(size), waiting=zcipc.Waiting.SPIN)
    what = f"hand-over of {size:,} bytes"
    partner = Partner(lambda: demand_none(_pong_now(opened(right), size, (blocks + 1) * _ROUNDS), what))
    elapsed = np.zeros(blocks + 1, np.int64)
    failures = _ping_now(opened(left), size, elapsed)
    partner.join()
    left.close()
    right.close()
    demand_none(failures, what)
    return float(np.median(elapsed[1:])) / _ROUNDS


def _capacity(size: int) -> int:
    """Bytes in each direction for two messages, rounded up as a connection does."""
    return max(1 << (2 * (size + HEADER) + HEADER - 1).bit_length(), DEFAULT_CAPACITY)


def fitting(sizes: Sequence[int]) -> list[int]:
    """Those sizes for which this machine has the memory now."""
    free = min(describe()["shm_free_bytes"] or 0, os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return [size for size in sizes if 2 * _capacity(size) <= _SHARE * free]


def _series(effort: Effort, _peers: bool) -> Sequence[Series]:
    sizes = fitting([size for size in SIZES if size <= effort.largest_bytes])
    return [own("zcipc_loan", "compiled", "spin", _hand_overs, sizes, effort.blocks)]


SCENARIO = Scenario("hand_over", "a loaned message handed over and answered, payload not touched", _series)
