"""Remote procedure call: a call is as if the method were here; what goes wrong there is told; arrays stay where they lie."""

import os
import threading
import time
from concurrent.futures import CancelledError

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import njit
from support import PATIENCE, Child, eventually

import zcipc
from zcipc import Closed, PeerDied, TimedOut, rpc
from zcipc import operations as ops
from zcipc.calls.wire import Wire

pytestmark = pytest.mark.usefixtures("tidy")

LARGE = 300_000  # numbers in an array that is more than half of the connection's capacity
NAME = f"test-rpc-{os.getpid()}"


class Unpicklable(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


class Here:
    """Can be pickled, and not unpickled."""

    def __reduce__(self):
        return _only_in, (os.getpid(),)


def _only_in(pid):
    if os.getpid() != pid:
        raise LookupError("unknown here")
    return Here()


class Service:
    """The interface and the implementation of what is called here."""

    def __init__(self):
        self.noted = []

    def add(self, one: int, two: int = 1) -> int:
        return one + two

    def echo(self, value: object) -> object:
        return value

    def pid(self) -> int:
        return os.getpid()

    def fail(self, message: str) -> None:
        raise LookupError(message)

    def fail_strangely(self) -> None:
        raise Unpicklable(1, 2)

    def function(self) -> object:
        return lambda: None

    def sleep(self, seconds: float) -> float:
        time.sleep(seconds)
        return seconds

    def exit(self) -> None:
        os._exit(1)

    @rpc.one_way
    def note(self, value: object) -> None:
        self.noted.append(value)

    def notes(self) -> list[object]:
        return self.noted

    @rpc.in_place
    def total(self, array: np.ndarray) -> tuple[float, bool]:
        return float(array.sum()), array.flags.writeable

    @rpc.in_place
    def squares(self, count: int) -> np.ndarray:
        return rpc.filled(count, np.int64, lambda array: np.multiply(np.arange(count), np.arange(count), out=array))

    def days(self, count: int) -> np.ndarray:
        def fill(array):
            array[...] = np.datetime64("2024-01-01") + np.arange(count)

        return rpc.filled(count, "datetime64[D]", fill)

    def filled_with_objects(self) -> np.ndarray:
        return rpc.filled(3, object, lambda array: array.fill("an object"))

    @rpc.in_place
    def never_filled(self) -> np.ndarray:
        return rpc.filled(10, np.int64, lambda _: self.fail("while it was filled"))

    def _private(self) -> None:
        raise AssertionError("nobody can call this")


def serve_service(connection, workers):
    rpc.serve(Service(), connection, workers=workers)
    return "served"


class Half:
    """Part of a service that needs an event loop."""

    def add(self, one: int) -> int: ...
    async def sleep(self) -> None: ...


@pytest.fixture(params=[0, 3], ids=["one by one", "workers"])
def workers(request):
    return request.param


@pytest.fixture
def served(workers):
    """A proxy, and the process that serves it."""
    ours, theirs = zcipc.Pipe(capacity=4 << 20)
    with Child(serve_service, theirs, workers) as child, ours:
        yield rpc.connect(Service, ours, timeout=PATIENCE), child


@pytest.fixture
def service(served):
    return served[0]


def test_a_call_is_done_by_the_other_process(served):
    proxy, child = served
    assert proxy.pid() == child.pid != os.getpid()
    assert proxy.add(2, 3) == proxy.add(two=3, one=2) == 5
    assert proxy.add(2) == 3
    assert proxy.echo({"any": [1, None, b"bytes"]}) == {"any": [1, None, b"bytes"]}
    assert not hasattr(proxy, "_private")
    rpc.disconnect(proxy)
    assert child.outcome() == "served"


def test_an_exception_crosses_with_its_traceback(service):
    with pytest.raises(LookupError, match="not there") as raised:
        service.fail("not there")
    cause = raised.value.__cause__
    assert isinstance(cause, rpc.RemoteTraceback)
    assert "in fail" in str(cause)
    assert "raise LookupError(message)" in str(cause)
    assert service.add(1) == 2


@pytest.mark.parametrize("count", [0, 5, 200_000], ids=["empty", "small", "larger_than_the_queue"])
def test_a_result_of_any_plain_type_is_written_in_its_place(service, count):
    days = service.days(count)
    assert days.dtype == "datetime64[D]"
    assert np.array_equal(days, np.datetime64("2024-01-01") + np.arange(count))


def test_what_cannot_be_sent_back_is_said(service):
    with pytest.raises(rpc.RemoteError, match=r"Unpicklable.*1 and 2"):
        service.fail_strangely()
    with pytest.raises(Exception, match=r"local object .*<lambda>"):
        service.function()
    with pytest.raises(LookupError, match="while it was filled"):
        service.never_filled()
    with pytest.raises(TypeError, match="Python objects"):
        service.filled_with_objects()
    with pytest.raises(TypeError, match="argument"):
        service.add()
    assert service.add(1) == 2


def test_what_cannot_be_sent_leaves_the_connection_as_it_was(service):
    with pytest.raises(Exception, match=r"local object .*<lambda>"):
        service.echo(lambda: None)
    with pytest.raises(LookupError, match="unknown here"):
        service.echo(Here())
    assert service.add(1) == 2


def test_arrays_come_and_go_as_copies(service):
    array = np.arange(LARGE / 2)
    returned = service.echo(array)
    returned += 1
    assert np.array_equal(returned, array + 1)


def test_what_is_larger_than_the_connection_goes_through_it_in_parts(service):
    array = np.arange(1 << 20)
    assert np.array_equal(service.echo(array), array)
    assert np.array_equal(service.squares(1 << 20), array**2)
    assert service.total(array) == (float(array.sum()), False)


def test_arrays_are_read_where_they_lie(service):
    for count in (0, 1, LARGE, LARGE, LARGE):  # more than fit at once: the room of the last one is back
        assert service.total(np.ones(count)) == (count, False)
        squares = service.squares(count)
        assert np.array_equal(squares, np.arange(count) ** 2)
        assert not squares.flags.writeable
        del squares


def test_an_array_read_in_place_stays_until_it_is_gone(service):
    kept = service.squares(1000)
    for _ in range(50):
        assert service.squares(10_000)[-1] == 9999**2
    assert np.array_equal(kept, np.arange(1000) ** 2)


def test_one_way_calls_do_not_wait_and_keep_their_order():
    ours, theirs = zcipc.Pipe()
    with Child(serve_service, theirs, 0), ours:
        proxy = rpc.connect(Service, ours, timeout=PATIENCE)
        assert [proxy.note(number) for number in range(5)] == [None] * 5
        assert proxy.notes() == list(range(5))
        with pytest.raises(TypeError, match="answers"):
            rpc.start(proxy.note, 5)


def test_several_calls_are_in_flight(service):
    calls = [rpc.start(service.add, number) for number in range(100)]
    assert [call.result(PATIENCE) for call in reversed(calls)] == list(range(100, 0, -1))
    assert calls[0].result() == 1, "a result stays"


def test_replies_that_find_no_room_do_not_stop_the_requests(service):
    calls = [rpc.start(service.echo, bytes(100_000)) for _ in range(200)]
    assert all(len(call.result(PATIENCE)) == 100_000 for call in calls)


def test_requests_and_replies_larger_than_the_connection_do_not_block_each_other(service):
    array = np.arange(1 << 20)
    calls = [rpc.start(service.echo, array) for _ in range(4)]
    assert all(np.array_equal(call.result(PATIENCE), array) for call in calls)
    text = "x" * (5 << 20)
    calls = [rpc.start(service.echo, text) for _ in range(3)]
    assert all(call.result(PATIENCE) == text for call in calls)


def test_a_call_is_done_when_its_result_is_there(service):
    call = rpc.start(service.add, 1)
    assert "in flight" in repr(call)
    assert eventually(call.done)
    assert "'add', done" in repr(call)
    assert call.result() == 2


def test_what_cannot_be_unpickled_fails_its_own_call_and_no_other(service):
    slow = rpc.start(service.sleep, 0.2)
    with pytest.raises(LookupError, match="unknown here"):
        service.echo(Here())
    assert slow.result(PATIENCE) == 0.2


def test_a_quick_call_overtakes_a_slow_one_where_there_are_workers():
    ours, theirs = zcipc.Pipe()
    with Child(serve_service, theirs, 2), ours:
        proxy = rpc.connect(Service, ours, timeout=PATIENCE)
        slow = rpc.start(proxy.sleep, 0.3)
        assert proxy.add(1) == 2
        assert not slow.done()
        assert slow.result(PATIENCE) == 0.3


def test_threads_share_a_proxy(service):
    wrong = []

    def use(thread):
        for number in range(200):
            if service.echo((thread, number)) != (thread, number):
                wrong.append((thread, number))

    threads = [threading.Thread(target=use, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert not any(thread.is_alive() for thread in threads)
    assert wrong == []


def test_a_slow_answer_does_not_hold_up_another_thread():
    ours, theirs = zcipc.Pipe()
    with Child(serve_service, theirs, 2), ours:
        proxy = rpc.connect(Service, ours, timeout=PATIENCE)
        slow = threading.Thread(target=proxy.sleep, args=(0.5,))
        slow.start()
        time.sleep(0.1)  # it waits, and so leads
        assert proxy.add(1) == 2
        assert slow.is_alive()
        slow.join(PATIENCE)
        assert not slow.is_alive()


def test_a_call_that_takes_too_long_is_given_up(served):
    hasty = rpc.connect(Service, served[0]._client.wire.connection, timeout=0.1)
    with pytest.raises(TimedOut):
        hasty.sleep(0.3)
    time.sleep(0.3)
    assert hasty.add(1) == 2, "the late answer is not taken for this one"


def test_waiting_with_a_time_out_leaves_the_call_in_flight(service):
    call = rpc.start(service.sleep, 0.2)
    with pytest.raises(TimedOut):
        call.result(0.05)
    assert call.result(PATIENCE) == 0.2


def test_a_cancelled_call_has_no_result(service):
    call = rpc.start(service.sleep, 0.1)
    call.cancel()
    with pytest.raises(CancelledError):
        call.result()
    assert service.add(1) == 2


def test_workers_do_not_begin_what_was_cancelled():
    ours, theirs = zcipc.Pipe()
    with Child(serve_service, theirs, 1), ours:
        proxy = rpc.connect(Service, ours, timeout=PATIENCE)
        slow = rpc.start(proxy.sleep, 0.3)
        waiting = rpc.start(proxy.sleep, 2.0)
        waiting.cancel()
        began = time.monotonic()
        assert proxy.add(1) == 2
        assert time.monotonic() - began < 1.5
        assert slow.result() == 0.3


def test_signatures_are_compared_when_the_connection_is_made(served):
    connection = served[0]._client.wire.connection

    class Changed:
        def add(self, one: float, two: int = 1) -> int: ...

    class Unknown:
        def multiply(self, one: int) -> int: ...

    class Part:
        def pid(self) -> "int": ...

    with pytest.raises(rpc.SignatureMismatch) as mismatch:
        rpc.connect(Changed, connection, timeout=PATIENCE)
    assert "add(one: float, two: int = 1) -> int" in str(mismatch.value)
    assert "add(one: int, two: int = 1) -> int" in str(mismatch.value)
    with pytest.raises(rpc.SignatureMismatch, match=r"no method 'multiply'.*multiply\(one: int\)"):
        rpc.connect(Unknown, connection, timeout=PATIENCE)
    assert rpc.connect(Part, connection, timeout=PATIENCE).pid() == served[1].pid


def double(number: int) -> int:
    return 2 * number


def serve_functions(connection):
    rpc.serve([double], connection)


def test_functions_are_a_service():
    ours, theirs = zcipc.Pipe()
    with Child(serve_functions, theirs), ours:
        assert rpc.connect([double], ours, timeout=PATIENCE).double(21) == 42


class Static:
    _added = 2

    @staticmethod
    def double(number: int) -> int:
        return 2 * number

    @classmethod
    def add(cls, number: int) -> int:
        return number + cls._added


def serve_static(connection):
    rpc.serve(Static, connection)


def test_static_and_class_methods_are_methods_and_a_proxy_says_what_it_has():
    ours, theirs = zcipc.Pipe()
    with Child(serve_static, theirs), ours:
        proxy = rpc.connect(Static, ours, timeout=PATIENCE)
        assert (proxy.double(4), proxy.add(4)) == (8, 6)
        with pytest.raises(AttributeError, match=r"Static has no method 'halve'; it has add, double"):
            proxy.halve(4)
        assert "double(number: int) -> int" in repr(proxy.double)


CONTENTS = st.binary() | st.none() | st.tuples(st.integers(), st.text()) | st.lists(st.binary())


@given(st.integers(-(2**63), 2**63 - 1), st.integers(-(2**31), 2**31 - 1), CONTENTS, st.sampled_from([None, PATIENCE]))
def test_a_message_of_a_call_arrives_as_it_was_sent(number, what, content, timeout):
    """In machine code, and as every other message: that is how it is received where there is a time-out."""
    one, other = zcipc.Pipe()
    with one, other:
        Wire(one).send((number, what, content))
        assert Wire(other).receive(timeout) == (number, what, content)


@pytest.mark.parametrize("timeout", [None, PATIENCE])
@pytest.mark.parametrize("length", [0, 15])
def test_what_is_no_message_of_a_call_is_an_error(length, timeout):
    one, other = zcipc.Pipe()
    with one, other:
        one.send_bytes(bytes(length))
        with pytest.raises(zcipc.CorruptSegment, match="none of a call"):
            Wire(other).receive(timeout)


def test_what_must_be_awaited_is_not_served_here():
    ours, theirs = zcipc.Pipe()
    with ours, theirs, pytest.raises(TypeError, match=r"sleep.*aio\.serve"):
        rpc.serve(Half(), ours)


def test_calls_are_pickled_and_refused_where_nothing_may_be():
    ours, theirs = zcipc.Pipe(allow_pickle=False)
    with ours, theirs:
        for use in (lambda: rpc.connect(Service, ours), lambda: rpc.serve(Service(), theirs)):
            with pytest.raises(zcipc.PickleRefused, match="allow_pickle"):
                use()


# --- death


def test_a_dead_server_ends_all_calls_in_flight(served):
    proxy, child = served
    calls = [rpc.start(proxy.sleep, 60) for _ in range(3)]
    outcomes = []

    def wait(call):
        try:
            call.result(PATIENCE)
        except PeerDied as error:
            outcomes.append(str(error))

    threads = [threading.Thread(target=wait, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    child.kill()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(outcomes) == 3
    assert all(str(child.pid) in outcome for outcome in outcomes)
    with pytest.raises(PeerDied):
        proxy.add(1)


def serve_by_name(workers):
    with zcipc.Listener(NAME) as listener:
        rpc.serve(Service(), listener, workers=workers)


def call_by_name(first):
    proxy = rpc.connect(Service, NAME, timeout=PATIENCE)
    return [proxy.add(number) for number in range(first, first + 100)]


def test_a_server_has_several_clients_and_outlives_them(workers):
    server = Child(serve_by_name, workers)
    clients = [Child(call_by_name, 100 * number) for number in range(3)]
    for number, client in enumerate(clients):
        with client:
            assert client.outcome() == list(range(100 * number + 1, 100 * number + 101))
    proxy = rpc.connect(Service, NAME, timeout=PATIENCE)
    assert proxy.pid() == server.pid
    server.kill()
    with pytest.raises(Closed):
        proxy.pid()
    server.process.join(PATIENCE)


def test_a_client_connects_anew_to_a_restarted_server():
    first = Child(serve_by_name, 0)
    proxy = rpc.connect(Service, NAME, timeout=PATIENCE)
    with pytest.raises(PeerDied):
        proxy.exit()
    first.process.join(PATIENCE)
    second = Child(serve_by_name, 0)
    proxy = rpc.connect(Service, NAME, timeout=PATIENCE)
    assert proxy.pid() == second.pid != first.pid
    second.kill()
    second.process.join(PATIENCE)


def test_serving_ends_with_its_listener():
    listener = zcipc.Listener(NAME)
    serving = threading.Thread(target=rpc.serve, args=(Service(), listener))
    serving.start()
    with Child(call_by_name, 0) as client:
        assert client.outcome() == list(range(1, 101))
    listener.close()
    serving.join(PATIENCE)
    assert not serving.is_alive()


# --- compiled


@njit
def sum_and_count(request, reply):
    reply[0] = request.sum()
    reply[1] += 1


@njit
def call_often(end, request, reply, count):
    total = 0.0
    for number in range(count):
        request[:] = number
        if rpc.compiled_call(end, request, reply, ops.FOREVER) != reply.nbytes:
            return -1.0
        total += reply[0]
    return total


def serve_compiled(connection):
    rpc.compiled_service(sum_and_count, request=np.empty(8), reply=np.empty(2)).serve(connection)
    return "served"


def test_compiled_code_calls_compiled_code():
    ours, theirs = zcipc.Pipe()
    with Child(serve_compiled, theirs) as child:
        with ours:
            ours.poll()
            request, reply = np.zeros(8), np.zeros(2)
            assert call_often(ours.end, request, reply, 1000) == 8 * 999 * 1000 / 2
            ours.send_bytes(np.ones(8).tobytes())
            assert np.frombuffer(ours.recv_bytes(timeout=PATIENCE))[0] == 8.0
        assert child.outcome() == "served"


def test_a_compiled_service_says_so_if_a_request_has_another_size():
    ours, theirs = zcipc.Pipe()
    with Child(serve_compiled, theirs) as child, ours:
        ours.send_bytes(b"short")
        assert child.outcome() is ValueError
        assert eventually(lambda: ours.poll(0.01))
