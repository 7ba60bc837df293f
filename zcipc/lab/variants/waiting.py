"""How a receiver waits and what its waker pays, switched in the library itself; and a semaphore in place of both."""

import mmap
from typing import Any, NamedTuple

from numba import types

from zcipc import Waiting
from zcipc import operations as ops
from zcipc.algorithms.ring import CONSUMER_BELL, CONTROL, LINE, PRODUCER_BELL, header_of
from zcipc.algorithms.waiting import set_fenced
from zcipc.lab.transports import base
from zcipc.lab.transports.ring import Loaning
from zcipc.memory.segment import mapping_address
from zcipc.native.atomics import load, semaphore_wait
from zcipc.native.compiled import jit

_sem_init = types.ExternalFunction("sem_init", types.int32(types.int64, types.int32, types.uint32))
_sem_post = types.ExternalFunction("sem_post", types.int32(types.int64))
_BETWEEN_PROCESSES = 1
_PATIENCE_NS = 1_000_000_000  # a wait is repeated for ever; whoever started the launch ends one that hangs


@jit
def _run_fences(end):
    """From now on this end runs a fence itself before it looks whether the other one sleeps."""
    set_fenced(load(end + ops.PRODUCER + CONTROL) + CONSUMER_BELL)
    set_fenced(load(end + ops.CONSUMER + CONTROL) + PRODUCER_BELL)


class Fenced(Loaning):
    """The waker runs a fence at every message, as it has to where there is no membarrier."""

    def _end(self, index: int) -> int:
        end = super()._end(index)
        _run_fences(end)
        return end


class Spinning(Loaning):
    """Never sleeps."""

    waiting = Waiting.SPIN


class Sleeping(Loaning):
    """Sleeps on a futex at once."""

    waiting = Waiting.BLOCK


class SemaphoreEnd(NamedTuple):
    """A connection's end; addresses of the semaphores that count the messages to receive and those sent."""

    end: int
    arrived: int
    sent: int


@jit
def _initialise(semaphore):
    _sem_init(semaphore, _BETWEEN_PROCESSES, 0)


@base.implement(base.room, SemaphoreEnd)
def _room(end, length):
    return ops.claim(end.end, length, ops.FOREVER)


@base.implement(base.send, SemaphoreEnd)
def _send(end, length):
    ops.commit(end.end, length, 0)
    _sem_post(end.sent)  # orders as RELEASE; pairs with the wait in _receive()


@base.implement(base.receive, SemaphoreEnd)
def _receive(end, length):
    while not semaphore_wait(end.arrived, _PATIENCE_NS):  # orders as ACQUIRE; pairs with the post in _send()
        pass
    _, address = ops.borrow(end.end, ops.FOREVER)
    return address


@base.implement(base.release, SemaphoreEnd)
def _release(end, length):
    ops.skip(end.end, header_of(length, 0))


class Semaphores(Loaning):
    """The receiver waits for a POSIX semaphore that the sender posts at every message."""

    def __init__(self, length: int) -> None:
        super().__init__(length)
        self._memory = mmap.mmap(-1, 2 * LINE)
        for index in range(2):
            _initialise(self._semaphore(index))

    def _semaphore(self, index: int) -> int:
        return mapping_address(self._memory) + index * LINE

    def compiled_end(self, index: int) -> Any:
        return SemaphoreEnd(self._end(index), self._semaphore(index), self._semaphore(1 - index))
