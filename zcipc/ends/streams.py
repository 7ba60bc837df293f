"""A message larger than the queue: cut into chunks that follow each other through it, and put together at the other end.

The first chunk says how long the message is and what its tag is; nothing else is sent between the chunks. A message of which
the sender gives up the rest, because its time is out or a signal came, is dropped by the receiver as soon as anything else
follows. So it arrives whole or not at all.
"""

import struct
from collections.abc import Iterable, Iterator

import numpy as np

from zcipc import operations as ops
from zcipc.ends.methods import entries
from zcipc.errors import CorruptSegment
from zcipc.native.extension import Handle

_HEAD = struct.Struct("<qq")  # bytes of the message, its tag
_PARTS = 4  # chunks that fit into the queue, so that one end writes while the other reads


def cut(pieces: Iterable[memoryview], size: int, tag: int, capacity: int) -> Iterator[tuple[int, memoryview]]:
    """The chunks for a queue of `capacity` bytes, with their tags, of a message of `size` bytes that consists of `pieces`."""
    yield ops.FIRST_CHUNK, memoryview(_HEAD.pack(size, tag))
    longest = capacity // _PARTS - 8
    for piece in pieces:
        for start in range(0, len(piece), longest):
            yield ops.CHUNK, piece[start : start + longest]


class Assembly:
    """The message that is being put together at one end, if there is one."""

    def __init__(self) -> None:
        self._content: np.ndarray | None = None
        self._filled = 0
        self.tag: int = 0

    def take(self, channel: Handle, capacity: int) -> np.ndarray | None:
        """Take the chunks that are there in `channel`; the message, if it is complete now. Never waits.

        What comes while they are taken is left, from `capacity` bytes on: a fast sender must not keep whoever has other work.

        Raises:
            CorruptSegment: they do not fit together.
        """
        most = self._filled + capacity
        while (tag := entries.next_tag(channel)) >= ops.FIRST_CHUNK:
            if tag == ops.FIRST_CHUNK:
                self._begin(channel)
                most = capacity
            elif self._content is not None:
                if self._filled >= most:
                    return None
                self._filled += _taken(channel, self._content[self._filled :])
            else:
                raise CorruptSegment(f"{channel!r}: the other end sent the middle of a message; close the connection")
            if self._content is not None and self._filled == len(self._content):
                complete, self._content = self._content, None
                return complete
        if tag >= 0:
            self._content = None  # given up by its sender
        return None

    def _begin(self, channel: Handle) -> None:
        head = np.empty(_HEAD.size, np.uint8)
        if _taken(channel, head) != _HEAD.size:
            raise CorruptSegment(f"{channel!r}: the other end began a message without saying its length")
        size, self.tag = _HEAD.unpack(head.data)
        if size < 0 or not 0 <= self.tag < ops.FIRST_CHUNK:
            raise CorruptSegment(f"{channel!r}: the other end began an impossible message of {size:,} bytes")
        self._content, self._filled = np.empty(size, np.uint8), 0


def _taken(channel: Handle, room: np.ndarray) -> int:
    taken = entries.take_chunk(channel, room.ctypes.data, room.nbytes)
    if taken < 0:
        raise CorruptSegment(f"{channel!r}: the other end sent more of a message than it had announced; close the connection")
    return taken
