"""Round trips of Python calls: this process asks, its partner answers until the launch is over, and both are killed."""

import contextlib
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

import zcipc
from zcipc.lab.bench.scenario import Measured, WrongMessage
from zcipc.lab.harness.launch import Partner
from zcipc.lab.measurements.tasks import Floats

Ask = Callable[[Any], Any]

LARGE = 1 << 20  # bytes, of the larger message
CAPACITY = 4 * LARGE  # of connections that it goes through
_FEWER = 20  # times fewer rounds for those


def rounds(size: int, samples: int) -> int:
    """How many round trips a block has."""
    return samples if size < LARGE else max(samples // _FEWER, 1)


def blocks_of(ask: Callable[[], Any], count: int, blocks: int) -> Floats:
    """Ns that a call of `ask` takes, for each block of `count`, after one to warm up."""
    elapsed = np.zeros(blocks + 1)
    for block in range(blocks + 1):
        start = time.monotonic_ns()
        for _ in range(count):
            ask()
        elapsed[block] = (time.monotonic_ns() - start) / count
    return elapsed[1:]


def measured(
    size: int, answer: Callable[[], None], connect: Callable[[], Ask], message: Any, samples: int, blocks: int
) -> list[Measured]:
    """The median of blocks of round trips of `message`, while the partner runs `answer()`; `connect()` gives what asks it.

    Raises:
        WrongMessage: something else came back.
    """
    answered_by(answer)
    ask = connect()
    if not same(ask(message), message):
        raise WrongMessage(f"a message of {size:,} bytes came back as another one")
    elapsed = blocks_of(lambda: ask(message), rounds(size, samples), blocks)
    return [Measured(size, "round_trip", "ns", float(np.median(elapsed)))]


def answered_by(answer: Callable[[], object]) -> None:
    """The second process of the launch runs `answer()`, until nobody asks any more."""

    def until_nobody_asks() -> None:
        with contextlib.suppress(EOFError, ConnectionError):
            answer()

    Partner(until_nobody_asks)


def connection_echo(size: int, message: Any, samples: int, blocks: int) -> list[Measured]:
    """Of an object through a connection of zcipc."""
    ours, theirs = zcipc.Pipe(capacity=CAPACITY)
    return measured(size, lambda: echo_for_ever(theirs), lambda: partial(asked, ours), message, samples, blocks)


def echo_for_ever(connection: Any) -> None:
    """Send back what comes."""
    while True:
        connection.send(connection.recv())


def asked(connection: Any, message: Any) -> Any:
    """What comes back for `message`."""
    connection.send(message)
    return connection.recv()


def same(one: Any, other: Any) -> bool:
    """Whether two messages are equal, with arrays anywhere in them."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, Sequence) and not isinstance(one, str | bytes):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(np.array_equal(one, other))
