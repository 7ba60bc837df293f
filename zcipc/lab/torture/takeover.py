"""Killed anywhere at a queue of many: put and get, with a death at every instant of them, after which another one goes on.

As in `sweep`, but who is left gets no error: it takes over the lock of the dead, finds what was put, and puts more.
"""

import ctypes
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from queue import Empty, Full
from random import Random

from zcipc import Queue
from zcipc.algorithms.shared_queue import entries, get, put
from zcipc.lab.torture.messages import Ledger, sealed
from zcipc.lab.torture.processes import NOTICE_S, PATIENCE_S, Victim, nothing_left
from zcipc.lab.torture.stepping import Stepper, address_of, be_traced
from zcipc.lab.torture.tally import Tally

_CAPACITY = 4096  # bytes
_ORDINARY, _LONG = 200, 1500  # bytes; of the long ones two fit, and a third does not before the end of the lap
_LAST = b"the last item"


@dataclass(frozen=True)
class Operation:
    """One call of the victim, and the compiled function in it that is stepped through.

    Attributes:
        act: what the victim calls.
        address: of the function.
        held: lengths of the items in the queue before, numbered from 0.
        puts, gets: how many items it puts, numbered on, or gets.
        passed: long items that went through before.
    """

    name: str
    act: Callable[[Queue], object]
    address: Callable[[], int]
    held: tuple[int, ...] = (_ORDINARY,)
    puts: int = 0
    gets: int = 0
    passed: int = 0


def _put() -> int:
    return put.address


def _put_many() -> int:
    return address_of(entries.put)


def _get() -> int:
    return get.address


def _get_many() -> int:
    return address_of(entries.get)


OPERATIONS = (
    Operation("put", lambda items: items.put(sealed(1, _ORDINARY)), _put, puts=1),
    Operation("put many", lambda items: items.put_many([sealed(number, _ORDINARY) for number in (1, 2, 3)]), _put_many, puts=3),
    Operation("put past a gap", lambda items: items.put(sealed(1, _LONG)), _put, puts=1, passed=2),
    Operation("get", lambda items: items.get(), _get, held=(_ORDINARY,) * 2, gets=1),
    Operation("get many", lambda items: items.get_many(), _get_many, held=(_ORDINARY,) * 3, gets=3),
    Operation("get past a gap", lambda items: items.get(), _get, held=(_LONG, _ORDINARY), gets=1, passed=2),
)


def takeovers(random: Random) -> Tally:
    """One round: an operation chosen at random, with a death at each instant of it."""
    return killed_throughout(random.choice(OPERATIONS))


def killed_throughout(operation: Operation) -> Tally:
    """A death at each instant of `operation`: before it, after each change of shared memory, and after it."""
    tally = Tally()
    with _stage(operation) as (_, _, instants):
        count = sum(1 for _ in instants)
    done = [_killed_at(operation, instant, tally) for instant in range(count)]
    wanted = operation.puts + operation.gets
    if done != sorted(done) or (done[0], done[-1]) != (0, wanted):
        tally.fault("lost", f"done were {done} of {wanted} items at the instants of {operation.name!r}")
    return tally


def _killed_at(operation: Operation, instant: int, tally: Tally) -> int:
    """Let a victim die at an instant; how many items it had put, or got, as the survivor sees it."""
    step = f"killed at instant {instant} of {operation.name!r} at a queue"
    with nothing_left(tally, step):
        left = _left_after(operation, instant, tally, step)
    done = (len(left) - len(operation.held)) * (1 if operation.puts else -1)
    ledger = Ledger(first=0 if operation.puts else done)
    for item in left:
        ledger.note(item)
    ledger.settle(len(operation.held), tally, step)
    return done


def _left_after(operation: Operation, instant: int, tally: Tally, step: str) -> list[bytes]:
    with _stage(operation) as (items, victim, instants):
        next(islice(instants, instant, None))
        victim.kill()
        tally.kills += 1
        return _go_on(items, tally, step)


@contextmanager
def _stage(operation: Operation) -> Iterator[tuple[Queue, Victim, Iterator[None]]]:
    """A queue, a victim that stands before the first instruction of the operation, and the instants of it."""
    items = Queue(capacity=_CAPACITY)
    for _ in range(operation.passed):
        items.put(bytes(_LONG))
        items.get()
    for number, length in enumerate(operation.held):
        items.put(sealed(number, length))

    def suffer() -> None:
        items._open()
        be_traced()
        operation.act(items)

    with Victim(suffer) as victim:
        stepper = Stepper(victim, operation.address())
        yield items, victim, stepper.instants(lambda: ctypes.string_at(items._memory.address, items._memory.size))


def _go_on(items: Queue, tally: Tally, step: str) -> list[bytes]:
    """Put one more item, and get all; those before it."""
    start = time.monotonic()
    left: list[bytes] = []
    try:
        items.put(_LAST, timeout=PATIENCE_S)
        while _LAST not in left:
            left += items.get_many(timeout=PATIENCE_S)
    except (Full, Empty):
        tally.fault("hangs", step)
    took = time.monotonic() - start
    tally.fault("hangs", f"went on after {took:.3f} s, {step}", int(took > 2 * NOTICE_S))  # there are two locks
    return [item for item in left if item != _LAST]
