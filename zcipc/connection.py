"""The public ends: `Connection` and `Pipe`, in the vocabulary of `multiprocessing.connection`."""

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np

from zcipc import codec
from zcipc.channel import DEFAULT_CAPACITY, KIND, Channel, create_segment
from zcipc.segment import Segment
from zcipc.waiting import Waiting


class Connection(Channel):
    """One end of a two-way connection for objects, bytes and loans.

    An end that has not been used yet can be handed to another process: as an argument of `multiprocessing.Process` under any
    start method, or through another connection.
    """

    def send(self, obj: Any, *, timeout: float | None = None) -> None:
        """Send a copy of `obj`: anything that can be pickled. Arrays and bytes skip pickle.

        Raises:
            MessageTooLarge: it can never fit.
            TimedOut, Closed, PeerDied, PermissionDenied, CorruptSegment: as for every call that waits.
        """
        kind = type(obj)
        if kind is bytes:
            self._send_copy(obj, codec.BYTES, timeout)
            return
        frame = codec.encode_array(obj) if kind is np.ndarray else None
        if frame is None:
            buffers: list[pickle.PickleBuffer] = []
            data = pickle.dumps(obj, protocol=5, buffer_callback=buffers.append)
            if not buffers:
                self._send_copy(data, codec.PICKLE, timeout)
                return
            frame = codec.encode_pickle(data, buffers)
        with self._loan_tagged(frame.size, timeout, frame.tag) as buffer:
            frame.write(buffer)

    def recv(self, *, timeout: float | None = None) -> Any:
        """The next object, the receiver's own. Unpickles: only for a peer that you trust."""
        with (message := self.borrow() if timeout is None else self.borrow(timeout=timeout)) as buffer:
            return codec.decode(message.tag, buffer)

    def __reduce__(self) -> tuple[Callable[..., "Connection"], tuple[str, int, Waiting]]:
        self.share()
        return _attach, (self._segment.name, self._seat, self._waiting)


def _attach(name: str, seat: int, waiting: Waiting) -> Connection:
    return Connection(Segment.attach(KIND, name), seat, waiting)


def Pipe(*, capacity: int = DEFAULT_CAPACITY, waiting: Waiting = Waiting.HYBRID) -> tuple[Connection, Connection]:
    """Two connected ends, for this process and another, or for two others.

    Args:
        capacity: bytes in each direction, rounded up to a power of two; a message has at most 16 fewer.
        waiting: how both ends wait.

    Raises:
        OutOfSharedMemory: `/dev/shm` has no room for twice the capacity.
    """
    segment = create_segment(capacity)
    return Connection(segment, 0, waiting), Connection(segment.retain(), 1, waiting)
