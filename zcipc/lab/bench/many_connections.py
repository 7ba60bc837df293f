"""A thousand open connections in one process: what a message on one of them costs beside the only one of a process.

Both processes hold all of them, and echo on always the same one, or on each in turn.

The limit exchanges the same messages through bare places in shared memory, as far apart as connections and each behind a flag,
without queue or connection: what memory alone costs when a thousand places are used in turn.
"""

import mmap
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numba import boolean, int64, void

import zcipc
from zcipc.lab.bench.scenario import LIMIT, Effort, Measured, Scenario, Series, demand_none, own
from zcipc.lab.harness.launch import Partner
from zcipc.lab.harness.payload import fill, is_whole
from zcipc.lab.measurements.tasks import Floats
from zcipc.memory.segment import mapping_address, populate_pages
from zcipc.native.atomics import WORD, load_acquire, pause, store_release
from zcipc.native.compiled import entry_point, jit

MANY = 1000
SIZE = 64  # bytes
_CAPACITY = 4096  # bytes in each direction: what is asked is what a connection costs, not what it holds
_PLACE_BYTES = 3 * _CAPACITY  # of shared memory that a connection takes
_ROUNDS = 20 * MANY  # in a block
_MESSAGES = [bytes([stamp]) * SIZE for stamp in range(200)]


def _echo(connections: int, used: int, blocks: int) -> list[Measured]:
    """Round trips with so many open connections, of which `used` are used in turn; what they take of memory."""
    before = _resident()
    pairs = [zcipc.Pipe(capacity=_CAPACITY, waiting=zcipc.Waiting.SPIN) for _ in range(connections)]
    turns = [pairs[number * connections // used] for number in range(used)]
    rounds = _ROUNDS // used

    def answer() -> None:
        for _, theirs in pairs:
            theirs.poll()  # takes the seat
        ends = [(theirs.send_bytes, theirs.recv_bytes) for _, theirs in turns]
        for _ in range((blocks + 1) * rounds):
            for send, receive in ends:
                send(receive())

    partner = Partner(answer)
    for ours, _ in pairs:
        ours.poll()
    ends = [(ours.send_bytes, ours.recv_bytes) for ours, _ in turns]
    elapsed, failures = np.zeros(blocks + 1), 0
    for block in range(blocks + 1):
        start = time.monotonic_ns()
        for number in range(rounds):
            message = _MESSAGES[number % len(_MESSAGES)]
            for send, receive in ends:
                send(message)
                failures += receive() != message
        elapsed[block] = time.monotonic_ns() - start
    memory = (_resident() - before) / connections
    partner.join()
    demand_none(failures, f"{connections} connections")
    return [
        Measured(SIZE, "round_trip", "ns", float(np.median(elapsed[1:])) / (rounds * used)),
        Measured(SIZE, "private_memory_each", "B", float(memory[0])),
        Measured(SIZE, "shared_memory_each", "B", float(memory[1])),
    ]


@jit
def _write(place, number):
    """Message `number`, and that it is there."""
    fill(place + WORD, SIZE, number)
    store_release(place, number)  # RELEASE pairs with the ACQUIRE in _read()


@jit
def _read(place, number):
    """Wait for message `number`; whether it is whole."""
    while load_acquire(place) != number:  # ACQUIRE pairs with the RELEASE in _write()
        pause()
    return is_whole(place + WORD, SIZE, number)


_write_now = entry_point(_write, void(int64, int64))
_read_now = entry_point(_read, boolean(int64, int64))


def _without_queue(used: int, blocks: int) -> list[Measured]:
    """The same round trips through `used` pairs of places."""
    memory = mmap.mmap(-1, used * _PLACE_BYTES)
    start = mapping_address(memory)
    populate_pages(start, len(memory))
    places = [(start + index * _PLACE_BYTES, start + index * _PLACE_BYTES + _CAPACITY) for index in range(used)]
    rounds = _ROUNDS // used

    def answer() -> None:
        failures = 0
        for number in range(1, (blocks + 1) * rounds + 1):
            for ours, theirs in places:
                failures += not _read_now(ours, number)
                _write_now(theirs, number)
        demand_none(failures, f"{used} places")

    partner = Partner(answer)
    elapsed, failures = np.zeros(blocks + 1), 0
    for block in range(blocks + 1):
        began = time.monotonic_ns()
        for number in range(block * rounds + 1, (block + 1) * rounds + 1):
            for ours, theirs in places:
                _write_now(ours, number)
                failures += not _read_now(theirs, number)
        elapsed[block] = time.monotonic_ns() - began
    partner.join()
    demand_none(failures, f"{used} places")
    return [Measured(SIZE, "round_trip", "ns", float(np.median(elapsed[1:])) / (rounds * used))]


def _resident() -> Floats:
    """Bytes of this process that are in memory: its own, and shared."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines())
    return np.array([1024.0 * int(fields[name].split()[0]) for name in ("RssAnon", "RssShmem")])


def _series(effort: Effort, _peers: bool) -> Sequence[Series]:
    return [
        own("zcipc", "python", "one_connection", _echo, 1, 1, effort.blocks),
        own("zcipc", "python", "same_of_many", _echo, MANY, 1, effort.blocks),
        own("zcipc", "python", "each_in_turn", _echo, MANY, MANY, effort.blocks),
        own(LIMIT, "python", "one_place", _without_queue, 1, effort.blocks),
        own(LIMIT, "python", "each_in_turn", _without_queue, MANY, effort.blocks),
    ]


SCENARIO = Scenario("many_connections", f"{MANY:,} open connections in one process", _series)
