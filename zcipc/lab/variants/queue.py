"""One small queue with its design choices as arguments: the parts of the ring that the library itself cannot switch off.

Slots for messages of one length, one producer, one consumer, both spinning. A slot is a header, length + 1, and the payload.
As shipped: the header says that the message is there; the producer remembers how far the consumer has come; what each side
writes has two cache lines of its own; payloads follow each other without a hole.

A choice is a constant of the four operations, which are compiled for each type of end: what is switched off leaves no trace.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from zcipc.algorithms.ring import EMPTY, HEADER, LINE
from zcipc.ends.end import DEFAULT_CAPACITY
from zcipc.lab.transports import base
from zcipc.lab.variants.memory import Reserved
from zcipc.memory.segment import mapping_address
from zcipc.native.atomics import WORD, load, load_acquire, pause, store, store_release
from zcipc.native.compiled import jit

_CONTROL_BYTES = 4096  # a page for the two control words, wherever on it they are
_TAIL = 0  # offset of the word the producer writes: how many messages are published

# The private words of a side.
_CONTROL = 0 * WORD  # address of the control words
_DATA = 1 * WORD  # address of the first slot
_SLOTS = 2 * WORD  # a power of two
_SLOT_BYTES = 3 * WORD
_POSITION = 4 * WORD  # messages sent, or received, so far
_KNOWN = 5 * WORD  # what the other side's word said when last read
_SIDE_BYTES = LINE


class QueueEnd(NamedTuple):
    """Addresses of the private words: of the producer of one queue and of the consumer of the other."""

    producer: int
    consumer: int


@jit
def _slot(side, position):
    return load(side + _DATA) + (position & (load(side + _SLOTS) - 1)) * load(side + _SLOT_BYTES)


class Queue(base.Transport):
    """Two such queues. A subclass of `QueueEnd` stands for the choices, see `make_queue`."""

    def __init__(
        self,
        length: int,
        end_type: type[QueueEnd],
        alignment: int,
        memory: type[Reserved] = Reserved,
        capacity: int = DEFAULT_CAPACITY,
    ) -> None:
        super().__init__(length)
        self._end_type = end_type
        self._slot_bytes = -(-(HEADER + length) // alignment) * alignment
        self.slots = 1 << (capacity // self._slot_bytes).bit_length() - 1
        self._first = _CONTROL_BYTES + -HEADER % alignment  # payloads are aligned, not headers
        size = self._first + self.slots * self._slot_bytes
        self._memories = [memory(size) for _ in range(2)]

    def compiled_end(self, index: int) -> QueueEnd:
        for memory in self._memories:
            memory.enter()
        self._private = np.zeros(3 * _SIDE_BYTES // WORD, np.int64)
        start = -(-self._private.ctypes.data // _SIDE_BYTES) * _SIDE_BYTES  # each side on lines of its own
        words = self._private[(start - self._private.ctypes.data) // WORD :]
        for side, queue in enumerate((index, 1 - index)):
            address = mapping_address(self._memories[queue].buffer)
            row = (address, address + self._first, self.slots, self._slot_bytes, 0, 0)
            words[side * _SIDE_BYTES // WORD :][: len(row)] = row
        return self._end_type(start, start + _SIDE_BYTES)

    def interpreted_end(self, index: int) -> base.InterpretedEnd:
        raise TypeError("the choices of a queue are measured in compiled code; it has no interpreted form")


def make_queue(
    end_type: type[QueueEnd], *, inline_header: bool = True, cached_index: bool = True, line: int = LINE, alignment: int = WORD
) -> Callable[..., Queue]:
    """A transport of two queues with these choices, as a function of the message length.

    Args:
        end_type: a type of its own, by which compiled loops find the operations made here.
        inline_header: the consumer polls the header of the next slot; else the producer's word, and then reads the slot.
        cached_index: a side reads the other's word only when what it knows of it does not do; else for every message.
        line: bytes from the producer's control word to the consumer's.
        alignment: of payloads, in bytes.
    """
    head = _TAIL + line  # offset of the word the consumer writes: how many messages are released

    @base.implement(base.room, end_type)
    def _room(end, length):
        side = end.producer
        position = load(side + _POSITION)
        needed = position + 2 - load(side + _SLOTS)  # one slot stays free: the header after the message is made EMPTY
        if not cached_index or load(side + _KNOWN) < needed:
            control = load(side + _CONTROL)
            released = load_acquire(control + head)  # ACQUIRE pairs with the RELEASE in _release(): read before overwritten
            while released < needed:
                pause()
                released = load_acquire(control + head)  # ACQUIRE: as above
            store(side + _KNOWN, released)
        return _slot(side, position) + HEADER

    @base.implement(base.send, end_type)
    def _send(end, length):
        side = end.producer
        position = load(side + _POSITION)
        tail = load(side + _CONTROL) + _TAIL
        store(side + _POSITION, position + 1)
        if inline_header:
            store(_slot(side, position + 1), EMPTY)  # the consumer's next poll must not see an old lap
            store_release(_slot(side, position), length + 1)  # RELEASE pairs with the ACQUIRE of the header in _receive()
            store(tail, position + 1)  # for onlookers
        else:
            store(_slot(side, position), length + 1)
            store_release(tail, position + 1)  # RELEASE pairs with the ACQUIRE of the tail in _receive(): slot before index

    @base.implement(base.receive, end_type)
    def _receive(end, length):
        side = end.consumer
        position = load(side + _POSITION)
        slot = _slot(side, position)
        if inline_header:
            while load_acquire(slot) == EMPTY:  # ACQUIRE pairs with the RELEASE of the header in _send(): header before payload
                pause()
        elif not cached_index or load(side + _KNOWN) <= position:
            tail = load(side + _CONTROL) + _TAIL
            published = load_acquire(tail)  # ACQUIRE pairs with the RELEASE of the tail in _send(): index before slot
            while published <= position:
                pause()
                published = load_acquire(tail)  # ACQUIRE: as above
            store(side + _KNOWN, published)
        return slot + HEADER

    @base.implement(base.release, end_type)
    def _release(end, length):
        side = end.consumer
        position = load(side + _POSITION) + 1
        store(side + _POSITION, position)
        store_release(load(side + _CONTROL) + head, position)  # RELEASE pairs with the ACQUIRE in _room(): read before reuse

    return partial(Queue, end_type=end_type, alignment=alignment)


class Shipped(QueueEnd):
    """Every choice as in `zcipc.algorithms.ring`."""


class SeparateIndices(QueueEnd):
    """The textbook's queue: two indices, each cached by the other side."""


class ReadEachTime(QueueEnd):
    """The producer reads the consumer's index for every message."""


class Line64(QueueEnd):
    """The control words on neighbouring cache lines."""


class NoPadding(QueueEnd):
    """The control words on one cache line."""


class Aligned64(QueueEnd):
    """Payloads at multiples of 64 bytes."""


shipped = make_queue(Shipped)
separate_indices = make_queue(SeparateIndices, inline_header=False)
read_each_time = make_queue(ReadEachTime, cached_index=False)
line_64 = make_queue(Line64, line=64)
no_padding = make_queue(NoPadding, line=WORD)
aligned_64 = make_queue(Aligned64, alignment=64)
