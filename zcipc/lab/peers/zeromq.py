"""ZeroMQ by pyzmq: PAIR sockets over ipc://.

Messages from pyzmq's own threshold on are neither copied into ZeroMQ nor out of it (`copy=False`), as its documentation
recommends for large ones. The high-water mark bounds what a fast sender may queue, in bytes as in messages. Polled,
a receive does not block and is asked again and again, giving way to the I/O threads each time.
"""

import tempfile
from collections.abc import Callable
from functools import partial
from os import sched_yield
from pathlib import Path
from typing import Any

from zcipc.lab.peers import base

_QUEUED = 1000  # messages, ZeroMQ's default
_QUEUED_BYTES = 64 << 20
_COPY_BELOW = 64 << 10  # bytes; zmq.COPY_THRESHOLD


class ZeroMq(base.Peer):
    """A PAIR socket at each end, an I/O thread behind each."""

    title = "pyzmq"
    modes = (base.POLL, base.BLOCK)
    distribution = "pyzmq"

    @property
    def pinned(self) -> bool:
        return self.mode == base.BLOCK  # then its threads take turns, and staying together saves them a wake-up across cores

    def open(self, index: int) -> base.CopyingEnd:
        import zmq

        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PAIR)
        self._socket.sndhwm = self._socket.rcvhwm = min(max(_QUEUED_BYTES // self.length, 4), _QUEUED)
        self._socket.linger = 0
        address = f"ipc://{self._path()}"
        if index == 0:
            self._socket.bind(address)
        else:
            self._socket.connect(address)
        send, receive = self._socket.send, self._socket.recv
        copy = self.length < _COPY_BELOW
        poll = self.mode == base.POLL
        wait = _polling(partial(receive, zmq.NOBLOCK, copy), zmq.Again) if poll else partial(receive, 0, copy)
        return base.CopyingEnd(send, wait) if copy else base.CopyingEnd(partial(send, copy=False), lambda: wait().buffer)

    def _path(self) -> Path:
        return Path(tempfile.gettempdir()) / self.token

    def close(self) -> None:
        self._context.destroy(linger=1000)
        self._path().unlink(missing_ok=True)


def _polling(attempt: Callable[[], Any], again: type[Exception]) -> Callable[[], Any]:
    def receive() -> Any:
        while True:
            try:
                return attempt()
            except again:
                sched_yield()

    return receive
