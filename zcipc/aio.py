"""Connections and calls for asyncio: nothing blocks the event loop, and nothing polls while there is nothing to do.

    connection = aio.Connection(end)                         # `end` of zcipc.Pipe, Listener or Client
    await connection.send(message)
    async for message in connection: ...

    await aio.serve(service, connection)                     # methods may be `async def`; so many calls at once
    files = await aio.connect(Files, "files")                # `await files.size("data")`; see `zcipc.rpc`

Time limits are those of asyncio: `async with asyncio.timeout(1): ...`. A `recv` that is cancelled has taken no message; a
`send` that is cancelled has sent all of it or nothing. That holds for messages larger than the queue as well, which pass in
parts, other tasks between them: the receiver keeps the parts it has for its next `recv`, and drops those of a message that its
sender gave up.
"""

import asyncio
import contextlib
import functools
import inspect
import itertools
import select
import time
from collections.abc import AsyncIterator, Callable, Iterable
from multiprocessing import AuthenticationError
from typing import Any, Generic, Self, TypeVar, cast

from zcipc import connection as blocking
from zcipc import operations as ops
from zcipc import rpc
from zcipc.algorithms.waiting import Waiting
from zcipc.annotations import BytesLike, Received, Sent
from zcipc.calls.service import Filled, Method, demand_agreement, methods
from zcipc.calls.wire import Message, Unreadable, Wire, framed
from zcipc.codec import PLAIN, Frame
from zcipc.display import Displayed
from zcipc.ends.end import Statistics
from zcipc.ends.methods import entries
from zcipc.ends.streams import cut
from zcipc.errors import Closed, NameNotFound, PeerDied, TimedOut, ZcipcError
from zcipc.listener import PACKET, RETRY_S, Listener, enter, knock
from zcipc.rpc import (
    CANCEL,
    DESCRIBE,
    ERROR,
    RESULT,
    UNKNOWN,
    Proxy,
    called,
    content_of,
    failure,
    handlers_of,
    result_of,
)

_Result = TypeVar("_Result")


