"""The limit: no queue at all. One message each way lies at a fixed place in shared memory behind a flag in its first line.

Whoever hands data from one core to another has to do at least this: write it, change a flag, see it changed, read the data.
The flag counts messages, so that only one side ever writes to its line. A second message waits until the first is answered
or acknowledged; the acknowledgement has a line that in a ping-pong nobody reads, so there it costs nothing.
"""

import mmap
from typing import NamedTuple

import numpy as np

from zcipc.algorithms.ring import LINE
from zcipc.lab.transports import base
from zcipc.memory.segment import mapping_address
from zcipc.native.atomics import WORD, load, load_acquire, pause, store, store_release

_PAGE = 4096


class LimitEnd(NamedTuple):
    """Addresses: the flag of the message to receive, the flag of the one to send, two private words that count both."""

    source: int
    sink: int
    counts: int


@base.implement(base.room, LimitEnd)
def _room(end, length):
    sent = load(end.counts)
    if sent > load(end.counts + WORD):  # not answered
        while load_acquire(end.sink - LINE) < sent:  # ACQUIRE pairs with the RELEASE in _release()
            pause()
    return end.sink + WORD


@base.implement(base.send, LimitEnd)
def _send(end, length):
    count = load(end.counts) + 1
    store(end.counts, count)
    store_release(end.sink, count)  # RELEASE pairs with the ACQUIRE in _receive()


@base.implement(base.receive, LimitEnd)
def _receive(end, length):
    count = load(end.counts + WORD) + 1
    store(end.counts + WORD, count)
    while load_acquire(end.source) != count:  # ACQUIRE pairs with the RELEASE in _send()
        pause()
    return end.source + WORD


@base.implement(base.release, LimitEnd)
def _release(end, length):
    store_release(end.source - LINE, load(end.counts + WORD))  # RELEASE pairs with the ACQUIRE in _room()


class Limit(base.Transport):
    """Two places in anonymous shared memory, each on pages of its own."""

    def __init__(self, length: int) -> None:
        super().__init__(length)
        self._size = -(-(LINE + WORD + length) // _PAGE) * _PAGE
        self._memory = mmap.mmap(-1, 2 * self._size)

    def compiled_end(self, index: int) -> LimitEnd:
        start = mapping_address(self._memory) + LINE
        self._counts = np.zeros(2, np.int64)
        return LimitEnd(start + index * self._size, start + (1 - index) * self._size, self._counts.ctypes.data)

    def interpreted_end(self, index: int) -> base.InterpretedEnd:
        raise TypeError("the limit is that of compiled code; it has no interpreted form")
