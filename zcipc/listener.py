"""How unrelated processes meet: by name, through a Unix socket in the abstract namespace, which goes with its owner.

The socket carries one segment name and the kernel's word on who asks; messages never pass through it.
"""

import contextlib
import hmac
import math
import multiprocessing.connection
import os
import secrets
import select
import socket
import struct
import threading
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from multiprocessing import AuthenticationError
from typing import Any, NamedTuple, Self

from zcipc.algorithms.waiting import Waiting
from zcipc.connection import Connection, Manner
from zcipc.display import A_NAME, Displayed
from zcipc.ends.end import DEFAULT_CAPACITY, KIND, acquired, create_segment
from zcipc.errors import Closed, NameNotFound, NameTaken, PermissionDenied, TimedOut
from zcipc.memory.segment import Segment

_CREDENTIALS = struct.Struct("iII")  # pid, user, group: struct ucred
_CHALLENGE, _REFUSED, _SEATED = b"challenge", b"refused", b"seated"
PACKET = 512  # bytes; none is as long
_NONCE = 32  # bytes
_HANDSHAKE_S = 5.0
RETRY_S = 0.01

_Steps = Generator[None, bytes, Connection]
"""One side of a handshake. It goes on, at each `yield`, with the next packet of the other side; an empty one is the end."""


