"""The textbook queue that the ring is compared with: one producer, one consumer, bare 8-byte items, two indices.

Lamport's queue with the three improvements that everybody makes: the indices lie on lines of their own, each side keeps a copy
of the other's index and reads it anew only when the queue looks full or empty, and positions count for ever, so that the
slot is a mask away. Items have no header: there is nothing to wake, no length, no peer to watch. Both loops keep their own
position and the copy in registers, which a queue behind function calls could not. For the comparison only.

With items of two words each has its length before it, as messages of any size must: the same queue, with as many bytes to carry
from core to core for a message as a record of 8 bytes has.
"""

import mmap
from typing import NamedTuple

from zcipc.algorithms.ring import LINE
from zcipc.memory.segment import mapping_address
from zcipc.native.atomics import WORD, clock, load, load_acquire, pause, store, store_release
from zcipc.native.compiled import jit

_TAIL = 0 * LINE  # written by the producer: all before it is there
_HEAD = 1 * LINE  # written by the consumer: all before it is free
_ITEMS = 2 * LINE


class TwoIndexEnd(NamedTuple):
    """Address of the queue, number of its slots less one, their size, pauses between two looks at the other side's index."""

    queue: int
    mask: int
    slot_bytes: int
    pauses: int


@jit
def produce(end, volume):
    """Push the items 0, 1, ... one by one; the time of the first."""
    start = clock()
    position, head = load(end.queue + _TAIL), load(end.queue + _HEAD)
    for item in range(volume):
        while position - head > end.mask:
            head = load_acquire(end.queue + _HEAD)  # ACQUIRE pairs with the RELEASE in consume(): read before overwritten
            if position - head > end.mask:
                _rest(end)
        slot = end.queue + _ITEMS + (position & end.mask) * end.slot_bytes
        store(slot, item)
        if end.slot_bytes != WORD:
            store(slot + WORD, WORD)
        position += 1
        store_release(end.queue + _TAIL, position)  # RELEASE pairs with the ACQUIRE in consume(): item before index
    return start


@jit
def consume(end, volume):
    """Pop as many one by one; failures, and the time of the last."""
    failures = 0
    position = tail = load(end.queue + _HEAD)
    for item in range(volume):
        while position == tail:
            tail = load_acquire(end.queue + _TAIL)  # ACQUIRE pairs with the RELEASE in produce(): index before item
            if position == tail:
                _rest(end)
        slot = end.queue + _ITEMS + (position & end.mask) * end.slot_bytes
        failures += load(slot) != item or (end.slot_bytes != WORD and load(slot + WORD) != WORD)
        position += 1
        store_release(end.queue + _HEAD, position)  # RELEASE pairs with the ACQUIRE in produce(): read before reused
    return failures, clock()


@jit
def _rest(end):
    for _ in range(end.pauses):
        pause()


class TwoIndexQueue:
    """The queue in anonymous shared memory, made before the fork; `slots` is a power of two.

    With few `pauses` a side learns soon of a change, and takes the index's line from its writer often. `slot_bytes` is a word,
    or two for items with a length.
    """

    def __init__(self, slots: int, pauses: int, slot_bytes: int = WORD) -> None:
        self._memory = mmap.mmap(-1, _ITEMS + slots * slot_bytes)
        self._slots, self._slot_bytes, self._pauses = slots, slot_bytes, pauses

    def end(self) -> TwoIndexEnd:
        return TwoIndexEnd(mapping_address(self._memory), self._slots - 1, self._slot_bytes, self._pauses)
