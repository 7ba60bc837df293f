"""Two ends, two processes: what is sent arrives, once and in order; what cannot is said, and nothing is left behind."""

import ctypes
import gc
import multiprocessing
import os
import pickle
import select
import signal
import statistics
import threading
import time
from collections import namedtuple
from multiprocessing import BufferTooShort
from pathlib import Path

import numpy as np
import pytest
from support import PATIENCE, Child, alive, eventually

import zcipc
from zcipc import Closed, LoanOpen, MessageTooLarge, PeerDied, PermissionDenied, Pipe, TimedOut, Waiting
from zcipc.ends.end import DEFAULT_CAPACITY
from zcipc.ends.methods import entries

pytestmark = pytest.mark.usefixtures("tidy")

Point = namedtuple("Point", "x y")
RECORDS = np.array([(1, 2.5), (3, 4.5)], dtype=[("a", "<i4"), ("b", "<f8")])
GRID = np.arange(60.0).reshape(3, 4, 5)
AT_ONCE = 5.0  # seconds: generous for what should take none


@pytest.fixture(params=list(Waiting), ids=lambda waiting: waiting.name.lower())
def waiting(request):
    return request.param


@pytest.fixture
def ends():
    left, right = Pipe(capacity=4096)
    with left, right:
        yield left, right


def same(one, other):
    if isinstance(one, np.ndarray):
        assert (type(one), one.dtype, one.shape) == (type(other), other.dtype, other.shape)
        return one.size == 0 or bool(np.array_equal(one, other, equal_nan=one.dtype.kind in "fcmM"))
    return type(one) is type(other) and one == other


# --- workers


def echo(connection):
    """Send back whatever comes, until the other end closes."""
    with connection:
        while True:
            try:
                connection.send(connection.recv(timeout=PATIENCE))
            except Closed:
                return "closed"


def own_pid_when_told(connection):
    with connection:
        connection.recv(timeout=PATIENCE)
        connection.send(os.getpid(), timeout=PATIENCE)
    return "told"


def use(connection):
    connection.send("hello", timeout=PATIENCE)
    return "sent"


def receive_one(connection):
    return connection.recv(timeout=PATIENCE)


def send_some_then_hang(connection, count):
    for number in range(count):
        connection.send(number)
    time.sleep(3600)


def exit_without_closing(connection, count):
    for number in range(count):
        connection.send(number)
    os._exit(0)


def send_and_forget(connection):
    connection.send("the last word")
    return "returned"


def pair_of_processes(pipe):
    """Make a connection, start the other process, report both numbers, and hang."""
    left, right = Pipe()
    other = Child(echo, right)
    left.send("are you there?")
    assert left.recv(timeout=PATIENCE) == "are you there?"
    pipe.send((os.getpid(), other.pid, left._segment.name))
    time.sleep(3600)


def pass_on(connection):
    """Receive an end through a connection and use it."""
    with connection, connection.recv(timeout=PATIENCE) as received:
        received.send("through the other", timeout=PATIENCE)
    return "passed"


# --- objects

OBJECTS = {
    "none": None,
    "text": "grüße",
    "no bytes": b"",
    "bytes": b"\x00\xff" * 300,
    "bytearray": bytearray(b"mutable"),
    "nested": {"a": [1, 2.5, (None, True)], "b": {"c": {3}}},
    "a large integer": 1 << 300,
    "a named tuple": Point(1, 2),
    "integers": np.arange(10, dtype=np.int16),
    "big-endian": np.arange(10, dtype=">f4"),
    "complex": np.array([1 + 2j, np.nan]),
    "booleans": np.array([[True, False]]),
    "half": np.ones(3, np.float16),
    "dates": np.array(["2020-01-01", "NaT"], "M8[D]"),
    "byte strings": np.array([b"ab", b"c"]),
    "texts": np.array(["grüße", ""]),
    "fortran": np.asfortranarray(GRID),
    "transposed": GRID.T,
    "middle axes swapped": GRID.swapaxes(0, 1),
    "strided": GRID[::2, 1:, ::-2],
    "broadcast": np.broadcast_to(np.arange(4), (3, 4)),
    "no dimensions": np.array(7.0),
    "no elements": np.empty((0, 5)),
    "no elements, strided": GRID[:, :0, ::2],
    "structured": RECORDS,
    "structured, strided": RECORDS[::2],
    "objects": np.array([1, "two", None], dtype=object),
    "unaligned": np.frombuffer(b"x" + np.arange(4.0).tobytes(), np.float64, 4, 1),
    "read-only": np.frombuffer(b"12345678", np.int64),
    "a numpy scalar": np.float32(2.5),
    "a datatype": np.dtype("<f8"),
}


