"""Connections and calls for asyncio: nothing blocks the event loop, and nothing polls while there is nothing to do.

    connection = aio.Connection(end)                         # `end` of zcipc.Pipe, Listener or Client
    await connection.send(message)
    async for message in connection: ...

    await aio.serve(service, connection)                     # methods may be `async def`; so many calls at once
    files = await aio.connect(Files, "files")                # `await files.size("data")`; see `zcipc.rpc`

Time limits are those of asyncio: `async with asyncio.timeout(1): ...`. A `recv` that is cancelled has taken no message; a
`send` that is cancelled has sent all of it or nothing.
"""

import asyncio
import contextlib
import functools
import inspect
import itertools
import select
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, Generic, Self

from zcipc import connection as blocking
from zcipc import rpc
from zcipc.annotations import BytesLike, Received, Sent
from zcipc.display import Displayed
from zcipc.end import Statistics
from zcipc.errors import Closed, PeerDied, TimedOut
from zcipc.listener import Client, Listener
from zcipc.rpc import DESCRIBE, UNKNOWN, Proxy, failure, handlers_of, result_of
from zcipc.service import Filled, Method, demand_agreement, methods
from zcipc.wire import Wire


class Connection(Displayed, Generic[Sent, Received]):
    """An end for the event loop that runs: a `zcipc.Connection` of which no other thread receives.

    Its descriptor stays readable while a message is not received, which would keep the loop busy. So the loop watches another,
    an epoll set that tells only that something *came*; whoever waits then looks.
    """

    def __init__(self, connection: blocking.Connection[Sent, Received]) -> None:
        self.connection: blocking.Connection[Sent, Received] = connection
        self._loop = asyncio.get_running_loop()
        self._receivers: set[asyncio.Future[None]] = set()
        self._senders: set[asyncio.Future[None]] = set()
        self._sending = asyncio.Lock()  # first come, first served
        self._news = select.epoll()
        self._news.register(connection.fileno(), select.EPOLLIN | select.EPOLLET)
        self._loop.add_reader(self._news.fileno(), self._look)

    async def send(self, obj: Sent) -> None:
        """Send a copy of `obj`; wait for room.

        Raises:
            MessageTooLarge: it is larger than the connection's queue, through which only a blocking `send` passes it in parts.
            Closed, PeerDied, PermissionDenied, CorruptSegment: as `zcipc.Connection.send`.
        """
        await self.when_there_is_room(lambda: self.connection.send(obj, timeout=0))

    async def recv(self) -> Received:
        """The next object. Unpickles: only for a peer that you trust.

        Raises:
            Closed, PeerDied, PermissionDenied, CorruptSegment: as `zcipc.Connection.recv`.
        """
        while True:
            await self.message()
            with contextlib.suppress(TimedOut):
                return self.connection.recv(timeout=0)

    async def send_bytes(self, data: BytesLike) -> None:
        """Send a copy of `data`; wait for room."""
        await self.when_there_is_room(lambda: self.connection.send_bytes(data, timeout=0))

    async def recv_bytes(self) -> bytes:
        """The next message, as a copy of its own."""
        await self.message()
        return self.connection.recv_bytes(timeout=0)

    @contextlib.asynccontextmanager
    async def borrow(self) -> AsyncIterator[memoryview]:
        """The next message, read in place: `async with connection.borrow() as buffer: ...`."""
        await self.message()
        with self.connection.borrow(timeout=0) as buffer:
            yield buffer

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Received:
        try:
            return await self.recv()
        except PeerDied:
            raise
        except Closed:
            raise StopAsyncIteration from None

    async def message(self) -> None:
        """Wait until a message, or the end, is there: what receives next does not wait, if no other task comes first."""
        while not self.connection.poll():
            self._wake(self._senders)  # to find nothing has silenced the descriptor, which may have told of room
            await self._woken(self._receivers)

    async def when_there_is_room(self, attempt: Callable[[], None]) -> None:
        """Call `attempt` until it does not raise `TimedOut`."""
        async with self._sending:
            while True:
                try:
                    return attempt()
                except TimedOut:
                    # From now on whatever is released rings; so look again, and sleep only then.
                    self.connection.watch_for_room(self.connection.capacity)
                with contextlib.suppress(TimedOut):
                    return attempt()
                await self._woken(self._senders)

    async def _woken(self, waiting: set[asyncio.Future[None]]) -> None:
        future = self._loop.create_future()
        waiting.add(future)
        try:
            await future
        finally:
            waiting.discard(future)

    def _look(self) -> None:
        self._news.poll(0)  # else the loop would be told again
        self._wake(self._receivers)
        self._wake(self._senders)

    def _wake(self, waiting: set[asyncio.Future[None]]) -> None:
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def close(self) -> None:
        """Leave; tasks that wait here get `Closed`. Idempotent."""
        if not self._news.closed:
            self._loop.remove_reader(self._news.fileno())
            self._news.close()
        self.connection.close()
        self._wake(self._receivers)
        self._wake(self._senders)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        self.close()

    def statistics(self) -> Statistics:
        """Those of the connection beneath."""
        return self.connection.statistics()

    def _label(self) -> str:
        return f"aio {self.connection._label()}"

    def _condition(self) -> str:
        return self.connection._condition()


# --- the client


