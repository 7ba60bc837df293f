"""zcipc itself: copying, copying with blocking waits, and loaned.

Copying, the message passes through a private buffer on each side, as with the other copying transports. Loaned, it is written
and read where it lies in shared memory.
"""

from typing import Any, NamedTuple

import numpy as np

from zcipc import Connection, Waiting
from zcipc import Pipe as connect
from zcipc import operations as ops
from zcipc.algorithms.ring import header_of
from zcipc.ends.end import DEFAULT_CAPACITY
from zcipc.lab.harness.payload import fill_buffer, is_whole_buffer, stamp_of_buffer
from zcipc.lab.transports import base


class CopyingEnd(NamedTuple):
    """A connection's end and the address of a private buffer."""

    end: int
    buffer: int


class LoaningEnd(NamedTuple):
    """A connection's end."""

    end: int


@base.implement(base.room, CopyingEnd)
def _room(end, length):
    return end.buffer


@base.implement(base.send, CopyingEnd)
def _send(end, length):
    ops.send(end.end, end.buffer, length, ops.FOREVER)


@base.implement(base.receive, CopyingEnd)
def _receive(end, length):
    ops.receive(end.end, end.buffer, length, ops.FOREVER)
    return end.buffer


@base.implement(base.release, CopyingEnd)
def _release(end, length):
    pass


@base.implement(base.room, LoaningEnd)
def _claim(end, length):
    return ops.claim(end.end, length, ops.FOREVER)


@base.implement(base.send, LoaningEnd)
def _commit(end, length):
    ops.commit(end.end, length, 0)


@base.implement(base.receive, LoaningEnd)
def _borrow(end, length):
    _, address = ops.borrow(end.end, ops.FOREVER)
    return address


@base.implement(base.release, LoaningEnd)
def _skip(end, length):
    ops.skip(end.end, header_of(length, 0))


class InterpretedCopying(base.InterpretedEnd):
    """`send_bytes` and `recv_bytes`."""

    def __init__(self, connection: Connection, length: int) -> None:
        self._connection = connection
        self._message = bytearray(length)

    def send(self, stamp: int) -> None:
        fill_buffer(self._message, stamp)
        self._connection.send_bytes(self._message)

    def receive(self, stamp: int) -> bool:
        return is_whole_buffer(self._connection.recv_bytes(), stamp)

    def receive_stamp(self) -> int:
        message = self._connection.recv_bytes()
        stamp = stamp_of_buffer(message)
        return stamp if is_whole_buffer(message, stamp) else -1


class InterpretedLoaning(base.InterpretedEnd):
    """`loan` and `borrow`."""

    def __init__(self, connection: Connection, length: int) -> None:
        self._connection = connection
        self._length = length

    def send(self, stamp: int) -> None:
        with self._connection.loan(self._length) as buffer:
            fill_buffer(buffer, stamp)

    def receive(self, stamp: int) -> bool:
        with self._connection.borrow() as buffer:
            return is_whole_buffer(buffer, stamp)

    def receive_stamp(self) -> int:
        with self._connection.borrow() as buffer:
            stamp = stamp_of_buffer(buffer)
            return stamp if is_whole_buffer(buffer, stamp) else -1


class Copying(base.Transport):
    """A connection as it comes: of the default capacity, waiting as by default."""

    capacity = DEFAULT_CAPACITY
    waiting = Waiting.HYBRID

    def __init__(self, length: int) -> None:
        super().__init__(length)
        self._connections = connect(capacity=self.capacity, waiting=self.waiting)

    def _end(self, index: int) -> int:
        connection = self._connections[index]
        connection.poll()  # takes the seat
        return connection.end

    def compiled_end(self, index: int) -> Any:
        self._buffer = np.zeros(self.length // 8, np.int64)
        return CopyingEnd(self._end(index), self._buffer.ctypes.data)

    def interpreted_end(self, index: int) -> base.InterpretedEnd:
        return InterpretedCopying(self._connections[index], self.length)

    def close(self) -> None:
        for connection in self._connections:
            connection.close()


class Blocking(Copying):
    """The same, asleep on a futex at once."""

    waiting = Waiting.BLOCK


class Loaning(Copying):
    """The same with loans."""

    def compiled_end(self, index: int) -> Any:
        return LoaningEnd(self._end(index))

    def interpreted_end(self, index: int) -> base.InterpretedEnd:
        return InterpretedLoaning(self._connections[index], self.length)
