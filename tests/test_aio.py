"""asyncio: what is awaited arrives, a cancelled wait loses nothing, the loop goes on meanwhile, or rests."""

import asyncio
import contextlib
import os
import resource
import time

import numpy as np
import pytest
from support import PATIENCE, Child

import zcipc
from zcipc import Closed, PeerDied, aio, rpc
from zcipc.ends.methods import entries

pytestmark = pytest.mark.usefixtures("tidy")

NAME = f"test-aio-{os.getpid()}"


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request):
    """Runs a coroutine in the named event loop."""
    loops = pytest.importorskip("uvloop", reason="uvloop is not installed") if request.param == "uvloop" else asyncio

    def run(coroutine):
        async def in_time():
            async with asyncio.timeout(PATIENCE):
                return await coroutine

        with asyncio.Runner(loop_factory=loops.new_event_loop) as runner:
            return runner.run(in_time())

    return run


@pytest.fixture
def ends():
    left, right = zcipc.Pipe(capacity=4096)
    with left, right:
        yield left, right


def echo(connection):
    with connection:
        while True:
            try:
                connection.send(connection.recv(timeout=PATIENCE))
            except Closed:
                return "closed"


def send_numbers(connection, count, pause):
    for number in range(count):
        connection.send(number)
        time.sleep(pause)
    connection.close()


def receive_slowly(connection):
    time.sleep(0.3)
    received = []
    while True:
        try:
            received.append(len(connection.recv_bytes(timeout=PATIENCE)))
        except Closed:
            return received


def receive_one_then_hang(connection):
    connection.recv(timeout=PATIENCE)
    time.sleep(3600)


# --- messages


@pytest.mark.parametrize(
    "message",
    [b"bytes", {"any": "object"}, 5, np.arange(300.0), np.arange(1 << 15), bytes(1 << 18)],
    ids=["bytes", "dict", "int", "array", "array in parts", "bytes in parts"],
)
def test_messages_go_and_come(run, ends, message):
    async def exchange():
        async with aio.Connection(ends[0]) as connection:
            for _ in range(20):
                await connection.send(message)
                assert np.array_equal(await connection.recv(), message)

    with Child(echo, ends[1]) as child:
        run(exchange())
        assert child.outcome() == "closed"


def test_iteration_ends_when_the_other_end_closes(run, ends):
    async def collect():
        return [number async for number in aio.Connection(ends[0])]

    with Child(send_numbers, ends[1], 1000, 0):
        assert run(collect()) == list(range(1000))


def test_iteration_says_if_the_other_end_died(run, ends):
    async def collect(child):
        connection = aio.Connection(ends[0])
        await connection.send("hello")
        while ends[0].statistics().bytes_queued_out:  # it has not come yet, and would not be missed
            await asyncio.sleep(0.01)
        asyncio.get_running_loop().call_later(0.1, child.kill)
        with pytest.raises(PeerDied):
            async for _ in connection:
                pass

    with Child(receive_one_then_hang, ends[1]) as child:
        run(collect(child))


def hang_up_and_then_die(connection):
    """What a process does that ends, slowly: its descriptors are closed before it is no more."""
    connection.poll()
    entries.stop_watching(connection)
    time.sleep(0.2)
    os._exit(0)


def test_a_process_that_takes_its_time_to_end_is_missed_all_the_same(run, ends):
    async def wait():
        connection = aio.Connection(ends[0])
        with Child(hang_up_and_then_die, ends[1]), pytest.raises(PeerDied):
            await connection.recv()

    run(wait())


@pytest.mark.parametrize("waiting", zcipc.Waiting)
def test_the_loop_goes_on_and_rests_while_a_message_is_awaited(run, waiting):
    ours, theirs = zcipc.Pipe(waiting=waiting)

    async def wait():
        connection = aio.Connection(ours)
        receiving = asyncio.create_task(connection.recv())
        await asyncio.sleep(0.05)
        before = resource.getrusage(resource.RUSAGE_SELF)
        for _ in range(5):
            await asyncio.sleep(0.05)
        after = resource.getrusage(resource.RUSAGE_SELF)
        await connection.send("echoed")
        assert await receiving == "echoed"
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    with Child(echo, theirs):
        theirs.close()
        assert run(wait()) < 0.05, "seconds of a core in a quarter of a second"
        ours.close()


def test_a_message_that_comes_at_once_is_found_before_the_loop_sleeps(run, ends):
    ours, theirs = ends
    theirs.send("the first")
    assert ours.recv() == "the first"

    async def wait():
        connection = aio.Connection(ours)
        asyncio.get_running_loop().remove_reader(connection._news.fileno())  # so nothing would wake it
        receiving = asyncio.create_task(connection.recv())
        await asyncio.sleep(0)
        theirs.send("while another task ran")
        return await receiving

    assert run(wait()) == "while another task ran"


