"""Messages of calls on a connection: small ones as one pickle, past everything that `Connection` does for other kinds.

A message is (number of a call, what it says of it, content). The two numbers stand behind the content; so it is known whose
message cannot be unpickled here. Content that is bytes or an array goes without pickle. What is small passes in machine code:
`zcipc.calls.messages`.

Arrays are written straight into shared memory, and with the tag of what is in place they are read there, too.
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

import numpy as np

from zcipc import codec
from zcipc import operations as ops
from zcipc.calls.messages import TAIL, TAIL_BYTES
from zcipc.calls.messages import entries as messages
from zcipc.connection import Connection
from zcipc.ends.end import acquired
from zcipc.ends.methods import entries
from zcipc.ends.streams import cut
from zcipc.errors import CorruptSegment, PickleRefused, TimedOut

Message = tuple[int, int, Any]

_PATIENCE_S = 0.01  # between two looks whether the peer, too, waits for room
_IN_PLACE = {codec.ARRAY: codec.ARRAY_IN_PLACE, codec.PICKLE_AND_BUFFERS: codec.IN_PLACE}


class Unreadable(Exception):
    """A message whose content cannot be unpickled here; its cause says why. Not for users.

    Attributes:
        number: of the call.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def framed(message: Message, in_place: bool = False, fill: Callable[[memoryview], object] | None = None) -> codec.Frame:
    """What `message` looks like on the way.

    Args:
        in_place: the receiver gets the arrays where they lie, and does not copy them.
        fill: writes the content of the only array, which is not copied.
    """
    number, what, content = message
    plain = type(content) is bytes
    return _framed(content if plain else _serialized(content), TAIL.pack(number, what, plain), in_place, fill)


def _serialized(content: Any) -> bytes | codec.Frame:
    """Content that is not bytes: a pickle or, if it is an array or has some in it, a frame."""
    if type(content) is np.ndarray and (frame := codec.encode_array(content)) is not None:
        return frame
    buffers: list[pickle.PickleBuffer] = []
    data = pickle.dumps(content, 5, buffer_callback=buffers.append)
    return codec.encode_pickle(data, buffers) if buffers else data


def _framed(
    content: bytes | codec.Frame, tail: bytes, in_place: bool, fill: Callable[[memoryview], object] | None
) -> codec.Frame:
    if isinstance(content, bytes):
        return codec.Frame(codec.PLAIN, len(content) + TAIL_BYTES, content + tail, [])
    tag = _IN_PLACE[content.tag] if in_place else content.tag
    return content._replace(tag=tag, size=content.size + TAIL_BYTES, fill=fill, tail=tail)


def _parsed(tag: int, message: memoryview) -> Message:
    try:
        number, what, plain = TAIL.unpack_from(message, len(message) - TAIL_BYTES)
    except struct.error as error:
        raise CorruptSegment(f"a message of {len(message):,} bytes is none of a call: {error}") from None
    content = message[:-TAIL_BYTES]
    if plain:
        return number, what, bytes(content)
    if tag in (codec.ARRAY, codec.ARRAY_IN_PLACE):
        return number, what, codec.decode(tag, content)
    if tag == codec.PLAIN:
        return number, what, _unpickled(number, content)
    return number, what, _unpickled(number, *codec.split_pickle(tag, content))


def _unpickled(number: int, data: bytes | memoryview, buffers: list[Any] | tuple[()] = ()) -> Any:
    try:
        return pickle.loads(data, buffers=buffers)
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
        """Send `message`. For `in_place` and `fill` see `framed`.

        Raises:
            TimedOut, Closed, PeerDied, PermissionDenied, CorruptSegment: as `Connection.send`.
        """
        number, what, content = message
        connection, plain = self.connection, type(content) is bytes
        data = content if plain else _serialized(content)
        if type(data) is bytes and messages.send(connection, data, number, what, plain) == ops.DONE:
            return
        frame = _framed(data, TAIL.pack(number, what, plain), in_place, fill)
        if frame.parts and connection._sent_at_once(frame):
            return  # else there is no room, or a loan is open, or it is too large for that
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
        if timeout is None and (parts := messages.receive(connection)) is not None:  # it may wait for a slice
            number, what, plain, content = parts
            return number, what, content if plain else _unpickled(number, content)
        with (message := connection.borrow(timeout=timeout)) as buffer:
            return _parsed(message.tag, buffer)

    def close(self) -> None:
        self.connection.close()
