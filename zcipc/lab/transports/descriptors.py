"""What transports through the kernel share: whole messages written to and read from file descriptors."""

import os
from typing import NamedTuple

import numpy as np
from numba import types

from zcipc.lab.harness.payload import fill_buffer, is_whole_buffer, stamp_of_buffer
from zcipc.lab.transports import base
from zcipc.native.atomics import Address
from zcipc.native.compiled import jit

_write = types.ExternalFunction("write", types.int64(types.int32, Address, types.int64))
_read = types.ExternalFunction("read", types.int64(types.int32, Address, types.int64))


class DescriptorEnd(NamedTuple):
    """Descriptors to read from and to write to, and the address of a private buffer."""

    source: int
    sink: int
    buffer: int


@jit
def _write_all(descriptor, address, length):
    done = 0
    while done < length:
        count = _write(descriptor, address + done, length - done)
        if count > 0:
            done += count


@jit
def _read_all(descriptor, address, length):
    done = 0
    while done < length:
        count = _read(descriptor, address + done, length - done)
        if count > 0:
            done += count


@base.implement(base.room, DescriptorEnd)
def _room(end, length):
    return end.buffer


@base.implement(base.send, DescriptorEnd)
def _send(end, length):
    _write_all(end.sink, end.buffer, length)


@base.implement(base.receive, DescriptorEnd)
def _receive(end, length):
    _read_all(end.source, end.buffer, length)
    return end.buffer


@base.implement(base.release, DescriptorEnd)
def _release(end, length):
    pass


class InterpretedDescriptors(base.InterpretedEnd):
    """`os.write` and `os.readv`, as a careful Python program calls them: no allocation, short counts handled."""

    def __init__(self, source: int, sink: int, length: int) -> None:
        self._source = source
        self._sink = sink
        self._message = memoryview(bytearray(length))

    def send(self, stamp: int) -> None:
        message = self._message
        fill_buffer(message, stamp)
        done = os.write(self._sink, message)
        while done < len(message):
            done += os.write(self._sink, message[done:])

    def _read(self) -> memoryview:
        message = self._message
        done = os.readv(self._source, [message])
        while done < len(message):
            count = os.readv(self._source, [message[done:]])
            if count == 0:
                raise EOFError("the other process closed its end")
            done += count
        return message

    def receive(self, stamp: int) -> bool:
        return is_whole_buffer(self._read(), stamp)

    def receive_stamp(self) -> int:
        message = self._read()
        stamp = stamp_of_buffer(message)
        return stamp if is_whole_buffer(message, stamp) else -1


class DescriptorTransport(base.Transport):
    """A transport over descriptors. A subclass makes them: for each end, one to read from and one to write to."""

    descriptors: tuple[tuple[int, int], tuple[int, int]]

    def compiled_end(self, index: int) -> DescriptorEnd:
        self._buffer = np.zeros(self.length // 8, np.int64)
        return DescriptorEnd(*self.descriptors[index], self._buffer.ctypes.data)

    def interpreted_end(self, index: int) -> base.InterpretedEnd:
        return InterpretedDescriptors(*self.descriptors[index], self.length)

    def close(self) -> None:
        for descriptor in {descriptor for pair in self.descriptors for descriptor in pair}:
            os.close(descriptor)