def test_a_message_that_nobody_receives_does_not_keep_the_loop_busy(run, ends):
    async def wait():
        connection = aio.Connection(ends[0])
        await connection.send("echoed, and left")
        await asyncio.sleep(0.1)
        before = time.process_time()
        await asyncio.sleep(0.25)
        busy = time.process_time() - before
        assert await connection.recv() == "echoed, and left"
        return busy

    with Child(echo, ends[1]):
        assert run(wait()) < 0.05
        ends[0].close()


def test_a_send_waits_for_room_and_keeps_the_order(run, ends):
    async def flood():
        async with aio.Connection(ends[0]) as connection:
            receiving = asyncio.create_task(connection.recv())  # silences the descriptor now and then
            ticks = 0

            async def tick():
                nonlocal ticks
                while True:
                    ticks += 1
                    await asyncio.sleep(0.01)

            ticking = asyncio.create_task(tick())
            await asyncio.gather(*(connection.send_bytes(bytes(size)) for size in range(1000)))
            ticking.cancel()
            receiving.cancel()
            return ticks

    with Child(receive_slowly, ends[1]) as child:
        assert run(flood()) > 10
        assert child.outcome() == list(range(1000))


def test_a_cancelled_recv_loses_no_message(run, ends):
    async def collect():
        connection, numbers = aio.Connection(ends[0]), []
        while True:
            try:
                async with asyncio.timeout(0.002):
                    numbers.append(await connection.recv())
            except TimeoutError:
                pass
            except Closed:
                return numbers

    with Child(send_numbers, ends[1], 200, 0.001):
        assert run(collect()) == list(range(200))


def test_a_cancelled_send_sends_all_or_nothing(run, ends):
    async def flood():
        sent = []
        async with aio.Connection(ends[0]) as connection:
            for size in range(1500, 1600):
                try:
                    async with asyncio.timeout(0.005):
                        await connection.send_bytes(bytes(size))
                        sent.append(size)
                except TimeoutError:
                    pass
        return sent

    with Child(receive_slowly, ends[1]) as child:
        sent = run(flood())
        assert 0 < len(sent) < 100
        assert child.outcome() == sent


LARGE = 8 << 20  # bytes; 2,048 times the queue


def receive_sizes(connection):
    received = []
    with contextlib.suppress(Closed):
        while True:
            received.append(len(connection.recv_bytes(timeout=PATIENCE)))
    return received


def test_a_large_send_that_is_cancelled_never_arrives_and_the_connection_goes_on(run, ends):
    async def flood():
        async with aio.Connection(ends[0]) as connection:
            await connection.send_bytes(b"one")
            sending = asyncio.create_task(connection.send_bytes(bytes(LARGE)))
            while not ends[0]._streaming.locked():
                await asyncio.sleep(0)
            for _ in range(10):
                await asyncio.sleep(0)
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            await connection.send_bytes(b"three")
            await connection.send_bytes(bytes(LARGE))

    with Child(receive_sizes, ends[1]) as child:
        run(flood())
        assert child.outcome() == [3, 5, LARGE]


def send_large(connection):
    for size in (LARGE, LARGE + 1, 1):
        connection.send_bytes(bytes(size), timeout=PATIENCE)
    connection.close()


@pytest.mark.parametrize("how", ["recv_bytes", "borrow"])
def test_a_large_recv_that_is_cancelled_loses_nothing_and_the_loop_goes_on(run, ends, how):
    async def length(connection):
        if how == "recv_bytes":
            return len(await connection.recv_bytes())
        async with connection.borrow() as buffer:
            return len(buffer)

    async def collect():
        connection, sizes, given_up, longest = aio.Connection(ends[0]), [], 0, 0.0
        began = asyncio.get_running_loop().time()

        async def tick():
            nonlocal began, longest
            while True:
                await asyncio.sleep(0)
                now = asyncio.get_running_loop().time()
                began, longest = now, max(longest, now - began)

        ticking = asyncio.create_task(tick())
        while len(sizes) < 3:
            try:
                async with asyncio.timeout(0.001):
                    sizes.append(await length(connection))
            except TimeoutError:
                given_up += 1
        ticking.cancel()
        return sizes, given_up, longest

    with Child(send_large, ends[1]):
        sizes, given_up, longest = run(collect())
        assert sizes == [LARGE, LARGE + 1, 1]
        assert given_up > 1
        assert longest < 0.5, "seconds without a turn for another task"


def test_several_tasks_may_receive(run, ends):
    async def share():
        connection, numbers = aio.Connection(ends[0]), []

        async def collect():
            async for number in connection:
                numbers.append(number)

        await asyncio.gather(*(collect() for _ in range(3)))
        return sorted(numbers)

    with Child(send_numbers, ends[1], 300, 0):
        assert run(share()) == list(range(300))


