"""In place of `multiprocessing`: the same calls, the same errors, messages of any size; and objects read in place."""

import array
import multiprocessing
import os
import pickle
import signal
import socket
import threading
import time
from multiprocessing import AuthenticationError

import numpy as np
import pandas as pd
import pytest
from support import PATIENCE, Child, eventually

import zcipc
from zcipc import BufferTooShort, Client, Closed, Listener, PeerDied, PickleRefused, Pipe, TimedOut, Waiting, WrongDirection

pytestmark = pytest.mark.usefixtures("tidy")

AT_ONCE = 5.0  # seconds: generous for what should take none
METHODS = ("fork", "spawn", "forkserver")
LARGE = np.random.default_rng(1).integers(0, 256, 100_000, np.uint8).tobytes()  # for a queue of 4096 bytes


@pytest.fixture
def ends():
    left, right = Pipe(capacity=4096)
    with left, right:
        yield left, right


@pytest.fixture
def name():
    return f"drop-in/{os.getpid()}"


# --- workers


def echo_bytes(connection):
    with connection:
        while True:
            try:
                connection.send_bytes(connection.recv_bytes(timeout=PATIENCE), timeout=PATIENCE)
            except EOFError:
                return "end"


def echo(connection):
    with connection:
        while True:
            try:
                connection.send(connection.recv(timeout=PATIENCE), timeout=PATIENCE)
            except EOFError:
                return "end"


def send_forever(connection):
    connection.send("a large one follows")
    connection.send_bytes(bytes(1 << 30))


def write(connection, obj):
    with connection:
        connection.send(obj, timeout=PATIENCE)
    return "written"


def greet(name, key):
    with Client(name, authkey=key, timeout=PATIENCE) as connection:
        return connection.recv(timeout=PATIENCE)


# --- the calls of multiprocessing.connection


def test_a_pipe_of_one_direction_goes_from_the_second_end_to_the_first():
    reader, writer = Pipe(False)
    with reader, writer:
        assert (reader.readable, reader.writable, writer.readable, writer.writable) == (True, False, False, True)
        writer.send(1)
        assert reader.recv(timeout=AT_ONCE) == 1
        calls = [lambda: reader.send(2), lambda: reader.send_bytes(b"2"), lambda: reader.send(LARGE), reader.loan(1).__enter__]
        calls += [writer.recv, writer.recv_bytes, writer.poll, writer.borrow().__enter__]
        for call in calls:
            with pytest.raises(WrongDirection) as error:
                call()
            assert isinstance(error.value, OSError)
        writer.send(3)
        assert reader.recv(timeout=AT_ONCE) == 3


@pytest.mark.parametrize("method", METHODS)
def test_a_direction_goes_with_its_end(method):
    reader, writer = Pipe(duplex=False)
    with reader, Child(write, writer, "hello", method=method) as child:
        assert reader.recv(timeout=PATIENCE) == "hello"
        writer.close()
        with pytest.raises(EOFError):
            reader.recv(timeout=PATIENCE)
        assert child.outcome() == "written"


def test_a_message_is_received_into_a_buffer(ends):
    left, right = ends
    numbers = array.array("i", range(4))
    left.send_bytes(numbers)
    left.send_bytes(numbers)
    left.send_bytes(b"12345")
    room = array.array("i", [0] * 10)
    assert right.recv_bytes_into(room) == 16
    assert room.tolist() == [0, 1, 2, 3, 0, 0, 0, 0, 0, 0]
    assert right.recv_bytes_into(room, 24) == 16
    assert room.tolist() == [0, 1, 2, 3, 0, 0, 0, 1, 2, 3]
    with pytest.raises(BufferTooShort) as error:
        right.recv_bytes_into(bytearray(4))
    assert error.value.args == (b"12345",)
    assert isinstance(error.value, multiprocessing.BufferTooShort)
    with pytest.raises(ValueError, match="do not lie within"):
        right.recv_bytes_into(bytearray(4), 5)
    with pytest.raises(TypeError, match="bytes, which is read-only"):
        right.recv_bytes_into(b"constant")


def test_a_message_longer_than_maxlength_is_an_oserror_as_it_is_there(ends):
    left, right = ends
    left.send_bytes(b"12345")
    with pytest.raises(OSError, match="12345"):
        right.recv_bytes(4)


def test_the_ends_errors_are_those_that_programs_catch(ends):
    left, right = ends
    left.close()
    with pytest.raises(EOFError):
        right.recv()
    with pytest.raises(BrokenPipeError):
        right.send(1)
    with pytest.raises(OSError, match="closed here"):
        left.recv()


