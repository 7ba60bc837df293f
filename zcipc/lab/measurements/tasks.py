"""What happens inside a launch: both processes of a pair, one experiment. Imports only what measuring needs."""

import os
import random
import struct
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from zcipc.lab.errors import LabError
from zcipc.lab.harness.launch import Partner, pin, shared_array
from zcipc.lab.measurements import loops
from zcipc.lab.transports import TRANSPORTS, Transport

BLOCK_NS = 2_000_000  # a block of round trips takes about this long
CALIBRATION_ROUNDS = 50
PERIOD_NS = 40_000  # between paced messages: shorter than a hybrid wait spins, longer than any transport takes
SETTLE_S = 0.001  # from "ready" to the first message of a burst: the receiver is then waiting for it
QUANTILES = np.unique(np.round(np.concatenate([np.linspace(0, 0.9, 19), 1 - np.logspace(-1, -4, 19), [1.0]]), 6))

_LOOPS: dict[str, Any] = {"compiled": loops, "python": loops.Interpreted}
_WORD = struct.Struct("q")

Floats = np.ndarray[Any, np.dtype[np.float64]]
Times = np.ndarray[Any, np.dtype[np.int64]]


class TornMessage(LabError):
    """A message arrived that was not sent."""


def ping_pong(runtime: str, name: str, sizes: Sequence[int], blocks: int, samples: int) -> list[tuple[dict[str, Any], Floats]]:
    shuffled = random.sample(list(sizes), len(sizes))
    return [round_trips(runtime, TRANSPORTS[name](size), blocks, samples) for size in shuffled]


def round_trips(
    runtime: str, transport: Transport, blocks: int, samples: int, one_core: bool = False
) -> tuple[dict[str, Any], Floats]:
    """One size in one launch: a calibrating warm-up, `blocks` timed blocks, `samples` single round trips.

    Each process has a core of its own, or `one_core` serves both.
    """
    loop, size, name = _LOOPS[runtime], transport.length, type(transport).__name__
    source, sink = os.pipe()

    def answer_pings() -> None:
        if one_core:
            pin(0)
        end = _end(transport, runtime, 1)
        failures = loop.pong(end, size, CALIBRATION_ROUNDS, 1)
        rounds = _WORD.unpack(os.read(source, _WORD.size))[0]
        failures += loop.pong(end, size, blocks * rounds, 1)
        failures += loop.pong(end, size, samples, 0)
        _demand_none(failures, name, runtime)

    partner = Partner(answer_pings)
    end = _end(transport, runtime, 0)
    warm_up, elapsed, single = (np.zeros(count, np.int64) for count in (1, blocks, samples))
    failures = loop.ping(end, size, CALIBRATION_ROUNDS, warm_up)
    rounds = max(int(BLOCK_NS * CALIBRATION_ROUNDS / max(int(warm_up[0]), 1)), 10)
    os.write(sink, _WORD.pack(rounds))
    failures += loop.ping(end, size, rounds, elapsed)
    failures += loop.ping_each(end, size, single)
    partner.join()
    os.close(source)
    os.close(sink)
    transport.close()
    _demand_none(failures, name, runtime)
    result = {
        "message_bytes": size,
        "rounds": rounds * blocks,
        "round_trip_ns": float(np.median(elapsed)) / rounds,
        "round_trip_min_ns": float(elapsed.min()) / rounds,
        "warmup_round_trip_ns": float(warm_up[0]) / CALIBRATION_ROUNDS,
        **_percentiles(single),
        "verified": True,
    }
    return result, np.quantile(single, QUANTILES)


def latency(runtime: str, name: str, sizes: Sequence[int], samples: int) -> list[tuple[dict[str, Any], Floats]]:
    return [_latency_size(runtime, name, size, samples) for size in random.sample(list(sizes), len(sizes))]


def _latency_size(runtime: str, name: str, size: int, samples: int) -> tuple[dict[str, Any], Floats]:
    """One size in one launch: a tenth more messages than `samples`, the first of them to warm up."""
    loop = _LOOPS[runtime]
    transport = TRANSPORTS[name](size)
    warm_up = samples // 10
    latencies, ready = shared_array(warm_up + samples), shared_array(1)

    def observe() -> None:
        end = _end(transport, runtime, 1)
        ready[0] = 1
        _demand_none(loop.observe(end, size, latencies), name, runtime)

    partner = Partner(observe)
    end = _end(transport, runtime, 0)
    while not ready[0]:
        time.sleep(SETTLE_S)
    late = loop.pace(end, size, PERIOD_NS, len(latencies))
    partner.join()
    transport.close()
    kept = latencies[warm_up:]
    result = {
        "message_bytes": size,
        "period_us": PERIOD_NS / 1000,
        "messages": len(latencies),  # sent, warm-up included
        **_percentiles(kept),
        "mean_ns": float(kept.mean()),
        "late_sends": int(late),
        "verified": True,
    }
    return result, np.quantile(kept, QUANTILES)


def injector(connection: Connection, runtime: str, name: str, size: int) -> None:
    """A launched pair that sends a burst of as many messages as it is told, again and again; answers with the elapsed ns."""
    loop = _LOOPS[runtime]
    transport = TRANSPORTS[name](size)
    (order_source, order_sink), (answer_source, answer_sink) = os.pipe(), os.pipe()

    def absorb() -> None:
        end = _end(transport, runtime, 1)
        while order := os.read(order_source, _WORD.size):
            os.write(answer_sink, _WORD.pack(0))
            failures, finished = loop.absorb(end, size, _WORD.unpack(order)[0])
            _demand_none(failures, name, runtime)
            os.write(answer_sink, _WORD.pack(finished))

    Partner(absorb)
    end = _end(transport, runtime, 0)
    while True:
        volume = connection.recv()
        os.write(order_sink, _WORD.pack(volume))
        os.read(answer_source, _WORD.size)
        time.sleep(SETTLE_S)
        began = loop.inject(end, size, volume)
        finished = _WORD.unpack(os.read(answer_source, _WORD.size))[0]
        connection.send(("result", finished - began))


def injector_without_partner(connection: Connection, size: int) -> None:
    """The limit of `injector`: the slower half of its work, done by one process for itself."""
    pin(0)
    buffer = np.zeros(size // 8, np.int64)
    while True:
        failures, elapsed = loops.write_and_read(buffer.ctypes.data, size, connection.recv())
        _demand_none(failures, "limit", "compiled")
        connection.send(("result", elapsed))


def _end(transport: Transport, runtime: str, index: int) -> Any:
    return transport.compiled_end(index) if runtime == "compiled" else transport.interpreted_end(index)


def _demand_none(failures: int, name: str, runtime: str) -> None:
    if failures:
        raise TornMessage(f"{failures} messages through {name} in {runtime} arrived torn, lost or out of order")


def _percentiles(values: Times) -> dict[str, float]:
    points = {"p50_ns": 0.5, "p90_ns": 0.9, "p99_ns": 0.99, "p999_ns": 0.999, "max_ns": 1.0}
    return {name: float(np.quantile(values, quantile)) for name, quantile in points.items()}
