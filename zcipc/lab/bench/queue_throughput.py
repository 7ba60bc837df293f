"""Items through a queue with several producers and consumers, from plain Python, beside what drops in there."""

import multiprocessing
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import zcipc
from zcipc.lab.bench.scenario import Effort, Measured, Scenario, Series, demand_none, own
from zcipc.lab.launch import Partner, shared_array, unpin

SIZE = 64  # bytes
BATCH = 100  # items put and got at once
ONE, FOUR = "1_to_1", "4_to_4"
MANY = "1_to_1_many"
_CAPACITY = 1 << 20  # bytes
_SHARE = 8  # of the messages of a stream in compiled code, one in so many
_ITEM = bytes(SIZE)
_PEER = "faster_fifo"  # which may be missing


def _faster_fifo() -> Any:
    from faster_fifo import Queue

    return Queue(_CAPACITY)


_QUEUES: dict[str, Callable[[], Any]] = {
    "zcipc": lambda: zcipc.Queue(capacity=_CAPACITY),
    _PEER: _faster_fifo,
    "multiprocessing": multiprocessing.Queue,
    "multiprocessing_simple": multiprocessing.SimpleQueue,
}


def _throughput(system: str, sides: int, batch: int, volume: int, blocks: int) -> list[Measured]:
    """Items a second from the first put until the last get; as many producers as consumers, which the scheduler places."""
    each = volume // (sides * batch) * batch
    rates = sorted(_rate(_QUEUES[system](), sides, batch, each) for _ in range(blocks))
    return [Measured(SIZE, "messages_per_s", "1/s", rates[len(rates) // 2])]


def _rate(queue: Any, sides: int, batch: int, each: int) -> float:
    ready, start, got, finished = (shared_array(count) for count in (2 * sides, 1, sides, sides))

    def wait(index: int) -> None:
        unpin()
        ready[index] = 1
        while not start[0]:
            time.sleep(0)

    def produce(index: int) -> None:
        wait(index)
        if batch == 1:
            for _ in range(each):
                queue.put(_ITEM)
        else:
            for _ in range(each // batch):
                queue.put_many([_ITEM] * batch)
        if hasattr(queue, "join_thread"):
            queue.close()
            queue.join_thread()

    def consume(index: int) -> None:
        wait(sides + index)
        count, whole = 0, True  # until there is something else: None is the last
        if batch == 1:
            while queue.get() == _ITEM:
                count += 1
        else:
            while whole:
                items = queue.get_many(max_messages_to_get=batch)
                count += (right := items.count(_ITEM))
                whole = right == len(items)
        got[index], finished[index] = count, time.monotonic_ns()

    producers = [Partner(lambda index=index: produce(index)) for index in range(sides)]  # type: ignore[misc]
    consumers = [Partner(lambda index=index: consume(index)) for index in range(sides)]  # type: ignore[misc]
    unpin()
    while not ready.all():
        time.sleep(0.001)
    start[0] = began = time.monotonic_ns()
    for partner in producers:
        partner.join()
    for _ in consumers:
        queue.put(None)
    for partner in consumers:
        partner.join()
    demand_none(abs(sides * each - int(got.sum())), "a queue")
    return sides * each / (int(finished.max()) - began) * 1e9


def _series(effort: Effort, with_peers: bool) -> Sequence[Series]:
    volume = effort.stream_messages // _SHARE
    return [
        replace(own(system, "python", mode, _throughput, system, sides, batch, volume, effort.blocks), optional=system == _PEER)
        for mode, sides, batch in ((ONE, 1, 1), (FOUR, 4, 1), (MANY, 1, BATCH))
        for system in _QUEUES
        if (system != _PEER or with_peers) and (batch == 1 or not system.startswith("multiprocessing"))
    ]


SCENARIO = Scenario(
    "queue", f"items of {SIZE} B through a queue, one and four producers and consumers, and many at once", _series
)
