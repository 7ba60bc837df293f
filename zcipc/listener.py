"""How unrelated processes meet: by name, through a Unix socket in the abstract namespace, which goes with its owner.

The socket carries one segment name and the kernel's word on who asks; messages never pass through it.
"""

import contextlib
import errno
import os
import secrets
import socket
import struct
import time
from dataclasses import dataclass, field
from multiprocessing import AuthenticationError
from multiprocessing.connection import answer_challenge, deliver_challenge
from typing import Any, Self

from zcipc.connection import Connection, Manner
from zcipc.display import A_NAME, Displayed
from zcipc.end import DEFAULT_CAPACITY, KIND, create_segment
from zcipc.errors import Closed, NameNotFound, NameTaken, PermissionDenied, TimedOut
from zcipc.segment import Segment
from zcipc.waiting import Waiting

_CREDENTIALS = struct.Struct("iII")  # pid, user, group: struct ucred
_SEATED = b"seated"
_REFUSED = b""
_HANDSHAKE_S = 5.0
_RETRY_S = 0.01


@dataclass(frozen=True, slots=True)
class ListenerStatistics:
    """A listener at one moment.

    Attributes:
        accepted: connections so far.
        last_accepted: number of the process whose connection was accepted last, or None.
        capacity, waiting, allow_pickle: of its connections; the capacity in bytes, as asked for.
    """

    accepted: int
    last_accepted: int | None = field(metadata=A_NAME)
    capacity: int
    waiting: Waiting
    allow_pickle: bool


