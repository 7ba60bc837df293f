"""Remote procedure call: a service in one process, called from others as if it were here.

    class Files:                                             # the interface: a class, or a set of functions
        def size(self, path: str) -> int: ...
        @rpc.in_place
        def read(self, path: str) -> np.ndarray: ...

    rpc.serve(RealFiles(), zcipc.Listener("files"))          # one process; RealFiles has the same methods
    files = rpc.connect(Files, "files", timeout=1.0)         # others
    files.size("data")                                       # a call
    answer = rpc.start(files.size, "data")                   # one in flight; answer.result(timeout=2), answer.cancel()

Arguments, results and exceptions are pickled: only between processes that trust each other. Arrays are written straight into
shared memory and copied out, or stay there for a method that is marked `in_place`.

The server numbers its methods. Number 0 tells names and signatures; a client asks for them when it connects and compares. They
are exchanged whole and not as a digest: a client may know only some methods, and a mismatch can say what differs.

A request is (number of the call, number of the method, arguments[, keyword arguments]), or (number of the call,) to cancel
it. A reply is (number of the call, result), or (number of the call, exception, its traceback as text).
"""

import contextlib
import functools
import itertools
import logging
import pickle
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, ParamSpec, TypeVar, cast, overload

from zcipc.compiled_rpc import CompiledService, compiled_call, compiled_service
from zcipc.connection import Connection
from zcipc.display import table
from zcipc.end import Statistics
from zcipc.errors import Closed, TimedOut, ZcipcError
from zcipc.listener import Client as connect_by_name
from zcipc.listener import Listener
from zcipc.service import Filled, Method, SignatureMismatch, Table, demand_agreement, filled, in_place, methods, one_way
from zcipc.wire import Wire

__all__ = [
    "Call", "CallStatistics", "CompiledService", "RemoteError", "RemoteTraceback", "SignatureMismatch", "compiled_call",
    "compiled_service", "connect", "disconnect", "filled", "in_place", "one_way", "serve", "start", "statistics",
]  # fmt: skip

_Interface = TypeVar("_Interface")
_Result = TypeVar("_Result")
_Parameters = ParamSpec("_Parameters")
Reply = tuple[Any, ...]
UNKNOWN: Any = None  # the number of a call that could not be read
Handlers = list[tuple[Method, Callable[..., Any]]]
_log = logging.getLogger(__name__)


class RemoteError(ZcipcError):
    """A method raised or returned what cannot be sent to the client. The message says what."""


