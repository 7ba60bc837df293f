"""What the kernel offers: a pipe, a Unix socket pair, a POSIX message queue.

The buffers of pipe and socket are as large as the system lets an ordinary user make them. Messages of at most a page pass a
pipe whole; longer ones, and all through a stream socket, may come in parts and are collected in one buffer that is used again.
Polled, the receiving end does not block: where both processes are awake that saves them the kernel's wake-up.
"""

import fcntl
import os
import select
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from zcipc.lab.peers import base

_PIPE_BYTES = 1 << 20  # the most that Linux lets an ordinary user ask for, unless its administrator changed that
_SOCKET_BYTES = 4 << 20  # more than any default limit, to which the kernel cuts it
_LONGEST_QUEUED = Path("/proc/sys/fs/mqueue/msgsize_max")


def _polling(attempt: Callable[[], Any], nothing: type[BaseException]) -> Callable[[], Any]:
    """`attempt`, again and again until it no longer raises `nothing`."""

    def receive() -> Any:
        while True:
            try:
                return attempt()
            except nothing:
                pass

    return receive


class OsPipe(base.Peer):
    """os.pipe, one each way."""

    title = "os.pipe"
    modes = (base.POLL, base.BLOCK)

    def __init__(self, length: int, mode: str) -> None:
        super().__init__(length, mode)
        pipes = os.pipe(), os.pipe()
        for source, sink in pipes:
            fcntl.fcntl(sink, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
            os.set_blocking(source, mode == base.BLOCK)
        self._descriptors = (pipes[0][0], pipes[1][1]), (pipes[1][0], pipes[0][1])

    def open(self, index: int) -> base.CopyingEnd:
        source, sink = self._descriptors[index]
        receive: Callable[[], Any]
        if self.length <= select.PIPE_BUF:
            receive = partial(os.read, source, self.length)
        else:
            receive = partial(_read_whole, source, memoryview(bytearray(self.length)))
        if self.mode == base.POLL:
            receive = _polling(receive, BlockingIOError)
        return base.CopyingEnd(partial(os.write, sink), receive)

    def close(self) -> None:
        for descriptor in (*self._descriptors[0], *self._descriptors[1]):
            os.close(descriptor)


def _read_whole(source: int, message: memoryview) -> memoryview:
    done = os.readv(source, [message])
    while done < len(message):
        with suppress(BlockingIOError):
            done += os.readv(source, [message[done:]])
    return message


class SocketPair(base.Peer):
    """socket.socketpair, AF_UNIX, SOCK_STREAM."""

    title = "Unix socket pair"
    modes = (base.POLL, base.BLOCK)

    def __init__(self, length: int, mode: str) -> None:
        super().__init__(length, mode)
        self._sockets = socket.socketpair()
        for end in self._sockets:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BYTES)

    def open(self, index: int) -> base.CopyingEnd:
        end, length = self._sockets[index], self.length
        if length <= select.PIPE_BUF and self.mode == base.BLOCK:
            return base.CopyingEnd(end.sendall, partial(end.recv, length, socket.MSG_WAITALL))
        message = memoryview(bytearray(length))
        receive: Callable[[], int]
        if self.mode == base.BLOCK:
            receive = partial(end.recv_into, message, length, socket.MSG_WAITALL)
        else:
            receive = _polling(partial(end.recv_into, message, length, socket.MSG_DONTWAIT), BlockingIOError)

        def receive_whole() -> memoryview:
            done = receive()
            while done < length:
                done += end.recv_into(message[done:], length - done, socket.MSG_WAITALL)
            return message

        return base.CopyingEnd(end.sendall, receive_whole)

    def close(self) -> None:
        for end in self._sockets:
            end.close()


class PosixQueue(base.Peer):
    """posix_ipc.MessageQueue, one each way; the kernel copies, queues and wakes. By default its messages are at most 8 KiB."""

    title = "posix_ipc.MessageQueue"
    modes = (base.POLL, base.BLOCK)
    distribution = "posix_ipc"

    def __init__(self, length: int, mode: str) -> None:
        super().__init__(length, mode)
        most = int(_LONGEST_QUEUED.read_text())
        if length > most:
            raise ValueError(f"this system's message queues take messages of at most {most:,} bytes ({_LONGEST_QUEUED})")
        self._queues = [self._make(f"/{self.token}-{direction}") for direction in range(2)]

    def _make(self, name: str) -> tuple[Any, Any]:
        """The queue opened twice, to receive from and to send to: whether a call blocks is a matter of the descriptor."""
        import posix_ipc

        source = posix_ipc.MessageQueue(name, posix_ipc.O_CREX, max_message_size=self.length)
        sink = posix_ipc.MessageQueue(name)
        source.unlink()  # the processes inherit it; nothing is left behind, whatever happens to them
        source.block = self.mode == base.BLOCK
        return source, sink

    def open(self, index: int) -> base.CopyingEnd:
        import posix_ipc

        source, sink = self._queues[index][0], self._queues[1 - index][1]
        receive = source.receive if self.mode == base.BLOCK else _polling(source.receive, posix_ipc.BusyError)
        return base.CopyingEnd(sink.send, lambda: receive()[0])  # without its priority

    def close(self) -> None:
        for ends in self._queues:
            for end in ends:
                end.close()
