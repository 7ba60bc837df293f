"""One-way streams: a process that produces in blocks, one that consumes, and how long each block took."""

from collections.abc import Callable

import numpy as np

from zcipc import Connection
from zcipc.lab.bench.scenario import demand_none
from zcipc.lab.harness.launch import Partner, shared_array
from zcipc.lab.measurements.tasks import Floats

Produce = Callable[[int], int]  # send so many messages; when the first began, ns
Consume = Callable[[int], tuple[int, int]]  # receive so many; failures, and when the last was read, ns


def durations(
    what: str, open_producer: Callable[[], Produce], open_consumer: Callable[[], Consume], volume: int, blocks: int
) -> Floats:
    """Ns from the first message until the last has been read, for each block of `volume` messages, after one to warm up.

    Both sides start each block together, also where nothing else makes the consumer wait for the producer.
    """
    ready, started, failures, finished = (shared_array(count) for count in (1, 1, blocks + 1, blocks + 1))

    def absorb() -> None:
        consume = open_consumer()
        for block in range(blocks + 1):
            ready[0] = block + 1
            while started[0] <= block:
                pass
            failures[block], finished[block] = consume(volume)

    partner = Partner(absorb)
    produce = open_producer()
    began = np.zeros(blocks + 1, np.int64)
    for block in range(blocks + 1):
        while ready[0] <= block:
            pass
        started[0] = block + 1
        began[block] = produce(volume)
    partner.join()
    demand_none(int(failures.sum()), what)
    return (finished - began)[1:].astype(float)


def opened(connection: Connection) -> int:
    """The end of a connection for compiled code, its seat taken by this process."""
    connection.poll()
    return connection.end
