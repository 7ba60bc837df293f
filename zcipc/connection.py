"""The public ends: `Connection`, `Pipe` and `wait`, in the vocabulary of `multiprocessing.connection`."""

import contextlib
import math
import multiprocessing.connection
import pickle
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, NamedTuple, TypeVar, cast

import numpy as np

from zcipc import codec
from zcipc import operations as ops
from zcipc.algorithms.waiting import Waiting
from zcipc.annotations import Received, Sent
from zcipc.ends.channel import Channel
from zcipc.ends.end import DEFAULT_CAPACITY, KIND, create_segment
from zcipc.ends.methods import entries
from zcipc.errors import PickleRefused
from zcipc.memory.segment import Segment

_End = TypeVar("_End")

_SIMPLE = frozenset((int, float, str, bool, type(None)))  # which pickle itself knows best


class Manner(NamedTuple):
    """How an end of a connection is used."""

    waiting: Waiting = Waiting.HYBRID
    allow_pickle: bool = True
    readable: bool = True
    writable: bool = True


_USUAL = Manner()


class Connection(Channel, Generic[Sent, Received]):
    """One end of a connection for objects, bytes and loans: what `multiprocessing.connection.Connection` is, and more.

    An end that has not been used yet can be handed to another process: as an argument of `multiprocessing.Process` under any
    start method, or through another connection.
    """

    def __init__(self, segment: Segment, seat: int, manner: Manner = _USUAL) -> None:
        super().__init__(segment, seat, manner.waiting, readable=manner.readable, writable=manner.writable)
        self._manner = manner

    def send(self, obj: Sent, *, timeout: float | None = None) -> None:
        """Send a copy of `obj`: anything that can be pickled. Arrays and bytes skip pickle.

        What is larger than the queue goes through it in parts, and arrives whole or not at all.

        Raises:
            PickleRefused: `obj` has to be pickled, and the connection was made with `allow_pickle=False`.
            TimedOut, Closed, PeerDied, PermissionDenied, CorruptSegment: as for every call that waits.
        """
        if type(obj) is bytes:
            self._send_copy(obj, codec.BYTES, timeout)  # type: ignore[arg-type]  # the line above says what it is
        else:
            self._send_frame(self._frame(obj), timeout)

    def _frame(self, obj: Any) -> codec.Frame:
        """`obj` as a message."""
        kind = type(obj)
        if kind is bytes:
            return codec.Frame(codec.BYTES, len(obj), obj, [])
        frame = codec.encode_array(obj) if kind is np.ndarray else None
        if frame is not None:
            return frame
        if not self._manner.allow_pickle:
            raise PickleRefused(f"{self!r} takes bytes and arrays without objects, not {kind.__name__}")
        data, buffers = (pickle.dumps(obj, 5), []) if kind in _SIMPLE else codec.pickled(obj)
        return codec.encode_pickle(data, buffers) if buffers else codec.Frame(codec.PICKLE, len(data), data, [])

    def _send_frame(self, frame: codec.Frame, timeout: float | None) -> None:
        if not frame.parts:
            self._send_copy(frame.head, frame.tag, timeout)
        elif frame.size > self._longest:
            self._send_parts(frame.pieces(), frame.size, frame.tag, timeout)
        elif not self._sent_at_once(frame):
            with self._loan_tagged(frame.size, timeout, frame.tag) as buffer:
                frame.write(buffer)

    def _sent_at_once(self, frame: codec.Frame) -> bool:
        """Whether it is one array, there was room for it, and now it is sent."""
        if len(frame.parts) > 1 or frame.fill is not None:
            return False
        done: bool = entries.send_frame(self, frame.head, *frame.parts[0], frame.tail, frame.tag) == ops.DONE
        return done

    def recv(self, *, timeout: float | None = None) -> Received:
        """The next object, the receiver's own. Unpickles: only for a peer that you trust, or with `allow_pickle=False`.

        Raises:
            PickleRefused: a pickle came, and the connection was made with `allow_pickle=False`. It is lost.
        """
        with (message := self.borrow() if timeout is None else self.borrow(timeout=timeout)) as buffer:
            obj: Received = codec.decode(message.tag, buffer, copy=True, allow_pickle=self._manner.allow_pickle)
            return obj

    @contextlib.contextmanager
    def borrow_object(self, *, timeout: float | None = None) -> Iterator[Received]:
        """The next object, its arrays read in place: `with connection.borrow_object() as obj: ...`.

        Arrays, and other buffers of a pickle, are read-only and lie in shared memory. They may live on after the block, and
        keep the message until they are gone. Bytes are a `memoryview`, which ends with the block.
        """
        with (message := self.borrow(timeout=timeout)) as buffer:
            yield codec.decode(message.tag, buffer, copy=False, allow_pickle=self._manner.allow_pickle)

    def __reduce__(self) -> tuple[Callable[..., "Connection"], tuple[str, int, Manner]]:
        self.share()
        return _attach, (self._segment.name, self._seat, self._manner)


def _attach(name: str, seat: int, manner: Manner) -> Connection:
    return Connection(Segment.attach(KIND, name), seat, manner)


def Pipe(
    duplex: bool = True,
    *,
    capacity: int = DEFAULT_CAPACITY,
    waiting: Waiting = Waiting.HYBRID,
    allow_pickle: bool = True,
) -> tuple[Connection, Connection]:
    """Two connected ends, for this process and another, or for two others.

    Args:
        duplex: False: the first end only receives, the second only sends.
        capacity: bytes of the queue in each direction, rounded up to a power of two. Larger messages pass in parts.
        waiting: how both ends wait.
        allow_pickle: False: only bytes and arrays can be sent, and nothing that comes is ever unpickled.

    Raises:
        OutOfSharedMemory: `/dev/shm` has no room for twice the capacity.
    """
    segment = create_segment(capacity)
    first, second = Manner(waiting, allow_pickle, writable=duplex), Manner(waiting, allow_pickle, readable=duplex)
    return Connection(segment, 0, first), Connection(segment.retain(), 1, second)


def wait(ends: Iterable[_End], timeout: float | None = None) -> list[_End]:
    """Those of `ends` that are ready: a connection that has a message or the end of all messages, as in `poll`.

    `multiprocessing.connection.wait`, which also takes sockets, pipes and the sentinels of processes, and takes connections
    as well. Waits until one is ready or `timeout` seconds have passed; then the list is empty. A descriptor that is readable
    without a message, after a dropped loan, does not end it.
    """
    waited: list[Any] = list(ends)
    deadline = None if timeout is None or timeout == math.inf else time.monotonic() + timeout
    while True:
        left = None if deadline is None else max(deadline - time.monotonic(), 0)
        readable = multiprocessing.connection.wait(waited, left)
        ready = [end for end in readable if not isinstance(end, Channel) or end.poll()]
        if ready or not readable:
            return cast(list[_End], ready)