@pytest.mark.parametrize("name", OBJECTS)
def test_an_object_arrives_as_it_was(ends, name):
    left, right = ends
    left.send(OBJECTS[name])
    assert same(right.recv(), OBJECTS[name])
    left.send([OBJECTS[name]])  # and inside another, where pickle meets it
    (received,) = right.recv()
    assert same(received, OBJECTS[name])


def test_arrays_keep_their_memory_order(ends):
    left, right = ends
    for array in (GRID, np.asfortranarray(GRID)):
        left.send(array)
        received = right.recv()
        assert received.flags.c_contiguous == array.flags.c_contiguous
        assert received.flags.f_contiguous == array.flags.f_contiguous


def test_what_is_received_is_the_receivers_own(ends):
    left, right = ends
    array = np.zeros(100)
    left.send(array)
    left.send({"inside": array})
    received, inside = right.recv(), right.recv()["inside"]
    for _ in range(50):  # laps over the same bytes
        left.send(np.full(100, 7.0))
        right.recv()
    received += 1
    inside += 2
    assert (array == 0).all()
    assert (received == 1).all()
    assert (inside == 2).all()


def test_a_subclass_of_an_array_stays_one(ends):
    left, right = ends
    left.send(np.ma.masked_array([1, 2, 3], mask=[0, 1, 0]))
    received = right.recv()
    assert isinstance(received, np.ma.MaskedArray)
    assert received.mask.tolist() == [False, True, False]


def test_pickled_buffers_arrive_beside_the_pickle(ends):
    left, right = ends
    left.send([pickle.PickleBuffer(b"constant"), pickle.PickleBuffer(bytearray(b"mutable")), pickle.PickleBuffer(b"")])
    assert right.recv() == [b"constant", bytearray(b"mutable"), b""]


def test_what_cannot_be_pickled_raises_and_sends_nothing(ends):
    left, right = ends
    with pytest.raises((AttributeError, TypeError, pickle.PicklingError)):
        left.send(lambda: None)
    left.send("next")
    assert right.recv(timeout=0) == "next"


def test_bytes_can_be_sent_in_parts_from_any_contiguous_buffer(ends):
    left, right = ends
    left.send_bytes(b"0123456789", 2)
    left.send_bytes(bytearray(b"0123456789"), 2, 3)
    left.send_bytes(np.arange(3, dtype=np.int32))
    left.send_bytes(memoryview(b"abc"))
    left.send_bytes(b"")
    assert [right.recv_bytes() for _ in range(5)] == [b"23456789", b"234", np.arange(3, dtype=np.int32).tobytes(), b"abc", b""]
    for offset, size in ((-1, None), (0, 11), (11, None), (4, -1)):
        with pytest.raises(ValueError, match="do not lie within"):
            left.send_bytes(b"0123456789", offset, size)
    with pytest.raises((ValueError, BufferError)):
        left.send_bytes(np.arange(10)[::2])
    with pytest.raises(TypeError):
        left.send_bytes("text")
    assert not right.poll()


def test_bytes_longer_than_asked_for_are_too_long(ends):
    left, right = ends
    left.send_bytes(b"12345")
    left.send_bytes(b"123")
    with pytest.raises(BufferTooShort):
        right.recv_bytes(4)
    assert right.recv_bytes(3) == b"123"


def test_plain_bytes_are_received_as_a_pickle_as_multiprocessing_does(ends):
    left, right = ends
    left.send_bytes(pickle.dumps([1, 2]))
    assert right.recv() == [1, 2]


def test_a_message_that_is_not_what_its_tag_says_is_corrupt(ends):
    left, right = ends
    left.send("opens the end")
    right.recv()
    for message, tag in ((b"\xff" * 3, 2), (b"\x01\x00\x03\x00" + b"\xff" * 8 + b"<f8", 2), (b"", 4), (b"what", 99)):
        entries.send(left, message, tag)
        with pytest.raises(zcipc.CorruptSegment):
            right.recv(timeout=AT_ONCE)
    left.send("usable")
    assert right.recv(timeout=AT_ONCE) == "usable"


