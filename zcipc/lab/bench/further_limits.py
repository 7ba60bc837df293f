"""What stops a queue before the limit does: memory that is new at every message, and the kernel's own wake-up.

Both are the limit of `transports/limit.py`, no queue and one message at a time, made a little more like one.
"""

from typing import Any, NamedTuple

import numpy as np

from zcipc.algorithms.ring import LINE, padded
from zcipc.ends.end import DEFAULT_CAPACITY
from zcipc.lab.transports import base
from zcipc.lab.transports.limit import Limit
from zcipc.memory.segment import mapping_address, populate_pages
from zcipc.native.atomics import WORD, futex_wait, futex_wake, load, load_acquire, pause, store, store_release

_PATIENCE_NS = 1_000_000_000  # a wait is repeated for ever; whoever started the launch ends one that hangs


class WalkingEnd(NamedTuple):
    """First places to receive from and to send to; private words that count both; bytes in a place; places less one."""

    source: int
    sink: int
    counts: int
    stride: int
    mask: int


@base.implement(base.room, WalkingEnd)
def _room(end, length):
    return end.sink + (load(end.counts) & end.mask) * end.stride + WORD


@base.implement(base.send, WalkingEnd)
def _send(end, length):
    count = load(end.counts)
    store(end.counts, count + 1)
    flag = end.sink + (count & end.mask) * end.stride
    store_release(flag, count + 1)  # RELEASE pairs with the ACQUIRE in _receive()


@base.implement(base.receive, WalkingEnd)
def _receive(end, length):
    count = load(end.counts + WORD)
    store(end.counts + WORD, count + 1)
    flag = end.source + (count & end.mask) * end.stride
    while load_acquire(flag) != count + 1:  # ACQUIRE pairs with the RELEASE in _send()
        pause()
    return flag + WORD


@base.implement(base.release, WalkingEnd)
def _release(end, length):
    pass


class WalkingLimit(Limit):
    """The limit, but each message has a place of its own, one behind the other over as much memory as a connection has.

    For round trips only: nobody looks whether a place is free again.
    """

    def __init__(self, length: int) -> None:
        self._stride = WORD + padded.py_func(length)
        self._places = 1 << ((DEFAULT_CAPACITY // self._stride).bit_length() - 1)
        super().__init__(self._stride * self._places)
        self.length = length

    def compiled_end(self, index: int) -> Any:
        start = mapping_address(self._memory) + LINE
        populate_pages(mapping_address(self._memory), len(self._memory))
        self._counts = np.zeros(2, np.int64)
        places = start + index * self._size, start + (1 - index) * self._size
        return WalkingEnd(*places, self._counts.ctypes.data, self._stride, self._places - 1)


class SleepingEnd(NamedTuple):
    """Addresses: the flag of the message to receive, the flag of the one to send, two private words that count both."""

    source: int
    sink: int
    counts: int


@base.implement(base.room, SleepingEnd)
def _sleeping_room(end, length):
    return end.sink + WORD


@base.implement(base.send, SleepingEnd)
def _sleeping_send(end, length):
    count = load(end.counts) + 1
    store(end.counts, count)
    store_release(end.sink, count)  # RELEASE pairs with the ACQUIRE in _sleeping_receive()
    futex_wake(end.sink)


@base.implement(base.receive, SleepingEnd)
def _sleeping_receive(end, length):
    count = load(end.counts + WORD) + 1
    store(end.counts + WORD, count)
    while load_acquire(end.source) != count:  # ACQUIRE pairs with the RELEASE in _sleeping_send()
        futex_wait(end.source, count - 1, _PATIENCE_NS)
    return end.source + WORD


@base.implement(base.release, SleepingEnd)
def _sleeping_release(end, length):
    pass


class SleepingLimit(Limit):
    """The limit, but the receiver sleeps on the flag, and the sender wakes it at every message. For round trips only."""

    def compiled_end(self, index: int) -> Any:
        return SleepingEnd(*super().compiled_end(index))
