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

A request says the number of the method, or CANCEL. Its content is the tuple of the arguments; or a list of that and the keyword
arguments; or the only argument, if that is bytes or an array, which skip pickle. A reply says RESULT or ERROR. Its content is
the result, or the exception and its traceback as text.
"""

import contextlib
import functools
import inspect
import itertools
import logging
import math
import pickle
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import AuthenticationError
from typing import Any, Generic, ParamSpec, TypeVar, cast, overload

import numpy as np

from zcipc.calls.compiled import CompiledService, compiled_call, compiled_service
from zcipc.calls.service import Filled, Method, SignatureMismatch, Table, demand_agreement, filled, in_place, methods, one_way
from zcipc.calls.wire import Message, Unreadable, Wire
from zcipc.connection import Connection
from zcipc.display import table
from zcipc.ends.end import Statistics, acquired
from zcipc.errors import Closed, TimedOut, ZcipcError
from zcipc.listener import Client as connect_by_name
from zcipc.listener import Listener

__all__ = [
    "Call", "CallStatistics", "CompiledService", "RemoteError", "RemoteTraceback", "SignatureMismatch", "compiled_call",
    "compiled_service", "connect", "disconnect", "filled", "in_place", "one_way", "serve", "start", "statistics",
]  # fmt: skip

_Interface = TypeVar("_Interface")
_Result = TypeVar("_Result")
_Parameters = ParamSpec("_Parameters")
UNKNOWN = -1  # the number of a call that is not answered
CANCEL = -1  # what a message says of its call, where it is no number of a method
RESULT, ERROR = 0, 1
Handlers = list[tuple[Method, Callable[..., Any]]]
_ALONE = (bytes, np.ndarray)  # types of an only argument that is content by itself
NEVER = math.inf
log: logging.Logger = logging.getLogger(__name__)


class RemoteError(ZcipcError):
    """A method raised or returned what cannot be sent to the client. The message says what."""


class RemoteTraceback(Exception):
    """The cause of an exception that was raised in another process: its traceback there, as text."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


# --- the client


class Call(Generic[_Result]):
    """A call in flight, from `start`. For one thread at a time."""

    def __init__(self, client: "_Client", number: int, name: str) -> None:
        self._client = client
        self._number = number
        self._name = name
        self._reply: Message | None = None

    def done(self) -> bool:
        """Whether the result is there, so that `result` would not wait."""
        if self._reply is None:
            self._client.receive_what_is_there()
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
            try:
                self._reply = self._client.wait_for(self._number, _deadline(timeout))
            except TimedOut:
                raise TimedOut(f"{self._name!r} has not answered within {timeout:g} s; it is still in flight") from None
        return cast(_Result, result_of(self._reply))

    def cancel(self) -> None:
        """Give the call up, unless it has a result. The server does not begin it, if it has workers and did not yet."""
        if not self.done():
            self._reply = self._number, ERROR, (CancelledError(f"{self._name!r} was cancelled"), "")
            self._client.cancel(self._number)

    def __del__(self) -> None:
        self._client.replies.pop(self._number, None)

    def __repr__(self) -> str:
        in_flight = self._reply is None and self._client.replies.get(self._number) is None
        return f"<Call {self._number} of {self._name!r}, {'in flight' if in_flight else 'done'}>"


def result_of(reply: Message) -> Any:
    _, kind, content = reply
    if kind == RESULT:
        return content
    error, text = content
    raise error from RemoteTraceback(text) if text else None


