"""What happens inside a launch: two processes echo and stream through one peer, checked, and as little else as possible.

The first and the last byte of a message are its stamp, which changes with every message. The echo sends back the very message
that it received, so an answer with the right stamp was right both ways; a stream is checked by its receiver, message by
message. In blocks of round trips the check is inside the time, some tens of ns for every peer alike; single round trips are
timed without it.

Memory that a process frees stays with it. As the C library comes, the room for a copy of a large message is at times taken from
the kernel page by page and given back again, depending on what else lies in the heap; that would be measured, and not the peer.
"""

import ctypes
import os
import struct
import time
import traceback
from collections.abc import Iterable
from itertools import cycle, islice
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from zcipc.lab.errors import LabError
from zcipc.lab.harness.launch import Partner, shared_array, unpin
from zcipc.lab.peers import COPY, PEERS, CopyingEnd, LoaningEnd, Peer

STAMPS = 256
HOT_BYTES = 256 << 10  # the messages that are sent in turn fit into a core's own cache, if they are small at all
FEWEST_MESSAGES = 4
CALIBRATION_NS = 2_000_000
FEWEST_ROUNDS = 3
FOR_P99, FOR_P999 = 100, 1000  # samples below which a percentile would be the maximum under another name
STREAM_BYTES = 128 << 20  # in a burst, at most
SETTLE_S = 0.0005
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # parameters of mallopt(3)
_KEPT_BYTES, _MOST_FROM_HEAP = 1 << 30, 32 << 20

_WORD = struct.Struct("q")
_now = time.monotonic_ns

Row = dict[str, Any]


class Garbled(LabError):
    """A message arrived that was not sent, or not in its turn."""


