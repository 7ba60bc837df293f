"""How unrelated processes meet: by name, through a Unix socket in the abstract namespace, which goes with its owner.

The socket carries one segment name and the kernel's word on who asks; messages never pass through it.
"""

import contextlib
import os
import socket
import struct
import time
from typing import Self

from zcipc.channel import DEFAULT_CAPACITY, KIND, create_segment
from zcipc.connection import Connection
from zcipc.errors import Closed, NameNotFound, NameTaken, PermissionDenied, TimedOut
from zcipc.segment import Segment
from zcipc.waiting import Waiting

_CREDENTIALS = struct.Struct("iII")  # pid, user, group: struct ucred
_SEATED = b"seated"
_REFUSED = b""
_HANDSHAKE_S = 5.0
_RETRY_S = 0.01


class Listener:
    """Accepts connections under `name`, from processes of the same user.

    Args:
        name: any text of up to 80 characters, one listener a name.
        capacity, waiting: of the connections, as for `Pipe`.

    Raises:
        NameTaken: another process listens under this name.
    """

    def __init__(self, name: str, *, capacity: int = DEFAULT_CAPACITY, waiting: Waiting = Waiting.HYBRID) -> None:
        self.name = name
        self._capacity = capacity
        self._waiting = waiting
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._socket.bind(_address(name))
        except OSError as error:
            self._socket.close()
            raise NameTaken(f"another process listens as {name!r}: {error.strerror}; choose another name") from None
        self._socket.listen()

    def accept(self, *, timeout: float | None = None) -> Connection:
        """The next client's connection, both seats taken and the segment without a name.

        Raises:
            TimedOut: nobody came within `timeout` seconds.
            Closed: the listener is closed.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            if self.closed:
                raise Closed(f"the listener {self.name!r} is closed")
            self._socket.settimeout(None if deadline is None else max(deadline - time.monotonic(), 1e-6))
            try:
                client, _ = self._socket.accept()
            except TimeoutError:
                raise TimedOut(f"nobody connected to {self.name!r} within {timeout:g} s") from None
            with client:
                connection = self._welcome(client)
            if connection is not None:
                return connection

    def _welcome(self, client: socket.socket) -> Connection | None:
        """A connection with the client, or None if it may not have one or went away."""
        if _user_of(client) != os.geteuid():
            return None
        connection = Connection(create_segment(self._capacity), 0, self._waiting)
        client.settimeout(_HANDSHAKE_S)
        try:
            client.send(f"{connection._waiting.name} {connection._segment.name}".encode())
            seated = client.recv(len(_SEATED)) == _SEATED
        except OSError:
            seated = False
        if not seated:
            connection.close()
            return None
        connection._require_open()
        return connection

    @property
    def closed(self) -> bool:
        return self._socket.fileno() < 0

    def close(self) -> None:
        """Stop listening and free the name; connections stay. Idempotent."""
        with contextlib.suppress(OSError):  # closed already
            self._socket.shutdown(socket.SHUT_RDWR)  # ends an accept() in another thread; close() alone does not
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Listener {self.name!r}{', closed' if self.closed else ''}>"


def Client(name: str, *, timeout: float | None = None) -> Connection:
    """A connection to the listener `name`.

    Args:
        timeout: seconds to wait for a listener to appear and to accept. None: there must be one, and it may take any time.

    Raises:
        NameNotFound: nobody listens under this name.
        TimedOut: the listener did not accept in time.
        PermissionDenied: the listener is another user's.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    with _connected(name, deadline) as server:
        if (user := _user_of(server)) != os.geteuid():  # any user may bind any name
            raise PermissionDenied(f"user {user} listens as {name!r}, and this process belongs to user {os.geteuid()}")
        server.settimeout(None if deadline is None else max(deadline - time.monotonic(), 1e-6))
        try:
            answer = server.recv(256)
        except TimeoutError:
            raise TimedOut(f"the listener {name!r} did not accept within {timeout:g} s") from None
        except ConnectionResetError:
            answer = _REFUSED
        if answer == _REFUSED:
            raise PermissionDenied(f"the listener {name!r} refused: it is closed, or another user's")
        waiting, segment_name = answer.decode().split()
        connection = Connection(Segment.attach(KIND, segment_name), 1, Waiting[waiting])
        connection._require_open()
        server.send(_SEATED)
    return connection


def _connected(name: str, deadline: float | None) -> socket.socket:
    while True:
        server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with contextlib.ExitStack() as unless_connected:
            unless_connected.callback(server.close)
            try:
                server.connect(_address(name))
            except ConnectionRefusedError:
                if deadline is None or time.monotonic() >= deadline:
                    raise NameNotFound(f"nobody listens as {name!r}: start the listener first, or pass a timeout") from None
            else:
                unless_connected.pop_all()
                return server
        time.sleep(_RETRY_S)


def _user_of(peer: socket.socket) -> int:
    _, user, _ = _CREDENTIALS.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return int(user)


def _address(name: str) -> bytes:
    return b"\0zcipc/%d/" % os.geteuid() + name.encode()
