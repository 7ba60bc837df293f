"""The paper's design: a queue of slots each way, the semaphores *empty*, *mutex* and *full*, a copy in and a copy out."""

import mmap
from typing import NamedTuple

import numpy as np
from numba import int64, void

from zcipc.algorithms import bounded_buffer
from zcipc.ipc import DEFAULT_SLOTS
from zcipc.lab.harness.payload import fill_buffer, is_whole_buffer, stamp_of_buffer
from zcipc.lab.transports import base
from zcipc.memory.segment import mapping_address
from zcipc.native.compiled import entry_point, jit, jit_nogil
from zcipc.native.objects import address_of, length_of, readable_buffer, writable_buffer

_TIMED_OUT = (bounded_buffer.TIMED_OUT, bounded_buffer.MUTEX_TAKEN)
_PATIENCE_NS = 1_000_000_000  # a wait is repeated for ever; whoever started the launch ends one that hangs


class PaperEnd(NamedTuple):
    """Addresses: the queue to receive from, the queue to send to, a private buffer."""

    source: int
    sink: int
    buffer: int


@jit
def _send_patiently(queue, address, length):
    while bounded_buffer.send(queue, address, length, _PATIENCE_NS) in _TIMED_OUT:
        pass


@jit
def _receive_patiently(queue, address):
    while bounded_buffer.receive(queue, address, _PATIENCE_NS) in _TIMED_OUT:
        pass


@base.implement(base.room, PaperEnd)
def _room(end, length):
    return end.buffer


@base.implement(base.send, PaperEnd)
def _send(end, length):
    _send_patiently(end.sink, end.buffer, length)


@base.implement(base.receive, PaperEnd)
def _receive(end, length):
    _receive_patiently(end.source, end.buffer)
    return end.buffer


@base.implement(base.release, PaperEnd)
def _release(end, length):
    pass


@jit_nogil
def _send_buffer(queue, buffer):
    _send_patiently(queue, address_of(buffer), length_of(buffer))


@jit_nogil
def _receive_buffer(queue, buffer):
    _receive_patiently(queue, address_of(buffer))


class InterpretedPaper(base.InterpretedEnd):
    """One compiled call a message, past the checks of `zcipc.ipc`, which the paper's listing has none of."""

    def __init__(self, source: int, sink: int, length: int) -> None:
        self._source = source
        self._sink = sink
        self._message = bytearray(length)
        self._send_now = entry_point(_send_buffer, void(int64, readable_buffer))
        self._receive_now = entry_point(_receive_buffer, void(int64, writable_buffer))

    def send(self, stamp: int) -> None:
        fill_buffer(self._message, stamp)
        self._send_now(self._sink, self._message)

    def receive(self, stamp: int) -> bool:
        self._receive_now(self._source, self._message)
        return is_whole_buffer(self._message, stamp)

    def receive_stamp(self) -> int:
        self._receive_now(self._source, self._message)
        stamp = stamp_of_buffer(self._message)
        return stamp if is_whole_buffer(self._message, stamp) else -1


class Paper(base.Transport):
    """Two queues in anonymous shared memory."""

    def __init__(self, length: int) -> None:
        super().__init__(length)
        size = bounded_buffer.shared_bytes(DEFAULT_SLOTS, length)
        self._memory = [mmap.mmap(-1, size) for _ in range(2)]
        self._queues = np.array([[mapping_address(memory), DEFAULT_SLOTS, length] for memory in self._memory], np.int64)
        for index in range(2):
            bounded_buffer.initialise(self._queue(index))

    def _queue(self, index: int) -> int:
        return int(self._queues[index].ctypes.data)

    def compiled_end(self, index: int) -> PaperEnd:
        self._buffer = np.zeros(self.length // 8, np.int64)
        return PaperEnd(self._queue(index), self._queue(1 - index), self._buffer.ctypes.data)

    def interpreted_end(self, index: int) -> base.InterpretedEnd:
        return InterpretedPaper(self._queue(index), self._queue(1 - index), self.length)