def test_closing_ends_what_waits_here(run, ends):
    async def close():
        connection = aio.Connection(ends[0])
        receiving = asyncio.create_task(connection.recv())
        await asyncio.sleep(0.01)
        connection.close()
        connection.close()
        with pytest.raises(Closed):
            await receiving

    run(close())


# --- calls


class Service:
    def add(self, one: int, two: int = 1) -> int:
        return one + two

    async def sleep(self, seconds: float) -> float:
        await asyncio.sleep(seconds)
        return seconds

    async def fail(self) -> None:
        raise LookupError("here")

    async def cancelled(self) -> int:
        return self._cancelled

    _cancelled = 0

    async def hang(self) -> None:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            self._cancelled += 1
            raise

    def echo(self, value: object) -> object:
        return value

    @rpc.in_place
    async def ones(self, count: int) -> np.ndarray:
        return rpc.filled(count, float, lambda array: array.fill(1))


class Blocking:
    """The same for a client that does not await."""

    def add(self, one: int, two: int = 1) -> int: ...
    def sleep(self, seconds: float) -> float: ...
    def fail(self) -> None: ...


def serve_by_name():
    async def serve():
        with zcipc.Listener(NAME) as listener:
            await aio.serve(Service(), listener)

    asyncio.run(serve())


@pytest.fixture
def server():
    child = Child(serve_by_name)
    zcipc.Client(NAME, timeout=PATIENCE).close()
    yield child
    child.kill()
    child.process.join(PATIENCE)


def test_calls_are_awaited_many_at_once(run, server):
    async def use():
        proxy = await aio.connect(Service, NAME)
        began = time.monotonic()
        results = await asyncio.gather(*(proxy.sleep(0.2) for _ in range(20)), *(proxy.add(number) for number in range(100)))
        assert time.monotonic() - began < 2
        assert results == [0.2] * 20 + list(range(1, 101))
        assert (await proxy.ones(1000)).sum() == 1000
        with pytest.raises(LookupError, match="here") as raised:
            await proxy.fail()
        assert "in fail" in str(raised.value.__cause__)
        aio.disconnect(proxy)

    run(use())


def test_a_cancelled_call_is_cancelled_at_the_server(run, server):
    async def use():
        proxy = await aio.connect(Service, NAME)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await proxy.hang()
        while not await proxy.cancelled():
            await asyncio.sleep(0.01)
        aio.disconnect(proxy)

    run(use())


def test_a_dead_server_ends_all_calls_in_flight(run, server):
    async def use():
        proxy = await aio.connect(Service, NAME)
        calls = [asyncio.create_task(proxy.hang()) for _ in range(3)]
        await asyncio.sleep(0.1)
        server.kill()
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [PeerDied] * 3
        with pytest.raises(Closed):
            await proxy.add(1)
        aio.disconnect(proxy)

    run(use())


def test_arrays_larger_than_the_connection_come_and_go_many_at_once(run, server):
    async def use():
        proxy = await aio.connect(Service, NAME)
        arrays = [np.arange(1 << 19) + number for number in range(4)]  # 4 MiB each, through a connection of 1 MiB
        for array, back in zip(arrays, await asyncio.gather(*map(proxy.echo, arrays)), strict=True):
            assert np.array_equal(back, array)
        assert (await proxy.ones(1 << 19)).sum() == 1 << 19
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.0005):
                await proxy.echo(arrays[0])
        assert await proxy.add(1) == 2
        aio.disconnect(proxy)

    run(use())


def test_connecting_can_be_cancelled_while_nobody_accepts(run):
    async def use():
        with zcipc.Listener(NAME), pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await aio.connect(Service, NAME)

    began = time.monotonic()
    run(use())
    assert time.monotonic() - began < 5


def test_clients_that_do_not_await_use_the_same_server(server):
    proxy = rpc.connect(Blocking, NAME, timeout=PATIENCE)
    calls = [rpc.start(proxy.sleep, 0.1) for _ in range(10)]
    assert proxy.add(1) == 2
    assert [call.result(PATIENCE) for call in calls] == [0.1] * 10
    with pytest.raises(LookupError):
        proxy.fail()


def test_serving_ends_when_it_is_cancelled(run):
    async def use():
        listener = zcipc.Listener(NAME)
        serving = asyncio.create_task(aio.serve(Service(), listener))
        proxy = await aio.connect(Service, NAME)
        assert await proxy.add(1) == 2
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        assert listener.closed
        with pytest.raises(Closed):
            await proxy.add(1)
        aio.disconnect(proxy)

    run(use())