def test_what_multiprocessing_pickles_goes_through(ends):
    left, right = ends
    one, other = multiprocessing.Pipe()
    first, second = socket.socketpair()
    with one, other, first, second:
        left.send((other, second))
        connection, received = right.recv(timeout=AT_ONCE)
        with connection, received:
            one.send("pipe")
            first.send(b"socket")
            assert connection.recv() == "pipe"
            assert received.recv(10) == b"socket"


# --- messages larger than the queue


@pytest.mark.parametrize("size", [4081, 8192, 100_000])
def test_a_message_larger_than_the_queue_arrives_whole(ends, size):
    left, right = ends
    for _ in range(2):
        thread = threading.Thread(target=left.send_bytes, args=(LARGE[:size],))
        thread.start()
        assert right.recv_bytes(timeout=PATIENCE) == LARGE[:size]
        thread.join()
    left.send_bytes(b"small")
    assert right.recv_bytes(timeout=AT_ONCE) == b"small"
    assert left.statistics().messages_sent == right.statistics().messages_received == 3


@pytest.mark.parametrize("method", METHODS)
def test_large_messages_cross_between_processes(method):
    left, right = Pipe(capacity=1 << 16)
    message = np.random.default_rng(2).bytes(16 << 20)
    with left, Child(echo_bytes, right, method=method) as child:
        right.close()
        thread = threading.Thread(target=left.send_bytes, args=(message,))
        thread.start()
        assert left.recv_bytes(timeout=PATIENCE) == message
        thread.join()
        left.close()
        assert child.outcome() == "end"


def large_objects():
    grid = np.arange(30_000.0).reshape(100, 300)
    yield grid
    yield grid.T
    yield grid[::2, ::-3]
    yield np.zeros(5_000, [("a", "<i4"), ("b", "<f8", (2, 2))])
    yield {"arrays": [grid, grid.astype("M8[s]")], "bytes": LARGE, "text": "x" * 10_000}
    yield LARGE


def test_large_objects_arrive_as_they_were(ends):
    left, right = ends
    for obj in large_objects():
        thread = threading.Thread(target=left.send, args=(obj,))
        thread.start()
        received = right.recv(timeout=PATIENCE)
        thread.join()
        assert type(received) is type(obj)
        if isinstance(obj, np.ndarray):
            assert (received.dtype, received.shape) == (obj.dtype, obj.shape)
            assert (received == obj).all()
            received[:1] = received[1:2]
        else:
            assert pickle.dumps(received) == pickle.dumps(obj)


def test_a_large_message_can_be_borrowed_from_private_memory(ends):
    left, right = ends
    thread = threading.Thread(target=left.send_bytes, args=(LARGE,))
    thread.start()
    with right.borrow(timeout=PATIENCE) as buffer:
        assert buffer.readonly
        view = np.frombuffer(buffer, np.uint8)
        assert bytes(buffer) == LARGE
    thread.join()
    for number in range(20):
        left.send_bytes(bytes([number]) * 800, timeout=AT_ONCE)
        assert right.recv_bytes() == bytes([number]) * 800
    assert view.tobytes() == LARGE
    assert right.statistics().views_alive == 0, "nothing of the queue is kept"


def test_a_large_message_given_up_is_dropped_and_the_next_arrives(ends):
    left, right = ends
    left.send_bytes(b"before")
    with pytest.raises(TimedOut):
        left.send_bytes(LARGE, timeout=0.05)
    assert right.recv_bytes(timeout=AT_ONCE) == b"before"
    with pytest.raises(TimedOut):
        right.recv_bytes(timeout=0.05)
    left.send_bytes(b"after", timeout=AT_ONCE)
    assert right.recv_bytes(timeout=AT_ONCE) == b"after"
    thread = threading.Thread(target=left.send_bytes, args=(LARGE,))
    thread.start()
    assert right.recv_bytes(timeout=AT_ONCE) == LARGE
    thread.join()