# --- processes


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_an_end_works_in_another_process_however_it_starts(method):
    left, right = Pipe()
    with Child(echo, right, method=method) as child, left:
        for obj in ("text", GRID.T, [GRID, b"bytes"], np.zeros(100_000)):
            left.send(obj, timeout=PATIENCE)
            received = left.recv(timeout=PATIENCE)
            assert pickle.dumps(received) == pickle.dumps(obj) or np.array_equal(received, obj)
        assert left.statistics().peer_pid == child.pid
        left.close()
        assert child.outcome() == "closed"
    right.close()


def test_messages_cross_in_order_however_the_ends_wait(waiting):
    left, right = Pipe(capacity=4096, waiting=waiting)
    with Child(echo, right), left:
        right.close()
        sent = []
        for number in range(300):
            left.send(number, timeout=PATIENCE)
            sent.append(number)
            if len(sent) > 20:
                assert left.recv(timeout=PATIENCE) == sent.pop(0)
        assert [left.recv(timeout=PATIENCE) for _ in sent] == sent
        assert left.statistics().waiting is waiting


def test_an_end_can_be_sent_through_another_connection():
    left, right = Pipe()
    near, far = Pipe()
    with Child(pass_on, right) as child, left, near:
        left.send(far)
        assert near.recv(timeout=PATIENCE) == "through the other"
        assert child.outcome() == "passed"
    far.close()
    right.close()


def test_an_end_in_use_cannot_be_handed_over(ends):
    left, right = ends
    left.send(1)
    with pytest.raises(PermissionDenied, match="in use here"):
        right.send(left)


def test_a_forked_child_may_not_use_the_end_of_its_parent(ends):
    left, right = ends
    left.send("mine")
    for function in (use, receive_one):
        with Child(function, left) as child:
            assert child.outcome() is PermissionDenied
    assert right.recv() == "mine"
    right.send("still open")
    assert left.recv(timeout=AT_ONCE) == "still open"


def test_a_third_process_is_refused():
    left, right = Pipe()
    with left, right, Child(own_pid_when_told, right) as second, Child(receive_when_told, right, left._segment.name) as third:
        left.send("go")
        assert left.recv(timeout=PATIENCE) == second.pid
        assert third.outcome() is PermissionDenied
        with pytest.raises(PermissionDenied, match=f"process {second.pid} has its seat"):
            right.send("me neither")


def receive_when_told(connection, segment_name):
    """Use an end once both of its seats are taken, which is when the name goes."""
    assert eventually(lambda: not Path("/dev/shm", segment_name).exists())
    return receive_one(connection)


def test_the_name_of_the_segment_goes_when_both_ends_are_used(ends):
    left, right = ends
    path = Path("/dev/shm", left._segment.name)
    left.send(1)
    assert path.exists()
    assert path.stat().st_mode & 0o777 == 0o600
    right.recv()
    assert not path.exists()


# --- time-outs and ends


def test_a_time_out_passes_and_the_connection_goes_on(ends, waiting):
    left, right = Pipe(capacity=4096, waiting=waiting)
    with left, right:
        for timeout in (0, 0.05):
            start = time.monotonic()
            with pytest.raises(TimedOut):
                right.recv(timeout=timeout)
            with pytest.raises(TimedOut):
                right.recv_bytes(timeout=timeout)
            with pytest.raises(TimedOut), right.borrow(timeout=timeout):
                pass
            assert 3 * timeout <= time.monotonic() - start < AT_ONCE
        while left.statistics().bytes_queued_out < 3000:
            left.send_bytes(bytes(1000))
        for timeout in (0, 0.05):
            with pytest.raises(TimedOut):
                left.send_bytes(bytes(2000), timeout=timeout)
            with pytest.raises(TimedOut), left.loan(2000, timeout=timeout):
                pass
        assert right.recv_bytes(timeout=AT_ONCE) == bytes(1000)
        assert right.recv_bytes(timeout=AT_ONCE) == bytes(1000)
        left.send_bytes(bytes(1500), timeout=AT_ONCE)


def test_poll_says_whether_something_is_there(ends):
    left, right = ends
    assert not right.poll()
    assert not right.poll(0.01)
    left.send(1)
    assert right.poll()
    assert right.poll(None)
    assert right.recv() == 1
    left.close()
    assert right.poll(), "the end of all messages is there"