def content_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The content of a request."""
    return [args, kwargs] if kwargs else args[0] if len(args) == 1 and type(args[0]) in _ALONE else args


def called(function: Callable[..., Any], content: Any) -> Any:
    """What `function` returns for the content of a request."""
    if type(content) is tuple:
        return function(*content)
    if type(content) in _ALONE:
        return function(content)
    args, kwargs = content
    return function(*args, **kwargs)


def _deadline(timeout: float | None) -> float:
    return NEVER if timeout is None else time.monotonic() + timeout


class _Method:
    """A method of a proxy."""

    def __init__(self, client: "_Client", method: Method, number: int) -> None:
        self._client, self._number = client, number
        self.one_way, self._in_place = method.one_way, method.in_place
        self.__name__, self.__doc__ = method.name, method.signature

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        client = self._client
        timeout = client.timeout
        if self.one_way:
            client.wire.send((UNKNOWN, self._number, content_of(args, kwargs)), timeout, self._in_place)
            return None
        deadline = NEVER if timeout is None else time.monotonic() + timeout
        number = self.send(args, kwargs)
        try:
            reply = client.wait_for(number, deadline)
        except BaseException as error:
            client.cancel(number)
            if isinstance(error, TimedOut):
                raise TimedOut(f"{self.__name__!r} has not answered within {timeout:g} s, and was cancelled") from None
            raise
        return reply[2] if reply[1] == RESULT else result_of(reply)

    def send(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        """Begin a call; its number."""
        client = self._client
        replies, number = client.replies, next(client.numbers)
        replies[number] = None
        try:
            client.wire.send((number, self._number, content_of(args, kwargs)), client.timeout, self._in_place)
        except BaseException:
            del replies[number]
            raise
        return number

    def start(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call[Any]:
        return Call(self._client, self.send(args, kwargs), self.__name__)

    def __repr__(self) -> str:
        return f"<method {self.__doc__} of a proxy>"


class _Client:
    """The calls in flight on one connection.

    Whoever waits for a result receives for all: the first one leads, gives the others their replies, and hands the lead on.
    """

    def __init__(self, wire: Wire, timeout: float | None) -> None:
        self.wire = wire
        self.timeout = timeout
        self.numbers: itertools.count[int] = itertools.count()
        self.replies: dict[int, Message | None] = {}  # of the calls in flight; None until it is there
        self._lead = threading.Lock()
        self._followers: dict[threading.Lock, int] = {}  # the lock that each waits for, and the number of its call
        wire.while_full = self.receive_what_is_there

    def wait_for(self, number: int, deadline: float) -> Message:
        """The reply to a call, which is then in flight no longer."""
        replies, lead = self.replies, self._lead
        try:
            while True:
                if lead.acquire(False):  # by position, which takes half the time
                    try:
                        while replies[number] is None:
                            self._receive(deadline)
                    finally:
                        lead.release()
                elif replies[number] is None:
                    self._follow(number, deadline)
                if (reply := replies[number]) is not None:
                    del replies[number]
                    return reply
        finally:
            if self._followers:
                self._hand_on()

    def _follow(self, number: int, deadline: float) -> None:
        """Wait until the reply is there, or nobody leads, maybe.

        Raises:
            TimedOut: neither by the deadline.
        """
        turn = threading.Lock()
        turn.acquire()
        self._followers[turn] = number
        try:
            # Only now: who leads gave replies only to the followers it knew, and looks at them again when it is done.
            led = self.replies[number] is None and self._lead.locked()
            if led and not acquired(turn, deadline - time.monotonic()):
                raise TimedOut(f"call {number} was not answered in time")
        finally:
            self._followers.pop(turn, None)

    def _hand_on(self) -> None:
        if not self._lead.locked():
            for turn in list(self._followers)[:1]:
                self._wake(turn)

    def _wake(self, turn: threading.Lock) -> None:
        if self._followers.pop(turn, None) is not None:  # else another thread did, or its time is out
            turn.release()

    def receive_what_is_there(self) -> None:
        """Take the replies that have come, unless another thread is at it.

        It makes room for further ones, too: it may be that what waits for room here waits for that.
        """
        if not self._lead.acquire(False):
            return
        try:
            while self.wire.holds_message():
                self._receive(NEVER)
        finally:
            self._lead.release()
            self._hand_on()

    def _receive(self, deadline: float) -> None:
        """Receive a reply, and give it to its call."""
        try:
            reply = self.wire.receive(None if deadline == NEVER else max(deadline - time.monotonic(), 0))
        except TimedOut:
            raise
        except Unreadable as error:
            reply = error.number, ERROR, (error.__cause__, "")
        except Exception as error:  # the end
            reply = UNKNOWN, ERROR, (error, "")
        number, replies = reply[0], self.replies
        if number in replies:  # else it was given up meanwhile
            replies[number] = reply
        elif number == UNKNOWN:
            for waiting in list(replies):
                replies[waiting] = reply
        if self._followers:
            for turn, waiting in list(self._followers.items()):
                if replies.get(waiting, reply) is not None:
                    self._wake(turn)

    def in_flight(self) -> int:
        return len(self.replies)

    def cancel(self, number: int) -> None:
        """Give a call up, and tell the server if that is possible at once."""
        if self.replies.pop(number, None) is None:
            with contextlib.suppress(TimedOut, Closed):
                self.wire.send((number, CANCEL, None), 0.0)


class Proxy:
    """Has an attribute for each method, which calls it at the server."""

    def __init__(self, client: Any, calls: Mapping[str, Callable[..., Any]], interface: Any) -> None:
        self._client = client
        self._interface = getattr(interface, "__name__", "functions")
        self._names = list(calls)
        self.__dict__.update(calls)

    def __getattr__(self, name: str) -> Any:
        if name[0] == "_":  # what Python itself looks for, also before there is anything here
            raise AttributeError(name)
        raise AttributeError(f"{self._interface} has no method {name!r}; it has {', '.join(self._names)}")

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


def failure(number: int, error: BaseException) -> Message:
    """The reply of a call that raised."""
    text = "".join(traceback.format_exception(error))
    if number == UNKNOWN:
        log.error("a call that nobody waits for failed:\n%s", text)
    try:
        pickle.loads(pickle.dumps(error))  # many exceptions fail only at the second
    except Exception:
        error = RemoteError(f"{type(error).__name__}, which cannot be pickled: {error}")
    return number, ERROR, (error, text)


def serve(service: Any, where: Listener | Connection | Wire, *, workers: int = 0) -> None:
    """Answer calls until the client or, at a listener, until the listener is closed.

    Each client of a listener has a thread, so the service must be safe for threads if there are several.

    Args:
        service: an object, a set of functions, or a mapping from names to functions.
        workers: threads for each client, which may then have as many calls under way at once; 0: one after the other.

    Raises:
        TypeError: a method is `async def`, or there is none.
    """
    handlers = handlers_of(service)
    if awaited := [method.name for method, function in handlers if inspect.iscoroutinefunction(function)]:
        raise TypeError(f"{', '.join(awaited)} of {service!r} must be awaited: serve it with zcipc.aio.serve")
    if isinstance(where, Listener):
        _serve_all(handlers, where, workers)
    else:
        _serve_one(handlers, wire_to(where), workers)


def _serve_all(handlers: Handlers, listener: Listener, workers: int) -> None:
    clients: dict[threading.Thread, Connection] = {}
    try:
        while True:
            try:
                connection = listener.accept()
            except AuthenticationError as error:
                log.warning("%r refused a client: %s", listener, error)
                continue
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
        under_way: dict[int, Future[None]] = {}
        pool = ThreadPoolExecutor(workers) if workers else None
        if pool is not None:
            stack.callback(pool.shutdown, cancel_futures=True)
        with contextlib.suppress(Closed):
            while True:
                try:
                    number, index, content = wire.receive()
                except Unreadable as error:
                    _fail(wire, error.number, cast(BaseException, error.__cause__))
                    continue
                if index == CANCEL:
                    if number in under_way:
                        under_way[number].cancel()
                elif pool is None:
                    _answer(handlers, wire, number, index, content)
                else:
                    under_way[number] = future = pool.submit(_answer, handlers, wire, number, index, content)
                    future.add_done_callback(functools.partial(_forget, under_way, number))
                del content  # arrays that lie in the message


def _forget(under_way: dict[int, Future[None]], number: int, _done: Future[None]) -> None:
    under_way.pop(number, None)


def _answer(handlers: Handlers, wire: Wire, number: int, index: int, content: Any) -> None:
    """Do one call and reply. Raises Closed if nobody is there to be told."""
    try:
        method, function = handlers[index]
        result = called(function, content)
        if number == UNKNOWN:
            return
        if type(result) is Filled:
            wire.send((number, RESULT, result.room), None, method.in_place, result.write)
        else:
            wire.send((number, RESULT, result), None, method.in_place)
    except Exception as error:  # of the method, or its result cannot be sent
        _fail(wire, number, error)


def _fail(wire: Wire, number: int, error: BaseException) -> None:
    reply = failure(number, error)
    if number != UNKNOWN:
        wire.send(reply)
