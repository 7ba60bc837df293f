"""What happens inside a launch of the design choices: all variants of one. Imports only what measuring needs."""

import random
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from zcipc.lab.harness.launch import Partner, pin, shared_array
from zcipc.lab.measurements import loops
from zcipc.lab.measurements.tasks import BLOCK_NS, CALIBRATION_ROUNDS, SETTLE_S, TornMessage
from zcipc.lab.transports import Transport
from zcipc.lab.variants import VARIANTS, EntryPoint, Unavailable
from zcipc.lab.variants.queue import Queue

STREAM_BYTES = 4 << 20  # a block of a stream carries about as many
STREAM_MESSAGES = 50_000  # and at most as many messages
CALLS = 20_000  # in a block

Measurement = tuple[str, str, int]
"""A variant, a metric, and the bytes of a message."""
Result = tuple[float, str]
"""A value in ns, and why there is none: then it is NaN."""


def compare(measurements: Sequence[Measurement], blocks: int) -> dict[Measurement, Result]:
    """Each measurement twice, in random order and then backwards; the means.

    One comes right after the other, so what disturbs one is likely to disturb all; a steady drift meets all alike.
    """
    order = random.sample(measurements, len(measurements))
    forth = {measurement: _result(*measurement, blocks) for measurement in order}
    back = {measurement: _result(*measurement, blocks) for measurement in reversed(order)}
    return {measurement: ((forth[measurement][0] + back[measurement][0]) / 2, forth[measurement][1]) for measurement in order}


def _result(name: str, metric: str, length: int, blocks: int) -> Result:
    try:
        transport = VARIANTS[name](length)
    except Unavailable as missing:
        return float("nan"), str(missing)
    value = _METRICS[metric](transport, blocks)
    transport.close()
    return value, ""


def round_trip(transport: Transport, blocks: int) -> float:
    """The median block of compiled round trips: ns a round trip."""
    return _round_trip(loops, transport.compiled_end, transport.length, blocks)


def interpreted_round_trip(transport: Transport, blocks: int) -> float:
    """The same interpreted."""
    return _round_trip(loops.Interpreted, transport.interpreted_end, transport.length, blocks)


def _round_trip(loop: Any, end_of: Callable[[int], Any], length: int, blocks: int) -> float:
    rounds = shared_array(1)

    def answer_pings() -> None:
        end = end_of(1)
        failures = loop.pong(end, length, CALIBRATION_ROUNDS, 1)
        while not rounds[0]:
            pass
        _demand_none(failures + loop.pong(end, length, blocks * int(rounds[0]), 1))

    partner = Partner(answer_pings)
    end = end_of(0)
    warm_up, elapsed = np.zeros(1, np.int64), np.zeros(blocks, np.int64)
    failures = loop.ping(end, length, CALIBRATION_ROUNDS, warm_up)
    rounds[0] = max(BLOCK_NS * CALIBRATION_ROUNDS // max(int(warm_up[0]), 1), 10)
    failures += loop.ping(end, length, int(rounds[0]), elapsed)
    partner.join()
    _demand_none(failures)
    return float(np.median(elapsed)) / int(rounds[0])


def stream(transport: Transport, blocks: int) -> float:
    """The median block of a compiled stream, after one to warm up: ns a message, until the last of a block has been read."""
    volume = min(STREAM_BYTES // transport.length, STREAM_MESSAGES)
    return float(np.median(_stream(transport, blocks + 1, volume)[1:])) / volume


def first_lap(transport: Transport, _blocks: int) -> float:
    """A stream that comes to each part of its queue for the first time: ns a message."""
    if not isinstance(transport, Queue):
        raise TypeError(f"{transport!r} does not say how many messages make a lap")
    volume = transport.slots - 1
    return float(_stream(transport, 1, volume)[0]) / volume


def _stream(transport: Transport, blocks: int, volume: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The ns that each block took."""
    length = transport.length
    ready, finished = shared_array(1), shared_array(blocks)

    def absorb() -> None:
        end = transport.compiled_end(1)
        ready[0] = 1
        for block in range(blocks):
            failures, finished[block] = loops.absorb(end, length, volume)
            _demand_none(failures)

    partner = Partner(absorb)
    end = transport.compiled_end(0)
    while not ready[0]:
        time.sleep(SETTLE_S)
    elapsed = np.zeros(blocks, np.int64)
    for block in range(blocks):
        began = loops.inject(end, length, volume)
        while not finished[block]:
            pass
        elapsed[block] = finished[block] - began
    partner.join()
    return elapsed


def call(transport: Transport, blocks: int) -> float:
    """The median block of interpreted calls that do next to nothing, the loop around them included: ns a call."""
    if not isinstance(transport, EntryPoint):
        raise TypeError(f"{transport!r} has nothing to call")
    pin(0)
    claim, end = transport.claim(0)
    length = transport.length
    elapsed = []
    for _ in range(blocks):
        start = time.monotonic_ns()
        for _ in range(CALLS):
            claim(end, length)
        elapsed.append(time.monotonic_ns() - start)
    return float(np.median(elapsed)) / CALLS


_METRICS: dict[str, Callable[[Transport, int], float]] = {
    "round_trip": round_trip,
    "interpreted_round_trip": interpreted_round_trip,
    "stream": stream,
    "first_lap": first_lap,
    "call": call,
}


def _demand_none(failures: int) -> None:
    if failures:
        raise TornMessage(f"{failures} messages arrived torn, lost or out of order")