def test_ctrl_c_gives_a_large_message_up(ends):
    left, right = ends
    left.send("opens")
    right.recv()
    timer = threading.Timer(0.15, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        left.send_bytes(LARGE)
    timer.join()
    with pytest.raises(TimedOut):
        right.recv(timeout=0)
    left.send("after")
    assert right.recv(timeout=AT_ONCE) == "after"


def test_a_receiver_without_patience_gets_a_large_message_in_the_end(ends):
    left, right = ends
    thread = threading.Thread(target=left.send_bytes, args=(LARGE,))
    thread.start()
    tries = 0
    while True:
        try:
            message = right.recv_bytes(timeout=0)
        except TimedOut:
            tries += 1
            assert zcipc.wait([right], PATIENCE) == [right]
        else:
            break
    thread.join()
    assert message == LARGE
    assert tries


def test_threads_send_large_and_small_messages_that_do_not_mix(ends):
    left, right = ends
    messages = [bytes([number]) * size for number in range(8) for size in (10, 50_000)]
    threads = [threading.Thread(target=left.send_bytes, args=(message,)) for message in messages]
    for thread in threads:
        thread.start()
    received = [right.recv_bytes(timeout=PATIENCE) for _ in messages]
    for thread in threads:
        thread.join()
    assert sorted(received) == sorted(messages)


def test_half_a_message_of_a_killed_sender_is_never_received():
    left, right = Pipe(capacity=1 << 16)
    with left, Child(send_forever, right) as child:
        right.close()
        assert left.recv(timeout=PATIENCE) == "a large one follows"
        assert left.poll(PATIENCE)
        with pytest.raises(TimedOut):
            left.recv_bytes(timeout=0.02)
        child.kill()
        with pytest.raises(PeerDied):
            left.recv_bytes(timeout=PATIENCE)


def test_a_sender_of_a_large_message_notices_that_the_receiver_closes(ends):
    left, right = ends
    raised = []

    def send():
        try:
            left.send_bytes(LARGE)
        except BrokenPipeError as error:
            raised.append(type(error))

    thread = threading.Thread(target=send)
    thread.start()
    assert right.poll(AT_ONCE)
    right.close()
    thread.join(PATIENCE)
    assert raised == [Closed]


# --- objects in place


def test_arrays_of_a_borrowed_object_lie_in_shared_memory(ends):
    left, right = ends
    grid, records = np.arange(60.0).reshape(3, 20), np.ones(9, [("a", "<i2"), ("b", "<f8")])
    for obj in (grid, grid.T, records, {"grid": grid, "more": [records, 1]}):
        left.send(obj)
        with right.borrow_object(timeout=AT_ONCE) as received:
            arrays = [received] if isinstance(received, np.ndarray) else [received["grid"], received["more"][0]]
            for one, sent in zip(arrays, [obj] if isinstance(obj, np.ndarray) else [grid, records], strict=True):
                assert (one == sent).all()
                assert not one.flags.writeable
                start = one.__array_interface__["data"][0] - right._segment.address
                assert 0 <= start < right._segment.size


def test_an_array_of_a_borrowed_object_keeps_the_message(ends):
    left, right = ends
    left.send({"a": np.arange(300)})
    with right.borrow_object() as obj:
        pass
    for _ in range(3):
        with pytest.raises(TimedOut):
            left.send_bytes(bytes(3000), timeout=0.01)
    assert (obj["a"] == np.arange(300)).all()
    del obj
    assert not right.poll()
    assert right.statistics().views_alive == 0
    thread = threading.Thread(target=left.send_bytes, args=(bytes(3000),))
    thread.start()
    assert right.recv_bytes(timeout=AT_ONCE) == bytes(3000)
    thread.join()


def test_borrowed_bytes_are_a_view(ends):
    left, right = ends
    left.send(b"bytes")
    with right.borrow_object() as view:
        assert view == b"bytes"
        assert isinstance(view, memoryview)


def test_tables_go_through_their_buffers(ends):
    left, right = ends
    table = pd.DataFrame({"number": np.arange(50.0), "text": ["a", "ü"] * 25, "when": pd.date_range("2020", periods=50)})
    thread = threading.Thread(target=left.send, args=(table,))
    thread.start()
    pd.testing.assert_frame_equal(right.recv(timeout=PATIENCE), table)
    thread.join()


def test_arrow_tables_go_through_their_buffers(ends):
    arrow = pytest.importorskip("pyarrow")
    left, right = ends
    table = arrow.table({"number": np.arange(100.0), "text": ["a", "ü"] * 50})
    thread = threading.Thread(target=left.send, args=(table,))
    thread.start()
    assert right.recv(timeout=PATIENCE).equals(table)
    thread.join()


# --- never unpickling


class Trap:
    def __reduce__(self):
        return os.abort, ()


def test_without_pickle_bytes_and_arrays_go_and_nothing_is_unpickled():
    left, right = Pipe(allow_pickle=False)
    with left, right:
        for obj in (b"bytes", np.arange(5), np.zeros(3, [("a", "<i4"), ("b", "<f8")]), np.array(["2020"], "M8[D]")):
            left.send(obj)
            assert np.array_equal(right.recv(), obj)
        for obj in ([1], "text", np.array([1, None])):
            with pytest.raises(PickleRefused, match="takes bytes and arrays"):
                left.send(obj)
        left.send_bytes(pickle.dumps(1))
        assert right.recv() == pickle.dumps(1), "bytes stay bytes"


def test_a_pickle_from_a_peer_that_does_not_heed_that_is_refused():
    left, right = Pipe(allow_pickle=False)
    with left, right:
        left._manner = left._manner._replace(allow_pickle=True)
        for obj in (Trap(), [Trap(), np.arange(5)]):
            left.send(obj)
            with pytest.raises(PickleRefused, match="this connection takes none"):
                right.recv()
        left.send(b"and goes on")
        assert right.recv() == b"and goes on"


# --- many at once


def test_wait_takes_whatever_can_be_ready(ends):
    left, right = ends
    pipe, other = multiprocessing.Pipe()
    one, two = socket.socketpair()
    with pipe, other, one, two, Child(time.sleep, 0.3) as child:
        everything = [left, right, pipe, one, child.process.sentinel]
        assert zcipc.wait(everything, 0) == []
        start = time.monotonic()
        assert zcipc.wait([left, right, pipe, one], 0.05) == []
        assert 0.05 <= time.monotonic() - start < AT_ONCE
        left.send(1)
        two.send(b"1")
        assert set(zcipc.wait(everything, AT_ONCE)) == {right, one}
        assert right.recv() == 1
        assert one.recv(1) == b"1"
        assert zcipc.wait(everything, AT_ONCE) == [child.process.sentinel]


def test_wait_serves_many_ends():
    pairs = [Pipe(capacity=4096) for _ in range(20)]
    readers = [reader for reader, _ in pairs]
    threads = [threading.Timer(0.01 * number, writer.send, [number]) for number, (_, writer) in enumerate(pairs)]
    for thread in threads:
        thread.start()
    got = []
    while len(got) < len(pairs):
        ready = zcipc.wait(readers, AT_ONCE)
        assert ready
        got += [end.recv(timeout=0) for end in ready]
    assert sorted(got) == list(range(20))
    for end in (end for pair in pairs for end in pair):
        end.close()


def test_wait_is_not_ended_by_a_dropped_loan(ends):
    left, right = ends
    assert zcipc.wait([right], 0) == []
    with pytest.raises(ZeroDivisionError), left.loan(8):
        raise ZeroDivisionError
    assert zcipc.wait([right], 0.02) == []
    left.send(1)
    assert zcipc.wait([right], AT_ONCE) == [right]


# --- listeners


def test_a_secret_lets_in_who_knows_it(name):
    with Listener(name, authkey=b"secret") as listener:
        assert (listener.address, listener.last_accepted) == (name, None)
        with Child(greet, name, b"secret") as child, listener.accept(timeout=PATIENCE) as connection:
            assert listener.last_accepted == child.pid
            connection.send("welcome")
            assert child.outcome() == "welcome"


@pytest.mark.parametrize("key", [b"guess", None])
def test_a_secret_keeps_out_who_does_not(name, key):
    with Listener(name, authkey=b"secret") as listener, Child(greet, name, key) as child:
        if key is None:
            with pytest.raises(TimedOut):
                listener.accept(timeout=1)
        else:
            with pytest.raises(AuthenticationError):
                listener.accept(timeout=PATIENCE)
        assert child.outcome() is AuthenticationError


def test_a_secret_that_nobody_asks_for_is_an_error(name):
    with Listener(name) as listener, Child(greet, name, b"secret") as child:
        with pytest.raises(TimedOut):
            listener.accept(timeout=1)
        assert child.outcome() is AuthenticationError


def test_a_listener_takes_names_only(name):
    for make in (Listener, Client):
        with pytest.raises(ValueError, match=r"use multiprocessing.connection"):
            make(("localhost", 6000))
        with pytest.raises(ValueError, match="AF_INET"):
            make(name, "AF_INET")
        with pytest.raises(TypeError, match="must be bytes"):
            make(name, authkey="secret")
    with Listener() as one, Listener(None, "AF_UNIX", 5) as other:
        assert one.address != other.address


def test_listeners_without_pickle_make_connections_without(name):
    with Listener(name, allow_pickle=False, waiting=Waiting.BLOCK) as listener:
        clients = []
        thread = threading.Thread(target=lambda: clients.append(Client(name, timeout=PATIENCE)))
        thread.start()
        with listener.accept(timeout=PATIENCE) as connection:
            thread.join()
            for end in (connection, *clients):
                with pytest.raises(PickleRefused):
                    end.send([1])
        assert eventually(lambda: clients[0].poll())
        clients[0].close()
