"""Inside a launch: what comes closest, on this machine, to the headline numbers of the related work."""

import pickle
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from zcipc import codec
from zcipc.lab.harness.launch import Partner, pin, shared_array
from zcipc.lab.measurements import loops, tasks
from zcipc.lab.torture.processes import Victim
from zcipc.lab.torture.stepping import be_traced, system_calls
from zcipc.lab.transports import TRANSPORTS, receive, release, room, send
from zcipc.native.atomics import WORD, load, store
from zcipc.native.compiled import jit

ROUND_TRIP_BYTES = 64
STREAM_BYTES = 1 << 16  # a message of a stream; what a pipe holds at once
OBJECT_BYTES = 1 << 20
TRAFFIC_BYTES = 1 << 18
NEIGHBOUR_BYTES = 64 << 20  # what the neighbour reads again and again: more than caches hold
_PASSES = 12  # of the neighbour, the first to warm up
_BLOCKS = 5

Values = dict[str, float]


def round_trip(one_core: bool) -> Values:
    """ns of a round trip, written, read and checked, by transport."""
    names = ("pipe", "zcipc_block" if one_core else "zcipc")
    return {
        name: tasks.round_trips("compiled", TRANSPORTS[name](ROUND_TRIP_BYTES), _BLOCKS, 10, one_core)[0]["round_trip_ns"]
        for name in names
    }


def one_core_rate(messages: int) -> Values:
    """bit/s that one core moves from a process that writes them to one that reads them, by transport."""
    return {name: _one_core_rate(name, messages) for name in ("pipe", "socketpair", "zcipc_block")}


def _one_core_rate(name: str, messages: int) -> float:
    transport, finished = TRANSPORTS[name](STREAM_BYTES), shared_array(1)

    def absorb() -> None:
        pin(0)
        failures, finished[0] = loops.absorb(transport.compiled_end(1), STREAM_BYTES, messages)
        if failures:
            raise tasks.TornMessage(f"{failures} messages through {name} arrived torn, lost or out of order")

    partner = Partner(absorb)
    began = loops.inject(transport.compiled_end(0), STREAM_BYTES, messages)
    partner.join()
    transport.close()
    return messages * STREAM_BYTES * 8 * 1e9 / int(finished[0] - began)


def serialization(rounds: int) -> Values:
    """bit/s of an object with an array in it, to a buffer and back to an object of its own: zcipc, and pickle as usual."""
    pin(0)
    thing = {"frame": 7, "pixels": np.arange(OBJECT_BYTES // 8)}
    memory = memoryview(bytearray(2 * OBJECT_BYTES))

    def by_zcipc() -> Any:
        buffers: list[pickle.PickleBuffer] = []
        frame = codec.encode_pickle(pickle.dumps(thing, protocol=5, buffer_callback=buffers.append), buffers)
        frame.write(memory[: frame.size])
        return codec.decode(frame.tag, memory[: frame.size])

    def by_pickle() -> Any:
        data = pickle.dumps(thing)
        memory[: len(data)] = data
        return pickle.loads(bytes(memory[: len(data)]))

    return {"zcipc": _rate(by_zcipc, rounds), "pickle": _rate(by_pickle, rounds)}


def _rate(there_and_back: Callable[[], Any], rounds: int) -> float:
    there_and_back()
    times = []
    for _ in range(rounds):
        start = time.perf_counter_ns()
        there_and_back()
        times.append(time.perf_counter_ns() - start)
    return OBJECT_BYTES * 8 * 1e9 / float(np.median(times))


def neighbour() -> Values:
    """How many times longer a neighbour takes to read memory beside traffic on another core, by what makes the traffic.

    The traffic is as many messages of `TRAFFIC_BYTES` as one core gets through, both ends on it: through a pipe, copied
    through zcipc, lent and written and read in full, or lent with only the first and the last word touched.
    """
    memory = np.ones(NEIGHBOUR_BYTES // 8, np.int64)
    pin(1)
    alone = _pass_ns(memory)
    slowdowns = {}
    for name in _TRAFFIC:
        with _traffic(name):
            slowdowns[name] = _pass_ns(memory) / alone
    return slowdowns


def _pass_ns(memory: "np.ndarray[Any, Any]") -> float:
    """Median time of reading all of it."""
    times = []
    for _ in range(_PASSES):
        start = time.perf_counter_ns()
        memory.sum()
        times.append(time.perf_counter_ns() - start)
    return float(np.median(times[1:]))


@contextmanager
def _traffic(name: str) -> Iterator[None]:
    """Two processes on core 0 that exchange messages while the block runs."""
    transport, sender, receiver = _TRAFFIC[name]
    ends = TRANSPORTS[transport](TRAFFIC_BYTES)

    def work(loop: Any, index: int) -> None:
        pin(0)
        loop(ends.compiled_end(index), TRAFFIC_BYTES)

    with Victim(lambda: work(sender, 0)), Victim(lambda: work(receiver, 1)):
        time.sleep(tasks.SETTLE_S)
        yield
    ends.close()


@jit
def _post_for_ever(end, length):
    while True:
        loops.post(end, length, 1)


@jit
def _take_for_ever(end, length):
    while True:
        loops.take(end, length, 1)


@jit
def _touch_for_ever(end, length):
    while True:
        address = room(end, length)
        store(address, 1)
        store(address + length - WORD, 1)
        send(end, length)


@jit
def _look_for_ever(end, length):
    seen = 0
    while seen >= 0:
        address = receive(end, length)
        seen += load(address) & load(address + length - WORD) & 1
        release(end, length)


_TRAFFIC: dict[str, tuple[str, Any, Any]] = {
    "pipe": ("pipe", _post_for_ever, _take_for_ever),
    "zcipc_block": ("zcipc_block", _post_for_ever, _take_for_ever),
    "zcipc_loan": ("zcipc_loan", _post_for_ever, _take_for_ever),
    "zcipc_touch": ("zcipc_loan", _touch_for_ever, _look_for_ever),
}


def calls_per_message(messages: int, names: Sequence[str] = ("pipe", "socketpair", "paper", "zcipc_block", "zcipc")) -> Values:
    """System calls of the sender for a message of a stream, counted by the kernel's own tracing, by transport."""
    return {name: _calls_per_message(name, messages) for name in names}


def _calls_per_message(name: str, messages: int) -> float:
    once, twice = (_system_calls(name, count) for count in (messages, 2 * messages))
    return (twice - once) / messages  # what starting and ending take is in both


def _system_calls(name: str, messages: int) -> int:
    transport = TRANSPORTS[name](ROUND_TRIP_BYTES)

    def stream_out() -> None:
        end = transport.compiled_end(0)
        loops.inject(end, ROUND_TRIP_BYTES, 1)
        be_traced()
        loops.inject(end, ROUND_TRIP_BYTES, messages)

    def take_in() -> None:
        pin(1)
        end = transport.compiled_end(1)
        loops.absorb(end, ROUND_TRIP_BYTES, 1)
        loops.absorb(end, ROUND_TRIP_BYTES, messages)

    with Victim(take_in), Victim(stream_out) as sender:
        pin(0)
        calls = system_calls(sender)
    transport.close()
    return calls
