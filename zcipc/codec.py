"""Objects to and from a message.

A message says by its tag what it holds. Bytes go as they are, arrays behind a short description, everything else as pickle
protocol 5 whose large buffers are written next to it and not into it: each byte is copied once on the way in and once out.

Unpickling runs code that the sender chose: receive objects only from a process you trust. From any other receive bytes, or
use `allow_pickle=False`, which leaves bytes and arrays.
"""

import ast
import copyreg
import functools
import io
import pickle
import re
import struct
from collections import ChainMap
from collections.abc import Callable, Iterator
from multiprocessing.reduction import ForkingPickler
from typing import Any, Literal, NamedTuple

import numpy as np

from zcipc.errors import CorruptSegment, PickleRefused

# Tags. A plain message, sent by send_bytes, has tag 0, and `recv` takes it for a pickle, as multiprocessing does.
PLAIN = 0
BYTES = 1
ARRAY = 2
PICKLE = 3
PICKLE_AND_BUFFERS = 4
IN_PLACE = 5  # the same, and never copied: the arrays that the receiver makes of it lie in the message
ARRAY_IN_PLACE = 6  # likewise

_ALIGNMENT = 64  # bytes, from the start of the message; what SIMD loads like
_PROTOCOL = 5
_ARRAY = struct.Struct("<BBH")  # dimensions, 1 if in Fortran order, bytes of the dtype's name; the shape and the name follow
_DTYPE = re.compile(r"[<>|][biufcSUVmM][1-9][0-9]{0,8}(\[[0-9]{0,9}[a-zA-Z]{1,7}\])?")
_PICKLE = struct.Struct("<qq")  # buffers, bytes of the pickle; for each buffer its length follows, negative if it is read-only

_REDUCERS = ChainMap(ForkingPickler._extra_reducers, copyreg.dispatch_table)  # type: ignore[attr-defined]  # and those to come

_Array = np.ndarray[Any, Any]


class Frame(NamedTuple):
    """A message not yet written: its tag, its size in bytes, its first bytes, the arrays that follow and where, its last bytes.

    `fill`, if there is one, writes the content of the only array, whose own is never looked at.
    """

    tag: int
    size: int
    head: bytes | memoryview
    parts: list[tuple[int, _Array]]
    fill: Callable[[memoryview], object] | None = None
    tail: bytes = b""

    def write(self, buffer: memoryview) -> None:
        """Write it to a buffer of its size, each byte once."""
        buffer[: len(self.head)] = self.head
        buffer[self.size - len(self.tail) :] = self.tail
        if self.fill is not None:
            ((start, array),) = self.parts
            with buffer[start : start + array.nbytes] as room:
                self.fill(room)
            return
        for start, part in self.parts:
            np.ndarray(part.shape, part.dtype, buffer, start, order=_order(part))[...] = part

    def pieces(self) -> Iterator[memoryview]:
        """The same as one contiguous piece after another; arrays with gaps are copied for it."""
        yield memoryview(self.head)
        end = len(self.head)
        for start, part in self.parts:
            yield memoryview(bytes(start - end))
            content = part.ravel(_order(part)).view(np.uint8).data
            if self.fill is not None:
                self.fill(content)
            yield content
            end = start + part.nbytes
        yield memoryview(self.tail)


def encode_array(array: _Array) -> Frame | None:
    """A frame for an array of any dtype without objects, whatever its strides; None for one that only pickle understands."""
    dtype = array.dtype
    head = None if dtype.metadata is not None else _array_head(dtype, array.shape, array.flags.fnc)
    if head is None:
        return None
    start = _aligned(len(head))
    return Frame(ARRAY, start + array.nbytes, head, [(start, array)])


@functools.lru_cache(maxsize=256)
def _array_head(dtype: np.dtype[Any], shape: tuple[int, ...], fortran: bool) -> bytes | None:
    name = _dtype_name(dtype)
    return None if name is None else _ARRAY.pack(len(shape), fortran, len(name)) + struct.pack(f"<{len(shape)}q", *shape) + name


def encode_pickle(data: bytes, buffers: list[pickle.PickleBuffer]) -> Frame:
    """A frame for a pickle and its out-of-band buffers."""
    views = [buffer.raw() for buffer in buffers]
    lengths = [-1 - view.nbytes if view.readonly else view.nbytes for view in views]
    head = _PICKLE.pack(len(views), len(data)) + struct.pack(f"<{len(views)}q", *lengths) + data
    parts = []
    size = len(head)
    for view in views:
        start = _aligned(size)
        parts.append((start, np.frombuffer(view, np.uint8)))
        size = start + view.nbytes
    return Frame(PICKLE_AND_BUFFERS, size, head, parts)


class _Pickler:
    """A pickler with its file and its list of buffers. Making one takes thrice as long as pickling a small object."""

    def __init__(self) -> None:
        self._file = io.BytesIO()
        self._buffers: list[pickle.PickleBuffer] = []
        self._pickler = pickle.Pickler(self._file, _PROTOCOL, buffer_callback=self._buffers.append)
        self._pickler.dispatch_table = _REDUCERS

    def pickled(self, obj: Any) -> tuple[bytes, list[pickle.PickleBuffer]]:
        self._pickler.dump(obj)
        found = self._file.getvalue(), self._buffers.copy()
        self._file.seek(0)
        self._file.truncate()
        self._buffers.clear()
        self._pickler.clear_memo()  # which keeps the objects
        return found


_picklers: list[_Pickler] = []  # those that nobody is using