class Connection(Displayed, Generic[Sent, Received]):
    """An end for the event loop that runs: a `zcipc.Connection` that no other thread uses.

    Who receives looks again and again for as long as the connection is to spin, but 50 µs at the most, and lets the other tasks
    run between the looks. Then it sleeps.

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
        self._spin_ns = min(connection._get(ops.SPIN_NS), Waiting.HYBRID.value)  # known once it is open
        self._loop.add_reader(self._news.fileno(), self._look)

    async def send(self, obj: Sent) -> None:
        """Send a copy of `obj`; wait for room.

        Raises:
            PickleRefused, Closed, PeerDied, PermissionDenied, CorruptSegment: as `zcipc.Connection.send`.
        """
        await self.send_frame(self.connection._frame(obj))

    async def recv(self) -> Received:
        """The next object. Unpickles: only for a peer that you trust.

        Raises:
            PickleRefused, Closed, PeerDied, PermissionDenied, CorruptSegment: as `zcipc.Connection.recv`.
        """
        return await self.received(lambda: self.connection.recv(timeout=0))

    async def send_bytes(self, data: BytesLike) -> None:
        """Send a copy of `data`, which must not change meanwhile; wait for room."""
        view = memoryview(data).cast("B")  # type: ignore[arg-type]  # an array is a buffer
        await self.send_frame(Frame(PLAIN, view.nbytes, view, []))

    async def recv_bytes(self) -> bytes:
        """The next message, as a copy of its own."""
        return await self.received(lambda: self.connection.recv_bytes(timeout=0))

    @contextlib.asynccontextmanager
    async def borrow(self) -> AsyncIterator[memoryview]:
        """The next message, read in place: `async with connection.borrow() as buffer: ...`."""
        with contextlib.ExitStack() as block:
            yield await self.received(lambda: block.enter_context(self.connection.borrow(timeout=0)))

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Received:
        try:
            return await self.recv()
        except PeerDied:
            raise
        except Closed:
            raise StopAsyncIteration from None

    async def received(self, take: Callable[[], _Result]) -> _Result:
        """What `take`, which must not wait, makes of the next message. It is called until it does not raise `TimedOut`."""
        while True:
            if not await self._seen_awake():
                while not self.connection.poll():
                    self._wake(self._senders)  # to find nothing has silenced the descriptor, which may have told of room
                    await self._woken(self._receivers)
            with contextlib.suppress(TimedOut):
                return take()
            await asyncio.sleep(0)  # it was a part of a large message; and now the other tasks

    async def _seen_awake(self) -> bool:
        """Whether there is a message within the spin of the connection. The other tasks run between the looks."""
        deadline = time.monotonic_ns() + self._spin_ns
        while not (there := entries.peek(self.connection) == ops.DONE) and time.monotonic_ns() < deadline:
            await asyncio.sleep(0)
        return there

    async def send_frame(self, frame: Frame) -> None:
        """Send a message, in parts if it is larger than the queue; wait for room."""
        connection = self.connection
        async with self._sending:
            if frame.size <= connection._longest:
                await self._when_there_is_room(frame.size, functools.partial(connection._send_frame, frame, 0.0))
                return
            with connection._stream(0.0):
                for kind, chunk in cut(frame.pieces(), frame.size, frame.tag, connection.capacity):
                    attempt = functools.partial(connection._send_chunk, chunk, kind, 0.0)
                    await self._when_there_is_room(chunk.nbytes, attempt)
                    await asyncio.sleep(0)  # the other tasks

    async def _when_there_is_room(self, nbytes: int, attempt: Callable[[], None]) -> None:
        """Call `attempt` to send `nbytes` until it does not raise `TimedOut`."""
        while True:
            try:
                return attempt()
            except TimedOut:
                self.connection.watch_for_room(nbytes)
            # From now on whatever is released rings; so look again, and sleep only then.
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
        self.calls: dict[int, asyncio.Future[Message]] = {}
        self._receiving = asyncio.create_task(self._receive())
        self._cancelling: set[asyncio.Task[None]] = set()  # the loop itself keeps no hold on a task

    async def _receive(self) -> None:
        while True:
            try:
                reply = await self.connection.received(lambda: self.wire.receive(0))
            except Unreadable as error:
                reply = error.number, ERROR, (error.__cause__, "")
            except Exception as error:  # the end
                self._settle(list(self.calls), (UNKNOWN, ERROR, (error, "")))
                return
            self._settle([reply[0]], reply)

    def _settle(self, numbers: Iterable[int], reply: Message) -> None:
        for number in numbers:
            call = self.calls.pop(number, None)
            if call is not None and not call.done():
                call.set_result(reply)

    async def call(self, method: Method, index: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        content = content_of(args, kwargs)
        if method.one_way:
            return await self._send((UNKNOWN, index, content), method.in_place)
        number = next(self.numbers)
        future = self.calls[number] = asyncio.get_running_loop().create_future()
        try:
            await self._send((number, index, content), method.in_place)
            return result_of(await future)
        except asyncio.CancelledError:
            cancelling = asyncio.create_task(self._cancel(number))
            self._cancelling.add(cancelling)
            cancelling.add_done_callback(self._cancelling.discard)
            raise
        finally:
            self.calls.pop(number, None)

    async def _cancel(self, number: int) -> None:
        with contextlib.suppress(Closed):
            await self._send((number, CANCEL, None), False)

    async def _send(self, request: Message, in_place: bool) -> None:
        if self._receiving.done():
            raise Closed(f"the server at the other end of {self.connection.connection!r} is gone: connect anew")
        await _send(self.connection, request, in_place)

    def method(self, method: Method, index: int) -> Callable[..., Any]:
        async def call(*args: Any, **kwargs: Any) -> Any:
            return await self.call(method, index, args, kwargs)

        call.__name__, call.__qualname__, call.__doc__ = method.name, method.name, method.signature
        return call

    def in_flight(self) -> int:
        return len(self.calls)

    def close(self) -> None:
        self._receiving.cancel()
        self.connection.close()
        self._settle(list(self.calls), (UNKNOWN, ERROR, (Closed(f"{self.connection.connection!r} was closed here"), "")))


async def _send(
    connection: Connection, message: Message, in_place: bool = False, fill: Callable[[memoryview], object] | None = None
) -> None:
    await connection.send_frame(framed(message, in_place, fill))


async def _client(address: str) -> blocking.Connection:
    """`zcipc.Client`, awaited."""
    while (server := knock(address)) is None:
        await asyncio.sleep(RETRY_S)
    with server:
        steps = enter(server, address, None)
        next(steps)
        while True:
            packet = await asyncio.get_running_loop().sock_recv(server, PACKET)
            try:
                steps.send(packet)
            except StopIteration as entered:
                connection: blocking.Connection = entered.value
                return connection
            except ConnectionError:
                raise NameNotFound(f"the listener {address!r} closed before it accepted") from None


async def connect(interface: type | Iterable[Callable[..., Any]], where: str | Connection) -> Any:
    """A proxy like that of `rpc.connect`, whose methods are awaited. Cancelling a call gives it up; an `aio.serve` ends it.

    For a type checker annotate the result with a class that has the same methods as `async def`.

    Raises:
        SignatureMismatch: the server's methods are others.
        NameNotFound, PermissionDenied, Closed, PeerDied: there is no connection.
    """
    named = isinstance(where, str)
    client = _Client(Connection(await _client(where)) if isinstance(where, str) else where)
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
                try:
                    connection = await asyncio.to_thread(where.accept)
                except AuthenticationError as error:
                    rpc.log.warning("%r refused a client: %s", where, error)
                    continue
                clients.create_task(_serve_one(handlers, Connection(connection)))
        except Closed:
            return
        finally:
            where.close()  # which ends the thread that accepts


async def _serve_one(handlers: rpc.Handlers, connection: Connection) -> None:
    wire = Wire(connection.connection)
    under_way: dict[int, asyncio.Task[None]] = {}
    one_way_keys = itertools.count(UNKNOWN, -1)  # so that they, too, are known while they run
    async with connection:
        try:
            while True:
                try:
                    number, index, content = await connection.received(lambda: wire.receive(0))
                except Closed:
                    return
                except ZcipcError:  # of this client, and the others go on
                    rpc.log.exception("%r cannot be served any more", connection.connection)
                    return
                except Unreadable as error:
                    await _fail(connection, error.number, cast(BaseException, error.__cause__))
                    continue
                if index == CANCEL:
                    if number in under_way:
                        under_way[number].cancel()
                    continue
                key = next(one_way_keys) if number == UNKNOWN else number
                under_way[key] = task = asyncio.create_task(_answer(handlers, connection, number, index, content))
                task.add_done_callback(functools.partial(_forget, under_way, key))
                del content, task
        finally:
            for task in list(under_way.values()):
                task.cancel()
            await asyncio.gather(*under_way.values(), return_exceptions=True)


def _forget(under_way: dict[int, asyncio.Task[None]], key: int, _done: asyncio.Task[None]) -> None:
    under_way.pop(key, None)


async def _answer(handlers: rpc.Handlers, connection: Connection, number: int, index: int, content: Any) -> None:
    with contextlib.suppress(Closed):  # nobody is there to be told
        try:
            method, function = handlers[index]
            result = called(function, content)
            if inspect.isawaitable(result):
                result = await result
            if number == UNKNOWN:
                return
            if type(result) is Filled:
                await _send(connection, (number, RESULT, result.room), method.in_place, result.write)
            else:
                await _send(connection, (number, RESULT, result), method.in_place)
        except Exception as error:  # of the method, or its result cannot be sent
            await _fail(connection, number, error)


async def _fail(connection: Connection, number: int, error: BaseException) -> None:
    reply = failure(number, error)
    if number != UNKNOWN:
        await _send(connection, reply)
