"""The standard library's `multiprocessing`: Pipe by its byte calls, which skip pickle; its queues, which cannot."""

import multiprocessing
from abc import abstractmethod
from typing import Any

from zcipc.lab.peers import base

_context = multiprocessing.get_context("fork")  # what is made here is inherited by the partner


class MultiprocessingPipe(base.Peer):
    """multiprocessing.Pipe, both ways over one pair of sockets."""

    title = "multiprocessing.Pipe"
    modes = (base.BLOCK,)

    def __init__(self, length: int, mode: str) -> None:
        super().__init__(length, mode)
        self._connections = _context.Pipe()

    def open(self, index: int) -> base.CopyingEnd:
        connection = self._connections[index]
        return base.CopyingEnd(connection.send_bytes, connection.recv_bytes)

    def leave(self, index: int) -> None:
        self._connections[index].close()

    def close(self) -> None:
        for connection in self._connections:
            connection.close()


class _Queues(base.Peer):
    """A queue each way."""

    modes = (base.BLOCK,)

    def __init__(self, length: int, mode: str) -> None:
        super().__init__(length, mode)
        self._queues: list[Any] = [self._make(), self._make()]

    @abstractmethod
    def _make(self) -> Any:
        """One queue."""

    def open(self, index: int) -> base.CopyingEnd:
        return base.CopyingEnd(self._queues[1 - index].put, self._queues[index].get)

    def close(self) -> None:
        for queue in self._queues:
            queue.close()


class SimpleQueue(_Queues):
    """multiprocessing.SimpleQueue: a pipe and two locks."""

    title = "multiprocessing.SimpleQueue"

    def _make(self) -> Any:
        return _context.SimpleQueue()


class Queue(_Queues):
    """multiprocessing.Queue: the same behind a feeding thread."""

    title = "multiprocessing.Queue"

    def _make(self) -> Any:
        return _context.Queue()