class RemoteTraceback(Exception):
    """The cause of an exception that was raised in another process: its traceback there, as text."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


# --- the client


class Call(Generic[_Result]):
    """A call in flight, from `start`."""

    def __init__(self, client: "_Client", number: int) -> None:
        self._client = client
        self._number = number
        self._reply: Reply | None = None

    def done(self) -> bool:
        """Whether the result was received. It is received while somebody waits for it, or for another."""
        return self._reply is not None or self._client.replies.get(self._number) is not None

    def result(self, timeout: float | None = None) -> _Result:
        """What the method returned.

        Raises:
            TimedOut: not within `timeout` seconds; the call stays in flight.
            CancelledError: `cancel` came first.
            Closed, PeerDied: the server is gone, and nobody knows whether it did what was asked.
            Exception: what the method raised, with a `RemoteTraceback` as its cause.
        """
        if self._reply is None:
            self._reply = self._client.wait_for(self._number, timeout)
        return cast(_Result, result_of(self._reply))

    def cancel(self) -> None:
        """Give the call up, unless it has a result. The server does not begin it, if it has workers and did not yet."""
        if not self.done():
            self._reply = self._number, CancelledError(), ""
            self._client.cancel(self._number)

    def __repr__(self) -> str:
        return f"<Call {self._number}, {'done' if self.done() else 'in flight'}>"

    def __del__(self) -> None:
        self._client.replies.pop(self._number, None)


def result_of(reply: Reply) -> Any:
    if len(reply) == 2:
        return reply[1]
    _, error, text = reply
    raise error from RemoteTraceback(text) if text else None


class _Method:
    """A method of a proxy."""

    def __init__(self, client: "_Client", method: Method, number: int) -> None:
        self._client, self._number = client, number
        self.one_way, self._in_place = method.one_way, method.in_place

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        client = self._client
        if self.one_way:
            client.wire.send((UNKNOWN, self._number, args, kwargs), client.timeout, self._in_place)
            return None
        number = self.send(args, kwargs)
        try:
            reply = client.wait_for(number, client.timeout)
        except BaseException:
            client.cancel(number)
            raise
        return reply[1] if len(reply) == 2 else result_of(reply)

    def send(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        """Begin a call; its number."""
        client = self._client
        number = next(client.numbers)
        client.replies[number] = None
        try:
            client.wire.send(
                (number, self._number, args, kwargs) if kwargs else (number, self._number, args), client.timeout, self._in_place
            )
        except BaseException:
            del client.replies[number]
            raise
        return number

    def start(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call[Any]:
        return Call(self._client, self.send(args, kwargs))


class _Client:
    """The calls in flight on one connection.

    Whoever waits for a result receives for all: the first one leads, gives the others their replies, and hands the lead on.
    """

    def __init__(self, wire: Wire, timeout: float | None) -> None:
        self.wire = wire
        self.timeout = timeout
        self.numbers: itertools.count[int] = itertools.count()
        self.replies: dict[int, Reply | None] = {}  # of the calls in flight; None until it is there
        self._lock = threading.Lock()  # of what follows
        self._led = False
        self._followers: list[tuple[int, threading.Lock]] = []
        wire.while_full = self._receive_what_is_there

    def wait_for(self, number: int, timeout: float | None) -> Reply:
        """The reply to a call, which is then in flight no longer."""
        deadline = None if timeout is None else time.monotonic() + timeout
        replies = self.replies
        while True:
            with self._lock:
                if replies[number] is not None:
                    return cast(Reply, replies.pop(number))
                if not self._led:
                    self._led = True
                    break
                turn = threading.Lock()
                turn.acquire()
                self._followers.append((number, turn))
            if not turn.acquire(timeout=-1 if deadline is None else max(deadline - time.monotonic(), 0)):
                with self._lock:
                    if (number, turn) in self._followers:  # else there is a reply, or this thread was chosen to lead
                        self._followers.remove((number, turn))
                        raise TimedOut(f"call {number} was not answered within {timeout:g} s")
        try:
            while replies[number] is None:
                self._receive(deadline)
        finally:
            self._hand_on()
        return cast(Reply, replies.pop(number))

    def _hand_on(self) -> None:
        with self._lock:
            self._led = False
            if self._followers:
                self._followers.pop(0)[1].release()

    def _receive_what_is_there(self) -> None:
        """Make room for the server's replies: it may be that what waits for room here waits for that."""
        with self._lock:
            if self._led:
                return
            self._led = True
        try:
            while self.wire.holds_message():
                self._receive(None)
        finally:
            self._hand_on()

    def _receive(self, deadline: float | None) -> None:
        """Receive a reply, and give it to its call."""
        try:
            reply = self.wire.receive(None if deadline is None else max(deadline - time.monotonic(), 0))
        except TimedOut:
            raise
        except Exception as error:  # the end, or a reply of whose call nobody knows
            reply = UNKNOWN, error, ""
        if reply[0] in self.replies:  # else it was given up meanwhile
            self.replies[reply[0]] = reply
        elif reply[0] is UNKNOWN:
            for number in list(self.replies):
                self.replies[number] = reply
        if self._followers:
            with self._lock:
                for follower in [one for one in self._followers if self.replies.get(one[0], reply) is not None]:
                    self._followers.remove(follower)
                    follower[1].release()

    def in_flight(self) -> int:
        return len(self.replies)

    def cancel(self, number: int) -> None:
        """Give a call up, and tell the server if that is possible at once."""
        if self.replies.pop(number, None) is None:
            with contextlib.suppress(TimedOut, Closed):
                self.wire.send((number,), 0.0)


class Proxy:
    """Has an attribute for each method, which calls it at the server."""

    def __init__(self, client: Any, calls: Mapping[str, Callable[..., Any]], interface: Any) -> None:
        self._client = client
        self._interface = getattr(interface, "__name__", "functions")
        self.__dict__.update(calls)

    def __repr__(self) -> str:
        return f"<proxy of {self._interface} over {self._client.wire.connection!r}>"

    def _repr_html_(self) -> str:
        return table(f"proxy of {self._interface}", repr(self._client.wire.connection), statistics(self))


@dataclass(frozen=True, slots=True)
class CallStatistics:
    """A client at one moment.

    Attributes:
        in_flight: calls without a result, or whose result nobody asked for yet.
        connection: what it goes through; each call that is not one-way is a message sent and one received. Connecting is one.
    """

    in_flight: int
    connection: Statistics


def statistics(proxy: Any) -> CallStatistics:
    """A snapshot of a proxy, also one of `zcipc.aio`. A server has those of its connections."""
    client = proxy._client
    return CallStatistics(client.in_flight(), client.wire.connection.statistics())


DESCRIBE = Method("describe", "", one_way=False, in_place=False)


@overload
def connect(
    interface: Callable[..., _Interface], where: str | Connection | Wire, *, timeout: float | None = None
) -> _Interface: ...
@overload
def connect(
    interface: Iterable[Callable[..., Any]], where: str | Connection | Wire, *, timeout: float | None = None
) -> Any: ...
def connect(interface: Any, where: str | Connection | Wire, *, timeout: float | None = None) -> Any:
    """A proxy with the methods of `interface`, each of which is a call. Safe for several threads.

    Args:
        interface: a class, or a set of functions; only names, signatures and markers are looked at.
        where: the name of a listener, or a connection to the server.
        timeout: of each call, and of connecting, in seconds.

    Raises:
        SignatureMismatch: the server's methods are others.
        NameNotFound, TimedOut, PermissionDenied, Closed, PeerDied: there is no connection.
    """
    wire = wire_to(connect_by_name(where, timeout=timeout) if isinstance(where, str) else where)
    client = _Client(wire, timeout)
    wanted = [method for method, _ in methods(interface).values()]
    try:
        numbers = demand_agreement(wanted, _Method(client, DESCRIBE, 0)())
    except BaseException:
        if isinstance(where, str):
            wire.close()
        raise
    return Proxy(client, {one.name: _Method(client, one, numbers[one.name]) for one in wanted}, interface)