class _Client:
    """The calls in flight on one connection, and the task that receives for all."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.wire = Wire(connection.connection)
        self.numbers = itertools.count()
        self.calls: dict[int, asyncio.Future[rpc.Reply]] = {}
        self._receiving = asyncio.create_task(self._receive())

    async def _receive(self) -> None:
        while True:
            await self.connection.message()
            try:
                reply = self.wire.receive(0)
            except TimedOut:
                continue
            except Closed as error:
                self._settle(list(self.calls), (UNKNOWN, error, ""))
                return
            except Exception as error:  # a reply that cannot be unpickled: nobody knows whose
                reply = UNKNOWN, error, ""
            self._settle(list(self.calls) if reply[0] is UNKNOWN else [reply[0]], reply)

    def _settle(self, numbers: Iterable[int], reply: rpc.Reply) -> None:
        for number in numbers:
            call = self.calls.pop(number, None)
            if call is not None and not call.done():
                call.set_result(reply)

    async def call(self, method: Method, index: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if method.one_way:
            return await self._send((UNKNOWN, index, args, kwargs), method.in_place)
        number = next(self.numbers)
        future = self.calls[number] = asyncio.get_running_loop().create_future()
        try:
            await self._send((number, index, args, kwargs), method.in_place)
            return result_of(await future)
        except asyncio.CancelledError:
            with contextlib.suppress(TimedOut, Closed):
                self.wire.send((number,), 0.0)
            raise
        finally:
            self.calls.pop(number, None)

    async def _send(self, request: Any, in_place: bool) -> None:
        if self._receiving.done():
            raise Closed(f"the server at the other end of {self.connection.connection!r} is gone: connect anew")
        await self.connection.when_there_is_room(lambda: self.wire.send(request, 0.0, in_place))

    def method(self, method: Method, index: int) -> Callable[..., Any]:
        async def call(*args: Any, **kwargs: Any) -> Any:
            return await self.call(method, index, args, kwargs)

        return call

    def in_flight(self) -> int:
        return len(self.calls)

    def close(self) -> None:
        self._receiving.cancel()
        self.connection.close()
        self._settle(list(self.calls), (UNKNOWN, Closed(f"{self.connection.connection!r} was closed here"), ""))


async def connect(interface: type | Iterable[Callable[..., Any]], where: str | Connection) -> Any:
    """A proxy like that of `rpc.connect`, whose methods are awaited. Cancelling a call gives it up; an `aio.serve` ends it.

    For a type checker annotate the result with a class that has the same methods as `async def`.

    Raises:
        SignatureMismatch: the server's methods are others.
        NameNotFound, PermissionDenied, Closed, PeerDied: there is no connection.
    """
    named = isinstance(where, str)
    client = _Client(Connection(await asyncio.to_thread(Client, where)) if isinstance(where, str) else where)
    wanted = [method for method, _ in methods(interface).values()]
    try:
        numbers = demand_agreement(wanted, await client.call(DESCRIBE, 0, (), {}))
    except BaseException:
        client._receiving.cancel()
        if named:
            client.close()
        raise
    return Proxy(client, {one.name: client.method(one, numbers[one.name]) for one in wanted}, interface)


def disconnect(proxy: Any) -> None:
    """Close the connection of a proxy. Calls in flight end with `Closed`."""
    proxy._client.close()


# --- the server


async def serve(service: Any, where: Listener | Connection) -> None:
    """Answer calls until the client or, at a listener, until the listener is closed. Calls run at once, each as a task.

    A method that is no `async def` runs in the event loop, and holds it up as long as it takes. A cancelled call is cancelled.
    When serving is cancelled, its connections and its listener are closed.
    """
    handlers = handlers_of(service)
    if isinstance(where, Connection):
        await _serve_one(handlers, where)
        return
    async with asyncio.TaskGroup() as clients:
        try:
            while True:
                connection = await asyncio.to_thread(where.accept)
                clients.create_task(_serve_one(handlers, Connection(connection)))
        except Closed:
            return
        finally:
            where.close()  # which ends the thread that accepts


async def _serve_one(handlers: rpc.Handlers, connection: Connection) -> None:
    wire = Wire(connection.connection)
    under_way: dict[int | None, asyncio.Task[None]] = {}
    async with connection:
        try:
            while True:
                await connection.message()
                try:
                    request = wire.receive(0)
                except TimedOut:
                    continue
                except Closed:
                    return
                except Exception as error:  # it was received, and cannot be unpickled here
                    await _send(connection, wire, failure(UNKNOWN, error))
                    continue
                if len(request) == 1:
                    if request[0] in under_way:
                        under_way[request[0]].cancel()
                    continue
                key = next(_one_way_keys) if request[0] is UNKNOWN else request[0]
                under_way[key] = task = asyncio.create_task(_answer(handlers, connection, wire, *request))
                task.add_done_callback(functools.partial(_forget, under_way, key))
                del request, task
        finally:
            for task in list(under_way.values()):
                task.cancel()
            await asyncio.gather(*under_way.values(), return_exceptions=True)


def _forget(under_way: dict[int | None, asyncio.Task[None]], key: int | None, _done: asyncio.Task[None]) -> None:
    under_way.pop(key, None)


_one_way_keys = itertools.count(-1, -1)  # so that they, too, are known while they run


async def _answer(
    handlers: rpc.Handlers, connection: Connection, wire: Wire, number: int | None, index: int, args: Any, kwargs: Any = None
) -> None:
    with contextlib.suppress(Closed):  # nobody is there to be told
        try:
            method, function = handlers[index]
            result = function(*args, **(kwargs or {}))
            if inspect.isawaitable(result):
                result = await result
            if number is not UNKNOWN:
                if type(result) is Filled:
                    await _send(connection, wire, (number, result.room), method.in_place, result.write)
                else:
                    await _send(connection, wire, (number, result), method.in_place)
        except Exception as error:  # of the method, or its result cannot be sent
            if (failed := failure(number, error))[0] is not UNKNOWN:
                await _send(connection, wire, failed)


async def _send(connection: Connection, wire: Wire, message: Any, *how: Any) -> None:
    await connection.when_there_is_room(lambda: wire.send(message, 0.0, *how))