class _Copied:
    """Loops over a `CopyingEnd`."""

    def __init__(self, peer: Peer, index: int) -> None:
        self.end: CopyingEnd = peer.open(index)
        self.length = peer.length
        count = min(max(HOT_BYTES // peer.length, FEWEST_MESSAGES), STAMPS)
        self.messages: list[tuple[int, bytes]] = [(stamp, bytes([stamp]) * peer.length) for stamp in range(count)]
        self.turns = cycle(self.messages)

    def ping(self, rounds: int) -> tuple[int, int]:
        """Failures, and the ns that `rounds` round trips took."""
        send, receive = self.end
        failures = 0
        start = _now()
        for stamp, message in islice(self.turns, rounds):
            send(message)
            answer = receive()
            if not answer[0] == stamp == answer[-1]:
                failures += 1
        return failures, _now() - start

    def ping_each(self, samples: Any) -> int:
        """Failures; the ns of each round trip go into `samples`."""
        send, receive = self.end
        failures = 0
        for index, (stamp, message) in enumerate(islice(self.turns, len(samples))):
            start = _now()
            send(message)
            answer = receive()
            samples[index] = _now() - start
            failures += not (answer[0] == stamp == answer[-1] and len(answer) == self.length)
        return failures

    def pong(self, rounds: int) -> None:
        send, receive = self.end
        for _ in range(rounds):
            send(receive())

    def inject(self, volume: int) -> int:
        """When the first of `volume` messages was about to be sent."""
        send, _ = self.end
        start = _now()
        for _, message in islice(cycle(self.messages), volume):
            while send(message) is False:
                pass
        return start

    def absorb(self, volume: int) -> tuple[int, int]:
        """Failures, and when the last message was there."""
        _, receive = self.end
        failures = 0
        for stamp, _ in islice(cycle(self.messages), volume):
            message = receive()
            if not message[0] == stamp == message[-1]:
                failures += 1
        return failures, _now()


class _Loaned:
    """The same loops over a `LoaningEnd`."""

    def __init__(self, peer: Peer, index: int) -> None:
        self.end: LoaningEnd = peer.open_loaned(index)
        self.turns = cycle(range(STAMPS))

    def ping(self, rounds: int) -> tuple[int, int]:
        send, receive = self.end
        failures = 0
        start = _now()
        for stamp in islice(self.turns, rounds):
            send(stamp)
            if receive() != stamp:
                failures += 1
        return failures, _now() - start

    def ping_each(self, samples: Any) -> int:
        send, receive = self.end
        failures = 0
        for index, stamp in enumerate(islice(self.turns, len(samples))):
            start = _now()
            send(stamp)
            answer = receive()
            samples[index] = _now() - start
            failures += answer != stamp
        return failures

    def pong(self, rounds: int) -> None:
        send, receive = self.end
        for _ in range(rounds):
            send(receive())

    def inject(self, volume: int) -> int:
        send, _ = self.end
        start = _now()
        for stamp in islice(cycle(range(STAMPS)), volume):
            while send(stamp) is False:
                pass
        return start

    def absorb(self, volume: int) -> tuple[int, int]:
        _, receive = self.end
        failures = 0
        for stamp in islice(cycle(range(STAMPS)), volume):
            if receive() != stamp:
                failures += 1
        return failures, _now()


_Loops = _Copied | _Loaned


class _Wire:
    """Words between the two processes beside the peer: how much is to be done, when it was done."""

    def __init__(self) -> None:
        self._source, self._sink = os.pipe()

    def send(self, *words: int) -> None:
        os.write(self._sink, b"".join(map(_WORD.pack, words)))

    def receive(self) -> int:
        return int(_WORD.unpack(os.read(self._source, _WORD.size))[0])


def exchange(
    connection: Connection, system: str, mode: str, face: str, size: int, blocks: int, block_ns: int, samples: int, bursts: int
) -> None:
    """A launch: `blocks` blocks of round trips that take about `block_ns`, `samples` single ones, `bursts` one way.

    Fewer samples are taken where as many would take longer than all blocks together. Answers with one row.
    """
    _keep_memory()
    peer = PEERS[system](size, mode)
    ready = shared_array(2)
    orders, answers = _Wire(), _Wire()

    def work(index: int) -> _Loops:
        if not peer.pinned:
            unpin()
        loops = _Copied(peer, index) if face == COPY else _Loaned(peer, index)
        ready[index] = 1
        while not ready.all():
            time.sleep(SETTLE_S)
        return loops

    def partner() -> None:
        try:
            loops = work(1)
            for rounds in _received(orders):
                loops.pong(rounds)
            for volume in _received(orders):
                failures, finished = loops.absorb(volume)
                answers.send(failures, finished)
            del loops  # and the last hold on what the library gives back when it is no longer used
            peer.close()
        except Exception:
            connection.send(("error", traceback.format_exc()))

    other = Partner(partner)
    loops = work(0)
    failures, once = _ping(loops, orders, FEWEST_ROUNDS)
    rounds = _clamp(CALIBRATION_NS * FEWEST_ROUNDS // max(once, 1), FEWEST_ROUNDS, 10_000)
    failed, warm_up = _ping(loops, orders, rounds)
    failures += failed
    round_trip = max(warm_up // rounds, 1)
    rounds = max(block_ns // round_trip, 1)
    elapsed = []
    for _ in range(blocks):
        failed, took = _ping(loops, orders, rounds)
        failures += failed
        elapsed.append(took / rounds)
    round_trip = max(int(np.median(elapsed)), 1)
    single = np.zeros(_clamp(blocks * block_ns // round_trip, FEWEST_ROUNDS, samples), np.int64)
    orders.send(len(single))
    failures += loops.ping_each(single)
    orders.send(0)
    volume = _clamp(4 * block_ns // round_trip, FEWEST_MESSAGES, STREAM_BYTES // size)
    volume = min(volume, peer.burst or volume)
    rates = []
    for _ in range(bursts):
        orders.send(volume)
        time.sleep(SETTLE_S)  # the receiver is then waiting
        start = loops.inject(volume)
        failures += answers.receive()
        rates.append(volume / (answers.receive() - start) * 1e9)
    orders.send(0)
    other.join()
    del loops
    peer.close()
    if failures:
        raise Garbled(f"{failures} messages of {size:,} bytes through {system} arrived garbled, lost or out of order")
    row = {
        "rounds": rounds * blocks,
        "round_trip_ns": float(np.median(elapsed)),
        "round_trip_min_ns": min(elapsed),
        "samples": len(single),
        "p50_ns": float(np.median(single)),
        "p99_ns": _percentile(single, 0.99, FOR_P99),
        "p999_ns": _percentile(single, 0.999, FOR_P999),
        "volume_messages": volume,
        "messages_per_s": float(np.median(rates)),
        "bytes_per_s": float(np.median(rates)) * size,
        "verified": True,
    }
    connection.send(("result", row))


def _keep_memory() -> None:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc's
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
        mallopt(_M_MMAP_THRESHOLD, _MOST_FROM_HEAP)


def _received(orders: _Wire) -> Iterable[int]:
    return iter(orders.receive, 0)


def _ping(loops: _Loops, orders: _Wire, rounds: int) -> tuple[int, int]:
    orders.send(rounds)
    return loops.ping(rounds)


def _clamp(value: int, low: int, high: int) -> int:
    return min(max(value, low), max(high, low))


def _percentile(values: Any, quantile: float, enough: int) -> float:
    return float(np.quantile(values, quantile)) if len(values) >= enough else float("nan")
