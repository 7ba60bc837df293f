"""Messages of calls on a connection: small ones as one pickle, past everything that `Connection` does for other kinds.

A message is (number of a call, what it says of it, content). The two numbers stand behind the pickle of the content, where
unpickling does not look; so it is known whose message cannot be unpickled here. Content that is bytes goes without pickle.

Arrays go behind both, written straight into shared memory, and with the tag IN_PLACE they are read there, too.
"""

import contextlib
import functools
import math
import pickle
import struct
import threading
import time
from collections.abc import Callable
from typing import Any

from zcipc import codec
from zcipc import operations as ops
from zcipc.connection import Connection
from zcipc.ends.end import acquired
from zcipc.ends.methods import entries
from zcipc.ends.streams import cut
from zcipc.errors import CorruptSegment, PickleRefused, TimedOut

Message = tuple[int, int, Any]

_PATIENCE_S = 0.01  # between two looks whether the peer, too, waits for room
_TAIL = struct.Struct("<qii")  # number of the call, what the message says of it, whether its content is bytes
_pack, _unpack_from, _TAIL_BYTES = _TAIL.pack, _TAIL.unpack_from, _TAIL.size
_CONTENT = slice(None, -_TAIL_BYTES)


class Unreadable(Exception):
    """A message whose content cannot be unpickled here; its cause says why. Not for users.

    Attributes:
        number: of the call.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def encoded(
    message: Message, in_place: bool = False, fill: Callable[[memoryview], object] | None = None
) -> bytes | codec.Frame:
    """What `message` looks like on the way: bytes of tag PLAIN or, if arrays are in it, a frame.

    Args:
        in_place: the receiver gets the arrays where they lie, and does not copy them.
        fill: writes the content of the only array, which is not copied.
    """
    number, what, content = message
    if type(content) is bytes:
        return content + _pack(number, what, True)
    buffers: list[pickle.PickleBuffer] = []
    data = pickle.dumps(content, 5, buffer_callback=buffers.append) + _pack(number, what, False)
    if not buffers:
        return data
    frame = codec.encode_pickle(data, buffers)
    return frame._replace(tag=codec.IN_PLACE if in_place else frame.tag, fill=fill)


def framed(content: bytes | codec.Frame) -> codec.Frame:
    """The frame of what `encoded` returned."""
    return codec.Frame(codec.PLAIN, len(content), content, []) if isinstance(content, bytes) else content


def _decoded(data: bytes | memoryview, buffers: list[Any] | tuple[()] = ()) -> Message:
    try:
        number, what, plain = _unpack_from(data, len(data) - _TAIL_BYTES)
    except struct.error as error:
        raise CorruptSegment(f"a message of {len(data):,} bytes is none of a call: {error}") from None
    if plain:
        return number, what, data[_CONTENT] if type(data) is bytes else bytes(data[_CONTENT])
    try:
        return number, what, pickle.loads(data, buffers=buffers)
    except Exception as error:
        raise Unreadable(number) from error


class Wire:
    """What calls need of a connection. Several threads may send, one may receive.

    Attributes:
        while_full: called while there is no room to send, now and then. A peer that waits for room as well must be relieved.

    Raises:
        PickleRefused: the connection was made with `allow_pickle=False`.
    """

    def __init__(self, connection: Connection) -> None:
        if not connection._manner.allow_pickle:
            raise PickleRefused(f"calls are pickled, and {connection!r} takes no pickle: make it with allow_pickle=True")
        self.connection = connection
        self.while_full: Callable[[], None] | None = None
        self._sending = threading.Lock()

    def send(
        self,
        message: Message,
        timeout: float | None = None,
        in_place: bool = False,
        fill: Callable[[memoryview], object] | None = None,
    ) -> None:
        """Send `message`. For `in_place` and `fill` see `encoded`.

        Raises:
            TimedOut, Closed, PeerDied, PermissionDenied, CorruptSegment: as `Connection.send`.
        """
        connection, content = self.connection, encoded(message, in_place, fill)
        if isinstance(content, bytes) and entries.send(connection, content, codec.PLAIN) == ops.DONE:
            return
        frame = framed(content)  # there is no room, or a loan is open; or it is one already
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        with contextlib.ExitStack() as sending:
            if not acquired(self._sending, timeout):
                raise TimedOut(f"another thread was sending on {connection!r} all the time")
            sending.callback(self._sending.release)
            if frame.size <= connection._longest:
                self._insist(functools.partial(connection._send_frame, frame), deadline)
                return
            sending.enter_context(connection._stream(timeout))
            for kind, chunk in cut(frame.pieces(), frame.size, frame.tag, connection.capacity):
                self._insist(functools.partial(connection._send_chunk, chunk, kind), deadline)

    def _insist(self, attempt: Callable[[float | None], None], deadline: float) -> None:
        """Call `attempt` with a time limit until it has room; between the calls, `while_full`."""
        while True:
            left = max(deadline - time.monotonic(), 0.0)
            if self.while_full is not None:
                self.while_full()
                limit: float | None = min(left, _PATIENCE_S)
            else:
                limit = None if left == math.inf else left
            try:
                return attempt(limit)
            except TimedOut:
                if limit == left:
                    raise TimedOut(f"there was no room on {self.connection!r} in time; does its other end receive?") from None

    def holds_message(self) -> bool:
        """Whether `receive` would not have to wait."""
        return entries.peek(self.connection) == ops.DONE

    def receive(self, timeout: float | None = None) -> Message:
        """The next message.

        Raises:
            TimedOut, Closed, PeerDied, PermissionDenied, CorruptSegment: as `Connection.recv`.
            Unreadable: it cannot be unpickled here, and is lost.
        """
        connection = self.connection
        if timeout is None and (data := entries.recv_plain(connection)) is not None:  # it may wait for a slice
            return _decoded(data)
        with (message := connection.borrow(timeout=timeout)) as buffer:
            if message.tag == codec.PLAIN:
                return _decoded(buffer)
            return _decoded(*codec.split_pickle(message.tag, buffer))

    def close(self) -> None:
        self.connection.close()
