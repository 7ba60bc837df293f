"""What carries the calls: zcipc, and the kernel's pipes and Unix sockets, made as good as they get.

Over a pipe or a socket an array is written from where it lies and read to where it stays: pickled out of band, with one copy by
the kernel into its buffers and one out of them. Only the shared memory is missing.
"""

import contextlib
import fcntl
import os
import pickle
import socket
import struct
import time
from collections.abc import Callable
from typing import Protocol

import numpy as np

import zcipc
from zcipc.calls.wire import Message, Wire
from zcipc.errors import Closed, NameNotFound, PeerDied

PROCESSES = 3  # application, file server, driver
CAPACITY = 4 << 20  # bytes, of a connection of zcipc
PIPE_BYTES = 1 << 20  # what an unprivileged process may have in a pipe
PATIENCE_S = 20.0  # for a server to appear
_RETRY_S = 0.001
_HEAD = struct.Struct("<qq")  # bytes of the pickle, arrays that follow; their sizes come next
_CREDENTIAL = b"pipes"


class Accepting(Protocol):
    """Where clients come."""

    def accept(self) -> Wire: ...


class Transport(Protocol):
    """A way to meet by name."""

    def listen(self, name: str) -> Accepting: ...
    def connect(self, name: str) -> Wire: ...


class SharedMemory:
    """zcipc."""

    class _Listener:
        def __init__(self, name: str) -> None:
            # With fewer cores than processes, one that spins keeps another from answering.
            waiting = zcipc.Waiting.HYBRID if (os.cpu_count() or 1) >= PROCESSES else zcipc.Waiting.BLOCK
            self._listener = zcipc.Listener(name, capacity=CAPACITY, waiting=waiting)

        def accept(self) -> Wire:
            return Wire(self._listener.accept())

    def listen(self, name: str) -> Accepting:
        return self._Listener(name)

    def connect(self, name: str) -> Wire:
        return Wire(zcipc.Client(name, timeout=PATIENCE_S))


class Stream(Wire):
    """Messages over two descriptors of the kernel."""

    def __init__(self, reading: int, writing: int) -> None:
        self._reading, self._writing = reading, writing
        self._open = {reading, writing}

    def send(
        self,
        message: Message,
        timeout: float | None = None,
        in_place: bool = False,
        fill: Callable[[memoryview], object] | None = None,
    ) -> None:
        buffers: list[pickle.PickleBuffer] = []
        data = pickle.dumps(message, protocol=5, buffer_callback=buffers.append)
        views = [buffer.raw() for buffer in buffers]
        if fill is not None:
            fill(views[0])
        sizes = struct.pack(f"<{len(views)}q", *(view.nbytes for view in views))
        try:
            self._write(memoryview(_HEAD.pack(len(data), len(views)) + sizes + data))
            for view in views:
                self._write(view)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise PeerDied(f"the other end is gone: {error}") from None

    def receive(self, timeout: float | None = None) -> Message:
        data_bytes, count = _HEAD.unpack(self._read(_HEAD.size))
        sizes = struct.unpack(f"<{count}q", self._read(8 * count))
        data = self._read(data_bytes)
        message: Message = pickle.loads(data, buffers=[self._read(size) for size in sizes])
        return message

    def close(self) -> None:
        descriptors, self._open = self._open, set()
        for descriptor in descriptors:
            os.close(descriptor)

    def holds_message(self) -> bool:
        return False

    def _write(self, view: memoryview) -> None:
        while view.nbytes:
            view = view[os.write(self._writing, view) :]

    def _read(self, size: int) -> memoryview:
        content = np.empty(size, np.uint8).data  # not cleared first, as a bytearray is
        view = content
        while view.nbytes:
            try:
                got = os.readv(self._reading, [view])
            except ConnectionResetError:
                got = 0
            if got == 0:
                raise PeerDied("the other end is gone")
            view = view[got:]
        return content


class Sockets:
    """Unix sockets, a connection each."""

    class _Listener:
        def __init__(self, listening: socket.socket, welcome: Callable[[socket.socket], Wire]) -> None:
            self._socket, self._welcome = listening, welcome

        def accept(self) -> Wire:
            return self._welcome(self._socket.accept()[0])

    def listen(self, name: str) -> Accepting:
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(_address(name))
        listening.listen()
        return self._Listener(listening, self._welcome)

    def connect(self, name: str) -> Wire:
        return self._enter(_connected(name))

    def _welcome(self, client: socket.socket) -> Wire:
        descriptor = client.detach()
        return Stream(descriptor, descriptor)

    def _enter(self, server: socket.socket) -> Wire:
        return self._welcome(server)


class Pipes(Sockets):
    """Two pipes for each connection, handed over through a socket."""

    def _welcome(self, client: socket.socket) -> Wire:
        (ours_in, theirs_out), (theirs_in, ours_out) = _pipe(), _pipe()
        with client:
            socket.send_fds(client, [_CREDENTIAL], [theirs_in, theirs_out])
        os.close(theirs_in)
        os.close(theirs_out)
        return Stream(ours_in, ours_out)

    def _enter(self, server: socket.socket) -> Wire:
        descriptors: list[int] = []
        with server, contextlib.suppress(ConnectionResetError):
            _, descriptors, _, _ = socket.recv_fds(server, len(_CREDENTIAL), 2)
        if len(descriptors) != 2:
            raise Closed("the server went away before it handed over its pipes")
        return Stream(*descriptors)


def _pipe() -> tuple[int, int]:
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    return reading, writing


def _connected(name: str) -> socket.socket:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        server = socket.socket(socket.AF_UNIX)
        try:
            server.connect(_address(name))
        except ConnectionRefusedError:
            server.close()
            if time.monotonic() > deadline:
                raise NameNotFound(f"nobody listens as {name!r}") from None
            time.sleep(_RETRY_S)
        else:
            return server


def _address(name: str) -> bytes:
    return b"\0zcipc-lab/" + name.encode()


TRANSPORTS: dict[str, Transport] = {"zcipc_loan": SharedMemory(), "pipe": Pipes(), "socketpair": Sockets()}
"""By the names that figures know them by."""