def wire_to(where: Connection | Wire) -> Wire:
    return where if isinstance(where, Wire) else Wire(where)


def start(method: Callable[_Parameters, _Result], *args: _Parameters.args, **kwargs: _Parameters.kwargs) -> Call[_Result]:
    """Call `method` of a proxy, and do not wait: `start(files.size, "data")`. Any number may be in flight.

    Raises:
        TypeError: it is not the method of a proxy, or one-way.
    """
    if not isinstance(method, _Method) or method.one_way:
        raise TypeError(f"{method!r} is not a method of a proxy that answers")
    return method.start(args, kwargs)


def disconnect(proxy: Any) -> None:
    """Close the connection of a proxy. Calls in flight end with `Closed`."""
    proxy._client.wire.close()


# --- the server


def handlers_of(service: Any) -> Handlers:
    """The methods of a service by their numbers."""
    offered = methods(service)
    table: Table = (("describe", ""), *((name, method.signature) for name, (method, _) in offered.items()))
    return [(DESCRIBE, lambda: table), *offered.values()]


def failure(number: int | None, error: BaseException) -> Reply:
    """The reply of a call that raised."""
    text = "".join(traceback.format_exception(error))
    if number is UNKNOWN:
        _log.error("a call that nobody waits for failed:\n%s", text)
    try:
        pickle.loads(pickle.dumps(error))  # many exceptions fail only at the second
    except Exception:
        error = RemoteError(f"{type(error).__name__}, which cannot be pickled: {error}")
    return number, error, text


def serve(service: Any, where: Listener | Connection | Wire, *, workers: int = 0) -> None:
    """Answer calls until the client or, at a listener, until the listener is closed.

    Each client of a listener has a thread, so the service must be safe for threads if there are several.

    Args:
        service: an object, a set of functions, or a mapping from names to functions.
        workers: threads for each client, which may then have as many calls under way at once; 0: one after the other.
    """
    handlers = handlers_of(service)
    if isinstance(where, Listener):
        _serve_all(handlers, where, workers)
    else:
        _serve_one(handlers, wire_to(where), workers)


def _serve_all(handlers: Handlers, listener: Listener, workers: int) -> None:
    clients: dict[threading.Thread, Connection] = {}
    try:
        while True:
            connection = listener.accept()
            clients = {thread: client for thread, client in clients.items() if thread.is_alive()}
            thread = threading.Thread(target=_serve_one, args=(handlers, Wire(connection), workers), daemon=True)
            clients[thread] = connection
            thread.start()
    except Closed:
        return
    finally:
        for thread, connection in clients.items():
            connection.close()
            thread.join()


def _serve_one(handlers: Handlers, wire: Wire, workers: int) -> None:
    with contextlib.ExitStack() as stack:
        stack.callback(wire.close)
        under_way: dict[int | None, Future[None]] = {}
        pool = ThreadPoolExecutor(workers) if workers else None
        if pool is not None:
            stack.callback(pool.shutdown, cancel_futures=True)
        with contextlib.suppress(Closed):
            while True:
                try:
                    request = wire.receive()
                except Closed:
                    return
                except Exception as error:  # it was received, and cannot be unpickled here
                    wire.send(failure(UNKNOWN, error))
                    continue
                if pool is None:
                    if len(request) > 1:
                        _answer(handlers, wire, *request)
                elif len(request) == 1:
                    if request[0] in under_way:
                        under_way[request[0]].cancel()
                else:
                    number = request[0]
                    under_way[number] = future = pool.submit(_answer, handlers, wire, *request)
                    future.add_done_callback(functools.partial(_forget, under_way, number))
                del request  # arrays that lie in the message


def _forget(under_way: dict[int | None, Future[None]], number: int | None, _done: Future[None]) -> None:
    under_way.pop(number, None)


def _answer(handlers: Handlers, wire: Wire, number: int | None, index: int, args: Any, kwargs: Any = None) -> None:
    """Do one call and reply. Raises Closed if nobody is there to be told."""
    try:
        method, function = handlers[index]
        result = function(*args, **kwargs) if kwargs else function(*args)
        if number is UNKNOWN:
            return
        if type(result) is Filled:
            wire.send((number, result.room), None, method.in_place, result.write)
        else:
            wire.send((number, result), None, method.in_place)
    except Exception as error:  # of the method, or its result cannot be sent
        if (failed := failure(number, error))[0] is not UNKNOWN:
            wire.send(failed)