def test_what_was_sent_before_closing_is_received_first(ends):
    left, right = ends
    left.send(1)
    left.send(2)
    left.close()
    left.close()
    assert left.closed
    assert (right.recv(), right.recv()) == (1, 2)
    for call in (right.recv, right.recv_bytes, lambda: right.send(3), right.borrow().__enter__):
        with pytest.raises(Closed) as error:
            call()
        assert not isinstance(error.value, PeerDied)
    for call in (left.recv, left.recv_bytes, left.fileno, lambda: left.send(1)):
        with pytest.raises(Closed, match="closed here"):
            call()


def test_what_was_sent_after_many_dropped_loans_is_received_before_the_end(ends):
    left, right = ends
    drop_loans(left, 20)
    left.send_bytes(b"the last word")
    left.close()
    assert right.recv_bytes(timeout=AT_ONCE) == b"the last word"


def test_a_message_behind_many_dropped_loans_is_there_without_waiting(ends):
    left, right = ends
    drop_loans(left, 20)
    left.send_bytes(b"there")
    assert right.poll()
    assert right.recv_bytes(timeout=0) == b"there"


def drop_loans(connection, count):
    for _ in range(count):
        with pytest.raises(ZeroDivisionError), connection.loan(8) as buffer:
            buffer[:] = bytes(1 // 0)


def test_closing_ends_the_wait_of_a_thread_at_either_end(waiting):
    for closing in (0, 1):
        ends = Pipe(waiting=waiting)
        ends[0].send(1)
        ends[1].recv()
        raised = []

        def wait(end=ends[0], raised=raised):
            try:
                end.recv(timeout=PATIENCE)
            except Exception as error:
                raised.append(type(error))

        thread = threading.Thread(target=wait)
        thread.start()
        time.sleep(0.1)
        ends[closing].close()
        thread.join(PATIENCE)
        assert raised == [Closed]
        for end in ends:
            end.close()


def test_an_end_closes_when_its_process_returns():
    left, right = Pipe()
    with left, Child(send_and_forget, right) as child:
        right.close()
        assert child.outcome() == "returned"
        assert left.recv(timeout=PATIENCE) == "the last word"
        with pytest.raises(Closed) as error:
            left.recv(timeout=PATIENCE)
        assert not isinstance(error.value, PeerDied)


def test_what_a_killed_peer_had_sent_is_received_first(waiting):
    left, right = Pipe(waiting=waiting)
    with left, Child(send_some_then_hang, right, 100) as child:
        right.close()
        assert left.recv(timeout=PATIENCE) == 0
        assert eventually(lambda: left.statistics().bytes_queued_in >= 99 * 16)
        child.kill()
        child.process.join()
        assert [left.recv(timeout=PATIENCE) for _ in range(99)] == list(range(1, 100))
        with pytest.raises(PeerDied):
            left.recv(timeout=PATIENCE)


@pytest.mark.parametrize("blocked", ["receiving", "sending", "borrowing", "polling"])
def test_a_wait_ends_within_250_ms_of_the_death_of_the_peer(waiting, blocked):
    left, right = Pipe(capacity=4096, waiting=waiting)
    calls = {
        "receiving": lambda: left.recv(timeout=PATIENCE),
        "sending": lambda: send_until_full(left),
        "borrowing": lambda: left.borrow(timeout=PATIENCE).__enter__(),
        "polling": lambda: left.poll(PATIENCE) and left.recv(timeout=PATIENCE),
    }
    with left, Child(send_some_then_hang, right, 1) as child:
        right.close()
        assert left.recv(timeout=PATIENCE) == 0
        killed = []
        timer = threading.Timer(0.1, lambda: (killed.append(time.monotonic()), child.kill()))
        timer.start()
        with pytest.raises(PeerDied, match=f"process {child.pid} "):
            calls[blocked]()
        assert time.monotonic() - killed[0] < 0.25
        timer.join()


def test_a_death_costs_no_longer_than_the_wait_before_it(waiting):
    late = []
    for _ in range(7):
        left, right = Pipe(capacity=4096, waiting=waiting)
        with left, Child(send_some_then_hang, right, 1) as child:
            right.close()
            assert left.recv(timeout=PATIENCE) == 0
            died = []
            timer = threading.Timer(0.005, lambda child=child, died=died: died.append(killed(child.pid)))
            timer.start()
            with pytest.raises(PeerDied):
                left.recv(timeout=PATIENCE)
            told = time.monotonic()
            timer.join()
            late.append(told - died[0])
    assert statistics.median(late) < 0.015


def killed(pid):
    """Kill a process; when it had died."""
    process = os.pidfd_open(pid)
    signal.pidfd_send_signal(process, signal.SIGKILL)
    select.select([process], [], [], PATIENCE)
    os.close(process)
    return time.monotonic()


def send_until_full(connection):
    while True:
        connection.send_bytes(bytes(500), timeout=PATIENCE)


def test_a_peer_that_exits_without_closing_has_died():
    left, right = Pipe()
    with left, Child(exit_without_closing, right, 3):
        right.close()
        assert [left.recv(timeout=PATIENCE) for _ in range(3)] == [0, 1, 2]
        start = time.monotonic()
        with pytest.raises(PeerDied):
            left.recv(timeout=PATIENCE)
        assert time.monotonic() - start < AT_ONCE


@pytest.mark.parametrize("blocked", ["receiving", "sending"])
def test_ctrl_c_ends_a_wait_and_the_connection_goes_on(waiting, blocked):
    left, right = Pipe(capacity=4096, waiting=waiting)
    with left, right:
        left.send("opens")
        assert right.recv() == "opens"
        timer = threading.Timer(0.15, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        call = {"receiving": lambda: right.recv(timeout=PATIENCE), "sending": lambda: send_until_full(left)}[blocked]
        with pytest.raises(KeyboardInterrupt):
            call()
        timer.join()
        while right.poll():
            right.recv_bytes()
        left.send("after")
        assert right.recv(timeout=AT_ONCE) == "after"
        right.send("and back")
        assert left.recv(timeout=AT_ONCE) == "and back"


def test_nothing_is_left_when_both_processes_are_killed():
    ours, theirs = multiprocessing.Pipe()
    with ours, theirs, Child(pair_of_processes, theirs) as child:
        assert ours.poll(PATIENCE)
        first, second, name = ours.recv()
        os.kill(first, signal.SIGKILL)
        os.kill(second, signal.SIGKILL)
        child.process.join()
    assert not Path("/dev/shm", name).exists()
    assert eventually(lambda: not alive(second))


@pytest.mark.parametrize("used", [0, 1, 2])
def test_nothing_is_left_after_closing(used):
    left, right = Pipe()
    name = left._segment.name
    if used:
        left.send(1)
    if used == 2:
        right.recv()
    left.close()
    right.close()
    assert not Path("/dev/shm", name).exists()


def test_nothing_is_left_by_ends_that_are_forgotten():
    left, right = Pipe()
    name = left._segment.name
    del left, right
    assert eventually(lambda: not Path("/dev/shm", name).exists())


def test_ends_in_a_circle_of_references_are_closed_by_the_collector():
    left, right = Pipe()
    left.send(1)
    circle = [left]
    circle.append(circle)
    del left, circle
    gc.collect()
    assert right.recv() == 1
    with pytest.raises(Closed):
        right.recv(timeout=AT_ONCE)
    right.close()


# --- loans and borrows


def test_a_loan_is_written_in_place_and_sent_when_its_block_ends(ends):
    left, right = ends
    with left.loan(24) as buffer:
        np.frombuffer(buffer, np.int64)[:] = [1, 2, 3]
        assert not right.poll()
    with right.borrow(timeout=AT_ONCE) as message:
        assert message.readonly
        assert np.frombuffer(message, np.int64).tolist() == [1, 2, 3]
    with pytest.raises(ValueError, match="released"):
        message[0]
    with pytest.raises(ValueError, match="released"):
        buffer[0]


def test_a_loan_that_raises_is_dropped(ends):
    left, right = ends
    drop_loans(left, 1)
    left.send_bytes(b"sent")
    assert right.recv_bytes() == b"sent"
    assert left.statistics().messages_sent == 1


def test_a_borrow_that_raises_is_received_all_the_same(ends):
    left, right = ends
    left.send_bytes(b"one")
    left.send_bytes(b"two")
    with pytest.raises(ZeroDivisionError), right.borrow():
        raise ZeroDivisionError
    assert right.recv_bytes() == b"two"


def test_nothing_else_is_sent_while_a_loan_is_open(ends):
    left, right = ends
    with left.loan(8) as buffer:
        buffer[:] = b"12345678"
        for call in (lambda: left.send_bytes(b"x"), lambda: left.send("x"), lambda: left.send(GRID), left.loan(1).__enter__):
            with pytest.raises(LoanOpen):
                call()
    assert right.recv_bytes() == b"12345678"
    assert not right.poll()


def test_a_loan_of_no_bytes_is_an_empty_message(ends):
    left, right = ends
    with left.loan(0) as buffer:
        assert len(buffer) == 0
    assert right.recv_bytes(timeout=AT_ONCE) == b""
    with pytest.raises(ValueError, match="-1 bytes"), left.loan(-1):
        pass


def go_round(left, right):
    """Messages over several laps of a queue of 4096 bytes."""
    for _ in range(20):
        left.send_bytes(b"\xff" * 800, timeout=0.2)
        right.recv_bytes()


VIEWS = {
    "frombuffer": lambda buffer: np.frombuffer(buffer, np.uint8),
    "asarray": np.asarray,
    "ndarray": lambda buffer: np.ndarray(len(buffer), np.uint8, buffer),
    "slice": lambda buffer: buffer[:],
    "cast": lambda buffer: buffer.cast("b").cast("B"),
    "ctypes": lambda buffer: (ctypes.c_uint8 * len(buffer)).from_buffer(buffer),
}


@pytest.mark.parametrize("kind", VIEWS)
def test_a_view_of_a_loan_lives_on_and_its_bytes_are_not_reused(ends, kind):
    left, right = ends
    with left.loan(800) as buffer:
        buffer[:] = b"\x07" * 800
        view = VIEWS[kind](buffer)
    assert right.recv_bytes() == b"\x07" * 800
    with pytest.raises(TimedOut):
        go_round(left, right)
    assert bytes(view) == b"\x07" * 800
    assert left.statistics().views_alive == 1
    del view
    go_round(left, right)
    assert left.statistics().views_alive == 0


@pytest.mark.parametrize("kind", sorted(VIEWS.keys() - {"ctypes"}))  # which wants to write
def test_a_view_of_a_borrow_keeps_the_message_until_it_is_gone(ends, kind):
    left, right = ends
    left.send_bytes(b"\x07" * 800)
    with right.borrow() as buffer:
        view = VIEWS[kind](buffer)
    with pytest.raises(TimedOut):
        go_round(left, right)
    assert bytes(view) == b"\x07" * 800
    assert right.statistics().views_alive == 1
    del view
    while right.poll():
        right.recv_bytes()
    assert right.statistics().views_alive == 0
    left.send_bytes(bytes(3000), timeout=AT_ONCE)


def test_an_array_over_a_borrow_cannot_be_written(ends):
    left, right = ends
    left.send_bytes(bytes(80))
    with right.borrow() as buffer:
        assert not np.frombuffer(buffer, np.float64).flags.writeable


def test_an_array_over_a_dropped_loan_lives_on_and_no_message_is_spoilt(ends):
    left, right = ends
    kept = []
    with pytest.raises(ZeroDivisionError), left.loan(80) as buffer:
        kept.append(np.frombuffer(buffer, np.float64)) or 1 / 0
    left.send_bytes(b"message")
    kept[0][:] = -1
    assert right.recv_bytes(timeout=AT_ONCE) == b"message"


def test_borrows_may_end_in_any_order(ends):
    left, right = ends
    for number in range(3):
        left.send_bytes(bytes([number]) * 1300)
    first, second = right.borrow(), right.borrow()
    one, _ = first.__enter__(), second.__enter__()
    assert right.recv_bytes() == b"\x02" * 1300
    second.__exit__(None, None, None)
    with pytest.raises(TimedOut):
        left.send_bytes(bytes(1300), timeout=0.02)
    assert bytes(one) == bytes(1300)
    first.__exit__(None, None, None)
    left.send_bytes(bytes(1300), timeout=AT_ONCE)
    assert right.statistics().views_alive == 0


def test_a_buffer_is_invalid_after_its_block_though_an_earlier_borrow_is_open(ends):
    left, right = ends
    left.send_bytes(b"one")
    left.send_bytes(b"two")
    with right.borrow():
        with right.borrow() as inner:
            pass
        with pytest.raises(ValueError, match="released"):
            inner[0]


def test_a_view_outlives_even_the_closing_of_its_connection():
    left, right = Pipe()
    left.send_bytes(np.full(1000, 7.0))
    with right.borrow() as message:
        array = np.frombuffer(message, np.float64)
    right.close()
    left.close()
    assert (array == 7).all()


def test_a_sender_waits_for_room_until_the_receiver_makes_it(ends):
    left, right = ends
    received = []
    thread = threading.Thread(target=lambda: received.extend(right.recv_bytes(timeout=PATIENCE) for _ in range(50)))
    thread.start()
    for number in range(50):
        left.send_bytes(bytes([number]) * 1500, timeout=PATIENCE)
    thread.join()
    assert received == [bytes([number]) * 1500 for number in range(50)]


@pytest.mark.parametrize("excess", [1, 8, 9, 16, 17, 100_000])
def test_a_loan_that_can_never_fit_is_too_large_at_once(ends, excess):
    left, right = ends
    longest = left.capacity - 16
    with pytest.raises(MessageTooLarge, match=r"capacity=\d+"), left.loan(longest + excess):
        pass
    assert not right.poll()
    left.send_bytes(bytes(longest), timeout=AT_ONCE)
    assert len(right.recv_bytes(timeout=AT_ONCE)) == longest


def test_the_capacity_that_the_error_names_is_enough(ends):
    message = bytes(ends[0].capacity - 15)
    with pytest.raises(MessageTooLarge) as error, ends[0].loan(len(message)):
        pass
    left, right = Pipe(capacity=int(str(error.value).partition("capacity=")[2].split()[0]))
    with left, right:
        with left.loan(len(message), timeout=AT_ONCE) as buffer:
            buffer[:] = message
        assert right.recv_bytes() == message


# --- the rest


def test_a_capacity_is_rounded_up_and_must_be_positive():
    for asked, given in ((1, 4096), (4097, 8192), (1 << 16, 1 << 16)):
        left, right = Pipe(capacity=asked)
        with left, right:
            assert left.capacity == right.capacity == given
    for asked in (0, -1):
        with pytest.raises(ValueError, match="makes no sense"):
            Pipe(capacity=asked)


def test_threads_share_an_end(ends):
    left, right = ends
    left.send("opens")
    assert right.recv() == "opens"
    assert sorted(numbers_through_threads(left, right)) == list(range(1000))


def test_threads_may_be_the_first_to_use_an_end():
    for _ in range(10):
        left, right = Pipe(capacity=4096)
        raised, together = [], threading.Barrier(4)

        def first_use(connection, raised=raised, together=together):
            together.wait()
            try:
                connection.poll()
            except Exception as error:
                raised.append(error)

        with left, right:
            threads = [threading.Thread(target=first_use, args=(end,)) for end in (left, left, right, right)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(PATIENCE)
        assert not raised


def numbers_through_threads(left, right):
    """What two threads receive of 1000 numbers that two others send."""
    received = []

    def send(start):
        for number in range(start, start + 500):
            left.send(number, timeout=PATIENCE)

    def receive():
        for _ in range(500):
            received.append(right.recv(timeout=PATIENCE))

    threads = [threading.Thread(target=send, args=(start,)) for start in (0, 500)]
    threads += [threading.Thread(target=receive) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    return received


def test_statistics_say_what_an_end_has_done(ends):
    left, right = ends
    assert left.statistics().peer_pid is None
    left.send_bytes(bytes(10))
    left.send_bytes(bytes(16))
    assert right.recv_bytes() == bytes(10)
    right.send_bytes(b"back")
    mine, theirs = left.statistics(), right.statistics()
    assert (mine.messages_sent, mine.messages_received) == (2, 0)
    assert (theirs.messages_sent, theirs.messages_received) == (1, 1)
    assert mine.bytes_queued_out == theirs.bytes_queued_in == 24
    assert mine.bytes_queued_in == theirs.bytes_queued_out == 16
    assert mine.peer_pid == theirs.peer_pid == os.getpid()
    assert (mine.capacity, mine.views_alive, mine.waiting) == (4096, 0, Waiting.HYBRID)


def test_the_default_capacity_is_that_of_the_documentation():
    left, right = Pipe()
    with left, right:
        assert left.capacity == DEFAULT_CAPACITY == 1 << 20


def test_a_corrupt_record_raises_and_is_never_read(ends):
    left, right = ends
    left.send_bytes(b"12345678")
    right.recv_bytes()
    start = right._get(128) and 4096 + right._get(128 + 24) % right.capacity
    left._segment.buffer[start : start + 8] = (-3).to_bytes(8, "little", signed=True)
    for call in (right.recv, right.recv_bytes, right.poll, right.borrow().__enter__):
        with pytest.raises(zcipc.CorruptSegment):
            call()