class _Guest(NamedTuple):
    """A client that came, and is not accepted yet."""

    steps: _Steps
    patience: float  # when it ends


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
        self._closed = False
        self._accepting = threading.Lock()
        self._guests: dict[socket.socket, _Guest] = {}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._socket.bind(_address(self.address))
        except OSError as error:
            self._socket.close()
            raise NameTaken(f"another process listens as {self.address!r}: {error.strerror}; choose another name") from None
        self._socket.setblocking(False)
        self._socket.listen(backlog)

    def accept(self, *, timeout: float | None = None) -> Connection:
        """The next client's connection, both seats taken and the segment without a name.

        Raises:
            TimedOut: nobody came within `timeout` seconds.
            Closed: the listener is closed.
            multiprocessing.AuthenticationError: a client does not know the secret.
        """
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        if acquired(self._accepting, timeout):
            try:
                while True:
                    for client in self._ready(deadline):
                        if client is self._socket:
                            self._open_door()
                        elif (connection := self._go_on(client)) is not None:
                            return connection
                    if time.monotonic() >= deadline:
                        break
            finally:
                self._accepting.release()
                if self.closed:
                    self._clean_up()
        raise TimedOut(f"nobody connected to {self.address!r} within {timeout:g} s")

    def _ready(self, deadline: float) -> list[socket.socket]:
        """Who has something to say, by the deadline: a guest, or the listening socket for one to come."""
        self._require_open()
        until = min([deadline, *(guest.patience for guest in self._guests.values())])
        left = None if until == math.inf else max(until - time.monotonic(), 0)
        ready: list[Any] = multiprocessing.connection.wait([self._socket, *self._guests], left)
        for client, guest in list(self._guests.items()):
            if client not in ready and time.monotonic() >= guest.patience:
                self._dismiss(client)
        return ready

    def _require_open(self) -> None:
        if self.closed:
            raise Closed(f"the listener {self.address!r} is closed")

    def _open_door(self) -> None:
        self._require_open()
        try:
            client, _ = self._socket.accept()
        except BlockingIOError:
            self._require_open()  # another thread may have closed it
            if _hung_up(self._socket):
                raise Closed(f"the listener {self.address!r} was closed by another process that has it") from None
            return  # the client went away meanwhile
        client.setblocking(False)
        self._guests[client] = _Guest(self._welcome(client), time.monotonic() + _HANDSHAKE_S)
        self._step(client, None)

    def _go_on(self, client: socket.socket) -> Connection | None:
        try:
            packet = client.recv(PACKET)
        except ConnectionResetError:
            packet = b""
        return self._step(client, packet)

    def _step(self, client: socket.socket, packet: bytes | None) -> Connection | None:
        """Go on with the welcome of a guest; its connection once that is complete."""
        try:
            self._guests[client].steps.send(packet)  # type: ignore[arg-type]  # None begins
        except StopIteration as welcome:
            self._dismiss(client)
            connection: Connection = welcome.value
            return connection
        except ConnectionError:  # it went away, or was refused
            self._dismiss(client)
        except BaseException:
            self._dismiss(client)
            raise
        return None

    def _dismiss(self, client: socket.socket) -> None:
        self._guests.pop(client).steps.close()
        client.close()

    def _welcome(self, client: socket.socket) -> _Steps:
        """A connection with the client.

        Raises:
            ConnectionError: it may not have one, or went away.
            multiprocessing.AuthenticationError: it does not know the secret.
        """
        pid, user = _process_of(client)
        if user != os.geteuid():
            client.send(_REFUSED)
            raise ConnectionRefusedError(f"user {user} may not connect to {self.address!r}")
        proof = b""
        if self._authkey is not None:
            nonce = secrets.token_bytes(_NONCE)
            client.send(_CHALLENGE + nonce)
            answer = yield
            if not answer:
                raise ConnectionResetError("the client went away")
            nonces = nonce + answer[:_NONCE]
            if not hmac.compare_digest(answer[_NONCE:], _proof(self._authkey, b"client", nonces)):
                client.send(_REFUSED)
                raise AuthenticationError(f"process {pid} does not know the secret of {self.address!r}")
            proof = _proof(self._authkey, b"listener", nonces)
        connection = Connection(create_segment(self._capacity), 0, self._manner)
        with contextlib.ExitStack() as unless_seated:
            unless_seated.callback(connection.close)
            connection._require_open()  # takes the seat: whoever sits down opposite will be told if this process dies
            manner = f"{self._manner.waiting.name} {self._manner.allow_pickle:d} {connection._segment.name}"
            client.send(proof + manner.encode())
            if (yield) != _SEATED:
                raise ConnectionResetError("the client went away")
            unless_seated.pop_all()
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
        return self._closed

    def close(self) -> None:
        """Stop listening and free the name; connections stay. Idempotent. A process forked meanwhile stops as well."""
        self._closed = True
        with contextlib.suppress(OSError):  # closed already
            self._socket.shutdown(socket.SHUT_RDWR)  # ends an accept() in another thread
        self._clean_up()

    def _clean_up(self) -> None:
        if self._accepting.acquire(blocking=False):  # else the thread that accepts does it
            self._socket.close()
            for client in list(self._guests):
                self._dismiss(client)
            self._accepting.release()

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
        timeout: seconds to wait for a listener to appear and to accept, and for the next one if it ends before. None: there
            must be one, and it may take any time.

    Raises:
        NameNotFound: nobody listens under this name, or who did ended before it accepted.
        TimedOut: the listener did not accept in time.
        PermissionDenied: the listener is another user's.
        multiprocessing.AuthenticationError: one of both does not know the secret.
    """
    authkey = _checked(address, family, authkey)
    deadline = math.inf if timeout is None else time.monotonic() + timeout
    while True:
        try:
            if (server := knock(address)) is not None:
                with server:
                    steps = enter(server, address, authkey)
                    next(steps)
                    while True:
                        server.settimeout(None if deadline == math.inf else max(deadline - time.monotonic(), 1e-6))
                        steps.send(server.recv(PACKET))
        except StopIteration as entered:
            connection: Connection = entered.value
            return connection
        except NameNotFound:
            if timeout is None or time.monotonic() >= deadline:
                raise
        except (TimeoutError, ConnectionError):  # the listener went away before it accepted, and another may come
            pass
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimedOut(f"the listener {address!r} did not accept within {timeout:g} s")
        time.sleep(min(RETRY_S, left))


def _hung_up(server: socket.socket) -> bool:
    """Whether a listening socket was shut down, which nothing else tells: it stays readable, and nobody comes."""
    poller = select.poll()
    poller.register(server, 0)
    return any(event & select.POLLHUP for _, event in poller.poll(0))


def knock(address: str) -> socket.socket | None:
    """A socket that waits at the door of the listener `address`, or None if too many do already. Never waits.

    Raises:
        NameNotFound: nobody listens under this name.
    """
    server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    server.setblocking(False)
    with contextlib.ExitStack() as unless_connected:
        unless_connected.callback(server.close)
        try:
            server.connect(_address(address))
        except ConnectionRefusedError:
            raise NameNotFound(f"nobody listens as {address!r}: start the listener first, or pass a timeout") from None
        except BlockingIOError:
            return None
        unless_connected.pop_all()
    return server


def enter(server: socket.socket, address: str, authkey: bytes | None) -> _Steps:
    """A connection with the listener at whose door the socket waits.

    Raises:
        ConnectionError: it went away.
        PermissionDenied, multiprocessing.AuthenticationError: as for `Client`.
    """
    if (user := _process_of(server)[1]) != os.geteuid():  # any user may bind any name
        raise PermissionDenied(f"user {user} listens as {address!r}, and this process belongs to user {os.geteuid()}")
    answer = yield
    if answer.startswith(_CHALLENGE):
        if authkey is None:
            raise AuthenticationError(f"the listener {address!r} asks for a secret: pass its authkey")
        nonce = secrets.token_bytes(_NONCE)
        nonces = answer.removeprefix(_CHALLENGE) + nonce
        server.send(nonce + _proof(authkey, b"client", nonces))
        answer = yield
        if answer == _REFUSED:
            raise AuthenticationError(f"the listener {address!r} has another secret than this client")
        proof = _proof(authkey, b"listener", nonces)
        if answer and not hmac.compare_digest(answer[: len(proof)], proof):
            raise AuthenticationError(f"who listens as {address!r} does not know the secret")
        answer = answer[len(proof) :]
    elif answer and answer != _REFUSED and authkey is not None:
        raise AuthenticationError(f"the listener {address!r} asks for no secret: leave the authkey out")
    if not answer:
        raise ConnectionResetError(f"the listener {address!r} went away")
    if answer == _REFUSED:
        raise PermissionDenied(f"the listener {address!r} is another user's, who refused")
    waiting, allow_pickle, segment_name = answer.decode().split()
    try:
        segment = Segment.attach(KIND, segment_name)
    except NameNotFound:
        raise ConnectionResetError(f"the listener {address!r} went away") from None
    connection = Connection(segment, 1, Manner(Waiting[waiting], allow_pickle == "1"))
    with contextlib.ExitStack() as unless_seated:
        unless_seated.callback(connection.close)
        connection._require_open()
        server.send(_SEATED)
        unless_seated.pop_all()
    return connection


def _proof(authkey: bytes, side: bytes, nonces: bytes) -> bytes:
    """That a side knows the secret: different for the two, so that none can be sent back as one's own."""
    return hmac.digest(authkey, side + nonces, "sha256")


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
