"""Messages of calls on a connection: small ones as one pickle, past everything that `Connection` does for other kinds.

Arrays go behind the pickle, written straight into shared memory, and with the tag IN_PLACE they are read there, too.
"""

import math
import pickle
import threading
import time
from collections.abc import Callable
from typing import Any

from zcipc import codec
from zcipc import operations as ops
from zcipc.connection import Connection
from zcipc.errors import TimedOut
from zcipc.methods import entries

_PATIENCE_S = 0.01  # between two looks whether the peer, too, waits for room


class Wire:
    """What calls need of a connection. Several threads may send, one may receive.

    Attributes:
        while_full: called while there is no room to send, now and then. A peer that waits for room as well must be relieved.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.while_full: Callable[[], None] | None = None
        self._sending = threading.Lock()

    def send(
        self,
        message: Any,
        timeout: float | None = None,
        in_place: bool = False,
        fill: Callable[[memoryview], object] | None = None,
    ) -> None:
        """Send `message`, whose arrays the receiver copies or, `in_place`, gets where they lie.

        Args:
            fill: writes the content of the only array in `message`, which is not copied.

        Raises:
            MessageTooLarge, TimedOut, Closed, PeerDied, PermissionDenied, CorruptSegment: as `Connection.send`.
        """
        connection = self.connection
        buffers: list[pickle.PickleBuffer] = []
        data = pickle.dumps(message, protocol=5, buffer_callback=buffers.append)
        if buffers:
            frame = codec.encode_pickle(data, buffers)
            with self._sending:
                self._send_frame(frame._replace(tag=codec.IN_PLACE) if in_place else frame, timeout, fill)
        elif entries.send(connection, data, codec.PLAIN) != ops.DONE:  # no room, or a loan is open
            with self._sending:
                self._insist(lambda limit: connection._send_copy(data, codec.PLAIN, limit), timeout)

    def _send_frame(self, frame: codec.Frame, timeout: float | None, fill: Callable[[memoryview], object] | None) -> None:
        connection = self.connection

        def write(limit: float | None) -> None:
            with connection._loan_tagged(frame.size, limit, frame.tag) as buffer:
                if fill is None:
                    frame.write(buffer)
                    return
                buffer[: len(frame.head)] = frame.head
                ((start, part),) = frame.parts
                with buffer[start : start + part.nbytes] as room:
                    fill(room)

        if frame.size <= connection._longest:
            self._insist(write, timeout)
            return
        if fill is not None:
            fill(frame.parts[0][1].data)
        connection._send_parts(frame.pieces(), frame.size, frame.tag, timeout)

    def _insist(self, attempt: Callable[[float | None], None], timeout: float | None) -> None:
        """Call `attempt` with a time limit until it has room; between the calls, `while_full`."""
        if self.while_full is None:
            attempt(timeout)
            return
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        while True:
            self.while_full()
            left = max(deadline - time.monotonic(), 0.0)
            try:
                attempt(min(left, _PATIENCE_S))
            except TimedOut:
                if left == 0:
                    raise
            else:
                return

    def holds_message(self) -> bool:
        """Whether `receive` would not have to wait."""
        return entries.peek(self.connection) == ops.DONE

    def receive(self, timeout: float | None = None) -> Any:
        """The next message.

        Raises:
            TimedOut, Closed, PeerDied, PermissionDenied, CorruptSegment: as `Connection.recv`.
            Exception: it cannot be unpickled here, and is lost.
        """
        connection = self.connection
        if timeout is None and (data := entries.recv_plain(connection)) is not None:  # it may wait for a slice
            return pickle.loads(data)
        with (message := connection.borrow(timeout=timeout)) as buffer:
            return codec.decode(message.tag, buffer)

    def close(self) -> None:
        self.connection.close()
