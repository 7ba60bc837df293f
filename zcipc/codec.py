"""Objects to and from a message.

A message says by its tag what it holds. Bytes go as they are, arrays behind a short description, everything else as pickle
protocol 5 whose large buffers are written next to it and not into it: each byte is copied once on the way in and once out.
Decoding copies, so what `recv` returns is the receiver's own.

Unpickling runs code that the sender chose: receive objects only from a process you trust, and `recv_bytes` from any other.
"""

import pickle
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from zcipc.errors import CorruptSegment

# Tags. A plain message, sent by send_bytes, has tag 0, and `recv` takes it for a pickle, as multiprocessing does.
BYTES = 1
ARRAY = 2
PICKLE = 3
PICKLE_AND_BUFFERS = 4

_ALIGNMENT = 64  # bytes, from the start of the message; what SIMD loads like
_ARRAY = struct.Struct("<BBH")  # dimensions, 1 if in Fortran order, bytes of the dtype's name; the shape and the name follow
_DTYPE = re.compile(rb"[<>|][biufcSUVmM][1-9][0-9]{0,8}(\[[0-9]{0,9}[a-zA-Z]{1,7}\])?")
_PICKLE = struct.Struct("<qq")  # buffers, bytes of the pickle; for each buffer its length follows, negative if it is read-only


@dataclass(slots=True)
class Frame:
    """A message not yet written: its tag, its size in bytes, and how to write it to a buffer of that size."""

    tag: int
    size: int
    write: Callable[[memoryview], None]


def encode_array(array: np.ndarray[Any, Any]) -> Frame | None:
    """A frame for an array of plain numbers, whatever its strides; None for one that only pickle understands."""
    dtype = array.dtype
    name = dtype.str.encode()
    if not _DTYPE.fullmatch(name) or dtype.names is not None or dtype.subdtype is not None or np.dtype(dtype.str) != dtype:
        return None
    fortran = array.flags.f_contiguous and not array.flags.c_contiguous
    head = _ARRAY.pack(array.ndim, fortran, len(name)) + struct.pack(f"<{array.ndim}q", *array.shape) + name
    start = _aligned(len(head))

    def write(buffer: memoryview) -> None:
        buffer[: len(head)] = head
        inside = np.ndarray(array.shape, dtype, buffer, start, order="F" if fortran else "C")
        inside[...] = array

    return Frame(ARRAY, start + array.nbytes, write)


def encode_pickle(data: bytes, buffers: list[pickle.PickleBuffer]) -> Frame:
    """A frame for a pickle and its out-of-band buffers."""
    views = [buffer.raw() for buffer in buffers]
    lengths = [-1 - view.nbytes if view.readonly else view.nbytes for view in views]
    head = _PICKLE.pack(len(views), len(data)) + struct.pack(f"<{len(views)}q", *lengths) + data
    starts = []
    size = len(head)
    for view in views:
        starts.append(_aligned(size))
        size = starts[-1] + view.nbytes

    def write(buffer: memoryview) -> None:
        buffer[: len(head)] = head
        for start, view in zip(starts, views, strict=True):
            buffer[start : start + view.nbytes] = view

    return Frame(PICKLE_AND_BUFFERS, size, write)


def decode(tag: int, message: memoryview) -> Any:
    """The object in a message, a copy of its own.

    Raises:
        CorruptSegment: the message is not what its tag says.
    """
    if tag in (0, PICKLE):
        return pickle.loads(message)
    if tag == BYTES:
        return bytes(message)
    try:
        if tag == ARRAY:
            return _decode_array(message)
        if tag == PICKLE_AND_BUFFERS:
            return _decode_pickle(message)
    except (struct.error, TypeError, ValueError) as error:
        raise CorruptSegment(f"a message of {len(message):,} bytes does not decode: {error}") from error
    raise CorruptSegment(f"a message of unknown kind {tag}: the other end is of another version, or not zcipc")


def _decode_array(message: memoryview) -> np.ndarray[Any, Any]:
    dimensions, fortran, name_bytes = _ARRAY.unpack_from(message)
    shape = struct.unpack_from(f"<{dimensions}q", message, _ARRAY.size)
    name_start = _ARRAY.size + 8 * dimensions
    dtype = _dtype_called(bytes(message[name_start : name_start + name_bytes]))
    start = _aligned(name_start + name_bytes)
    inside: np.ndarray[Any, Any] = np.ndarray(shape, dtype, message, start, order="F" if fortran else "C")
    return inside.copy(order="K")


def _dtype_called(name: bytes) -> np.dtype[Any]:
    if not _DTYPE.fullmatch(name):  # np.dtype evaluates what it does not know, and objects would be read at any address
        raise ValueError(f"{name!r} is no plain number, text or date")
    return np.dtype(name.decode())


def _decode_pickle(message: memoryview) -> Any:
    count, data_bytes = _PICKLE.unpack_from(message)
    lengths = struct.unpack_from(f"<{count}q", message, _PICKLE.size)
    data_start = _PICKLE.size + 8 * count
    end = data_start + data_bytes
    buffers: list[bytes | bytearray] = []
    for length in lengths:
        start, kind = _aligned(end), (bytes if length < 0 else bytearray)
        end = start + (-1 - length if length < 0 else length)
        buffers.append(kind(message[start:end]))
    if data_bytes < 0 or end > len(message):
        raise ValueError("its parts are longer than it is")
    return pickle.loads(message[data_start : data_start + data_bytes], buffers=buffers)


def _aligned(offset: int) -> int:
    return -(-offset // _ALIGNMENT) * _ALIGNMENT
