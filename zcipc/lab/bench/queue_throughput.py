"""Items through a queue with one to eight producers and consumers, from plain Python, beside what drops in there.

Not beside ZeroMQ's PUSH and PULL: these give an item to a consumer when it is sent, whether that consumer is free or not.
"""

import multiprocessing
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import zcipc
from zcipc.lab.bench.scenario import Effort, Measured, Scenario, Series, demand_none, own
from zcipc.lab.harness.launch import Partner, shared_array, unpin

SIZE = 64  # bytes
BATCH = 100  # items put and got at once
ONE, MANY, OBJECTS = "1_to_1", "1_to_1_many", "1_to_1_objects"
SIDES = (1, 2, 4, 8)  # producers, and as many consumers
_CAPACITY = 1 << 20  # bytes
_SHARE, _SLOW_SHARE = 4, 64  # of the messages of a stream in compiled code, one in so many: they take as long
_BYTES = bytes(SIZE)
_OBJECT = {"id": 1, "name": "string", "xy": (1.0, 2.0)}  # as long, pickled
_PEER = "faster_fifo"  # which may be missing
_context = multiprocessing.get_context("fork")  # what is made here is inherited by producers and consumers


def _faster_fifo() -> Any:
    from faster_fifo import Queue

    return Queue(_CAPACITY)


_QUEUES: dict[str, Callable[[], Any]] = {
    "zcipc": lambda: zcipc.Queue(capacity=_CAPACITY),
    _PEER: _faster_fifo,
    "multiprocessing": _context.Queue,
    "multiprocessing_simple": _context.SimpleQueue,
}


def _throughput(system: str, item: Any, sides: int, batch: int, volume: int, blocks: int) -> list[Measured]:
    """Items a second from the first put until the last get; as many producers as consumers, which the scheduler places."""
    each = volume // (sides * batch) * batch
    rates = sorted(_rate(_QUEUES[system](), item, sides, batch, each) for _ in range(blocks))
    return [Measured(SIZE, "messages_per_s", "1/s", rates[len(rates) // 2])]


def _rate(queue: Any, item: Any, sides: int, batch: int, each: int) -> float:
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
                queue.put(item)
        else:
            for _ in range(each // batch):
                queue.put_many([item] * batch)
        if hasattr(queue, "join_thread"):
            queue.close()
            queue.join_thread()

    def consume(index: int) -> None:
        wait(sides + index)
        count, whole = 0, True  # until there is something else: None is the last
        if batch == 1:
            while queue.get() == item:
                count += 1
        else:
            while whole:
                items = queue.get_many(max_messages_to_get=batch)
                count += (right := items.count(item))
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
    def one(system: str, mode: str, item: Any, sides: int, batch: int) -> Series:
        volume = effort.stream_messages // (_SHARE if system == "zcipc" else _SLOW_SHARE)
        blocks = effort.blocks if sides == 1 else 1
        made = own(system, "python", mode, _throughput, system, item, sides, batch, volume, blocks)
        return replace(made, optional=system == _PEER)

    modes: list[tuple[str, Any, int, int]] = [(f"{sides}_to_{sides}", _BYTES, sides, 1) for sides in SIDES]
    modes += [(OBJECTS, _OBJECT, 1, 1), (MANY, _BYTES, 1, BATCH)]
    return [
        one(system, *mode)
        for mode in modes
        for system in _QUEUES
        if (system != _PEER or with_peers) and (mode[0] != MANY or not system.startswith("multiprocessing"))
    ]


SCENARIO = Scenario(
    "queue",
    f"items of {SIZE} B through a queue with one to eight producers and consumers, objects, and many items at once",
    _series,
)