class Listener(Displayed):
    """Accepts connections under a name, from processes of the same user.

    Args:
        address: the name, any text of up to 80 characters, one listener a name; a random one by default.
        family: None or "AF_UNIX"; there is no other.
        backlog: how many clients may wait to be accepted.
        authkey: a secret that clients must know, and that is never sent.
        capacity, waiting, allow_pickle: of the connections, as for `Pipe`.

    Attributes:
        address: the name.
        last_accepted: number of the process whose connection was accepted last, or None.

    Raises:
        NameTaken: another process listens under this name.
        ValueError: `address` or `family` is not of a name.
    """

    def __init__(
        self,
        address: str | None = None,
        family: str | None = None,
        backlog: int = socket.SOMAXCONN,
        authkey: bytes | None = None,
        *,
        capacity: int = DEFAULT_CAPACITY,
        waiting: Waiting = Waiting.HYBRID,
        allow_pickle: bool = True,
    ) -> None:
        self.address: str = secrets.token_hex(16) if address is None else address
        self.last_accepted: int | None = None
        self._accepted = 0
        self._capacity = capacity
        self._manner = Manner(waiting, allow_pickle)
        self._authkey = _checked(self.address, family, authkey)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._socket.bind(_address(self.address))
        except OSError as error:
            self._socket.close()
            raise NameTaken(f"another process listens as {self.address!r}: {error.strerror}; choose another name") from None
        self._socket.listen(backlog)

    def accept(self, *, timeout: float | None = None) -> Connection:
        """The next client's connection, both seats taken and the segment without a name.

        Raises:
            TimedOut: nobody came within `timeout` seconds.
            Closed: the listener is closed.
            multiprocessing.AuthenticationError: a client does not know the secret.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            if self.closed:
                raise Closed(f"the listener {self.address!r} is closed")
            self._socket.settimeout(None if deadline is None else max(deadline - time.monotonic(), 1e-6))
            try:
                client, _ = self._socket.accept()
            except TimeoutError:
                raise TimedOut(f"nobody connected to {self.address!r} within {timeout:g} s") from None
            except OSError as error:
                if error.errno not in (errno.EBADF, errno.EINVAL):
                    raise
                raise Closed(f"the listener {self.address!r} was closed meanwhile") from None
            with client:
                connection = self._welcome(client)
            if connection is not None:
                return connection

    def _welcome(self, client: socket.socket) -> Connection | None:
        """A connection with the client, or None if it may not have one or went away."""
        pid, user = _process_of(client)
        if user != os.geteuid():
            return None
        client.settimeout(_HANDSHAKE_S)
        if self._authkey is not None:
            try:
                deliver_challenge(_Packets(client), self._authkey)  # type: ignore[arg-type]
                answer_challenge(_Packets(client), self._authkey)  # type: ignore[arg-type]
            except OSError:  # it went away, or is silent
                return None
        connection = Connection(create_segment(self._capacity), 0, self._manner)
        try:
            client.send(f"{self._manner.waiting.name} {self._manner.allow_pickle:d} {connection._segment.name}".encode())
            seated = client.recv(len(_SEATED)) == _SEATED
        except OSError:
            seated = False
        if not seated:
            connection.close()
            return None
        connection._require_open()
        self.last_accepted = pid
        self._accepted += 1
        return connection

    def statistics(self) -> ListenerStatistics:
        """A snapshot, open or closed."""
        return ListenerStatistics(
            self._accepted, self.last_accepted, self._capacity, self._manner.waiting, self._manner.allow_pickle
        )

    @property
    def closed(self) -> bool:
        """Whether it was closed here."""
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

    def _label(self) -> str:
        return f"Listener {self.address!r}"

    def _condition(self) -> str:
        return "closed" if self.closed else "open"


def Client(
    address: str, family: str | None = None, authkey: bytes | None = None, *, timeout: float | None = None
) -> Connection:
    """A connection to the listener `address`.

    Args:
        family, authkey: as for `Listener`.
        timeout: seconds to wait for a listener to appear and to accept. None: there must be one, and it may take any time.

    Raises:
        NameNotFound: nobody listens under this name.
        TimedOut: the listener did not accept in time.
        PermissionDenied: the listener is another user's.
        multiprocessing.AuthenticationError: one of both does not know the secret.
    """
    authkey = _checked(address, family, authkey)
    deadline = None if timeout is None else time.monotonic() + timeout
    with _connected(address, deadline) as server:
        if (user := _process_of(server)[1]) != os.geteuid():  # any user may bind any name
            raise PermissionDenied(f"user {user} listens as {address!r}, and this process belongs to user {os.geteuid()}")
        server.settimeout(None if deadline is None else max(deadline - time.monotonic(), 1e-6))
        try:
            if authkey is not None:
                answer_challenge(_Packets(server), authkey)  # type: ignore[arg-type]
                deliver_challenge(_Packets(server), authkey)  # type: ignore[arg-type]
            answer = server.recv(256)
        except TimeoutError:
            raise TimedOut(f"the listener {address!r} did not accept within {timeout:g} s") from None
        except ConnectionResetError:
            answer = _REFUSED
        except AssertionError:  # what answer_challenge() raises before Python 3.12
            raise AuthenticationError(f"the listener {address!r} asks for no secret: leave the authkey out") from None
        if answer == _REFUSED:
            raise PermissionDenied(f"the listener {address!r} refused: it is closed, or another user's")
        try:
            waiting, allow_pickle, segment_name = answer.decode().split()
        except ValueError:
            raise AuthenticationError(f"the listener {address!r} asks for a secret: pass its authkey") from None
        manner = Manner(Waiting[waiting], allow_pickle == "1")
        connection = Connection(Segment.attach(KIND, segment_name), 1, manner)
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


def _process_of(peer: socket.socket) -> tuple[int, int]:
    """Number and user of the process at the other end, on the kernel's word."""
    pid, user, _ = _CREDENTIALS.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return pid, user


def _address(name: str) -> bytes:
    return b"\0zcipc/%d/" % os.geteuid() + name.encode()


def _checked(address: Any, family: str | None, authkey: bytes | None) -> bytes | None:
    """The key, if all three are what they should be."""
    if not isinstance(address, str):
        raise ValueError(
            f"{address!r} is not a name: zcipc connects processes of one machine, through its memory; "
            "for another machine use multiprocessing.connection"
        )
    if family not in (None, "AF_UNIX"):
        raise ValueError(f"family {family!r}: zcipc has one kind of address, a name; leave the family out")
    if authkey is not None and not isinstance(authkey, bytes):
        raise TypeError(f"authkey is {type(authkey).__name__}, and must be bytes")
    return authkey


class _Packets:
    """A socket of packets, as the standard library's challenges want it."""

    def __init__(self, packets: socket.socket) -> None:
        self.send_bytes = packets.send
        self._receive = packets.recv

    def recv_bytes(self, maxlength: int) -> bytes:
        packet = self._receive(maxlength)
        if not packet:
            raise ConnectionResetError("the other side went away")
        return packet