def pickled(obj: Any) -> tuple[bytes, list[pickle.PickleBuffer]]:
    """The pickle of `obj`, and its buffers, which are not in it. Connections and sockets go as with `multiprocessing`."""
    try:
        pickler = _picklers.pop()
    except IndexError:
        pickler = _Pickler()
    found = pickler.pickled(obj)
    _picklers.append(pickler)  # not one that failed, and holds half an object
    return found


def decode(tag: int, message: memoryview, *, copy: bool = True, allow_pickle: bool = True) -> Any:
    """The object in a message.

    Args:
        copy: whether it is to be independent of the message. Otherwise arrays lie in it, and bytes are a view of it.
        allow_pickle: whether pickles are read. Otherwise a message of `send_bytes` is bytes.

    Raises:
        CorruptSegment: the message is not what its tag says.
        PickleRefused: it is a pickle, and those are not allowed.
    """
    if tag == BYTES or (tag == PLAIN and not allow_pickle):
        return bytes(message) if copy else message
    if tag in (PICKLE, PICKLE_AND_BUFFERS, IN_PLACE) and not allow_pickle:
        raise PickleRefused(
            f"a pickle of {len(message):,} bytes came, and this connection takes none: send bytes or arrays, or make it with "
            "allow_pickle=True, if the other end is trusted"
        )
    if tag in (PLAIN, PICKLE):
        return pickle.loads(message)
    try:
        if tag == ARRAY:
            array = _decode_array(message)
            return array.copy("K") if copy else array
        if tag == ARRAY_IN_PLACE:
            return _decode_array(message)
        data, buffers = split_pickle(tag, message, copy=copy)
        return pickle.loads(data, buffers=buffers)
    except (struct.error, SyntaxError, TypeError, ValueError) as error:
        raise CorruptSegment(f"a message of {len(message):,} bytes does not decode: {error}") from error


def _decode_array(message: memoryview) -> _Array:
    dimensions, _, name_bytes = _ARRAY.unpack_from(message)
    end = _ARRAY.size + 8 * dimensions + name_bytes
    shape, dtype, order = _array_layout(bytes(message[:end]))
    return np.ndarray(shape, dtype, message, _aligned(end), None, order)


@functools.lru_cache(maxsize=256)
def _array_layout(head: bytes) -> tuple[tuple[int, ...], np.dtype[Any], Literal["C", "F"]]:
    """What `_array_head` was made of, from a peer that may be hostile."""
    dimensions, fortran, _ = _ARRAY.unpack_from(head)
    dtype = _dtype(str(head[_ARRAY.size + 8 * dimensions :], "utf-8"))
    return struct.unpack_from(f"<{dimensions}q", head, _ARRAY.size), dtype, "F" if fortran else "C"


def split_pickle(tag: int, message: memoryview, *, copy: bool = True) -> tuple[memoryview, list[Any]]:
    """The pickle in a message, and its buffers: copies that can be written if the sender's could, or where they lie.

    Raises:
        CorruptSegment: the message is not what its tag says.
    """
    if tag not in (PICKLE_AND_BUFFERS, IN_PLACE):
        raise CorruptSegment(f"a message of unknown kind {tag}: the other end is of another version, or not zcipc")
    try:
        count, data_bytes = _PICKLE.unpack_from(message)
        lengths = struct.unpack_from(f"<{count}q", message, _PICKLE.size)
    except (struct.error, ValueError) as error:
        raise CorruptSegment(f"a message of {len(message):,} bytes does not decode: {error}") from error
    data_start = _PICKLE.size + 8 * count
    end = data_start + data_bytes
    data = message[data_start:end]
    copy = copy and tag != IN_PLACE
    buffers = []
    for length in lengths:
        start = _aligned(end)
        end = start + (-1 - length if length < 0 else length)
        part = message[start:end]
        buffers.append((bytes(part) if length < 0 else bytearray(part)) if copy else part)
    if data_bytes < 0 or end > len(message):
        raise CorruptSegment(f"a message of {len(message):,} bytes does not decode: its parts are longer than it is")
    return data, buffers


@functools.lru_cache(maxsize=256)
def _dtype_name(dtype: np.dtype[Any]) -> bytes | None:
    """What `_dtype` makes the same dtype of; None for one with objects, or of which a name does not tell everything."""
    if dtype.hasobject:
        return None
    name = dtype.str if dtype.names is None else repr(np.lib.format.dtype_to_descr(dtype))
    try:
        return name.encode() if _dtype(name) == dtype else None
    except (TypeError, ValueError):
        return None


@functools.lru_cache(maxsize=256)
def _dtype(name: str) -> np.dtype[Any]:
    """The dtype of a name that may be hostile: `np.dtype` evaluates what it does not know, and reads objects at any address."""
    if not name.startswith("["):
        _require_plain(name)
        return np.dtype(name)
    try:
        fields = ast.literal_eval(name)
    except (SyntaxError, MemoryError, RecursionError):
        raise ValueError(f"{name[:50]!r} describes no fields") from None
    _require_plain(fields)
    dtype = np.lib.format.descr_to_dtype(fields)
    if dtype.itemsize == 0:  # of which any number fits, and is gone through one by one
        raise ValueError(f"{name[:50]!r} describes nothing")
    return dtype


def _require_plain(described: Any) -> None:
    """Refuse all but numbers, text, bytes and dates, and fields of them."""
    if isinstance(described, list):
        for _, inside, *_ in described:
            _require_plain(inside)
    elif not (isinstance(described, str) and _DTYPE.fullmatch(described)):
        raise ValueError(f"{described!r} is no plain number, text or date")


def _order(array: _Array) -> Any:
    return "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"


def _aligned(offset: int) -> int:
    return -(-offset // _ALIGNMENT) * _ALIGNMENT
