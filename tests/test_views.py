"""Views kept beyond their block, or beyond the connection: they keep their bytes, hold up nobody longer than they live,
and give back the room the moment they go.
"""

import gc
import threading
import time
import weakref
from pathlib import Path

import numpy as np
import pytest
from numba import njit
from support import PATIENCE, Child, eventually

from zcipc import Closed, Pipe, TimedOut
from zcipc import operations as ops

pytestmark = pytest.mark.usefixtures("tidy")

AT_ONCE = 5.0  # seconds: generous for what should take none
VIEWED = 800  # bytes; their record and that of ALL_ELSE are the queue, where one header more must be free
ALL_ELSE = 4096 - (8 + VIEWED) - 8


@pytest.fixture
def ends():
    left, right = Pipe(capacity=4096)
    with left, right:
        yield left, right


def kept_borrow(left, right, content=b"\x07" * VIEWED):
    left.send_bytes(content)
    with right.borrow() as buffer:
        return np.frombuffer(buffer, np.uint8)


def kept_loan(left, right):
    with left.loan(VIEWED) as buffer:
        view = np.frombuffer(buffer, np.uint8)
    right.recv_bytes()
    return view


class Ring:
    """An object that only the garbage collector takes away."""

    def __init__(self, view):
        self.view, self.itself = view, self


# --- the room comes back at once


def test_a_sender_waits_no_longer_than_a_view_at_the_other_end_lives(ends):
    left, right = ends
    view = kept_borrow(left, right)
    with pytest.raises(TimedOut):
        left.send_bytes(bytes(ALL_ELSE), timeout=0.06)
    del view
    left.send_bytes(bytes(ALL_ELSE), timeout=AT_ONCE)


def test_the_room_comes_back_though_only_the_garbage_collector_ends_the_view(ends):
    left, right = ends
    Ring(kept_borrow(left, right))
    gc.collect()
    left.send_bytes(bytes(ALL_ELSE), timeout=AT_ONCE)


def test_the_room_comes_back_when_a_view_ends_in_another_thread(ends):
    left, right = ends
    views = [kept_borrow(left, right)]
    timer = threading.Timer(0.1, views.clear)
    timer.start()
    left.send_bytes(bytes(ALL_ELSE), timeout=AT_ONCE)
    timer.join()


def test_views_that_end_in_many_threads_give_back_all(ends):
    left, right = ends
    for _ in range(20):
        views = [[kept_borrow(left, right, bytes([number]) * 96)] for number in range(16)]
        for number, (view,) in enumerate(views):
            assert (view == number).all()
        del view
        threads = [threading.Thread(target=views[number].clear) for number in np.random.default_rng(1).permutation(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert right.statistics().views_alive == 0
        left.send_bytes(bytes(4096 - 16 * (8 + 96) - 8), timeout=AT_ONCE)
        right.recv_bytes()


@njit(nogil=True)
def send_for(end, address, length, timeout_ns):
    return ops.send(end, address, length, timeout_ns)


def test_compiled_code_can_send_once_a_view_of_a_loan_is_gone(ends):
    left, right = ends
    message = np.zeros(ALL_ELSE, np.uint8)
    view = kept_loan(left, right)
    assert send_for(left.end, message.ctypes.data, message.nbytes, 60_000_000) == ops.AGAIN
    assert (view == view[0]).all()
    del view
    assert send_for(left.end, message.ctypes.data, message.nbytes, 2_000_000_000) == ops.DONE


def test_compiled_code_that_waits_can_send_when_a_view_of_a_loan_goes(ends):
    left, right = ends
    message, results = np.zeros(ALL_ELSE, np.uint8), []
    view = kept_loan(left, right)
    thread = threading.Thread(
        target=lambda: results.append(send_for(left.end, message.ctypes.data, message.nbytes, 10_000_000_000))
    )
    thread.start()
    time.sleep(0.1)
    assert not results
    del view
    thread.join(PATIENCE)
    assert results == [ops.DONE]


# --- what a view sees


def test_a_view_kept_past_closing_sees_no_later_data(ends):
    left, right = ends
    view, lent = kept_borrow(left, right), kept_loan(left, right)
    lent[:] = 9
    right.close()
    with pytest.raises(Closed):
        left.send_bytes(b"\xff" * 800)
    left.close()
    for _ in range(20):  # new memory, perhaps at the same place
        one, other = Pipe(capacity=4096)
        for _ in range(10):
            one.send_bytes(b"\xff" * 800)
            other.recv_bytes()
        one.close()
        other.close()
    assert (view == 7).all()
    assert (lent == 9).all()


def drop(view):
    del view[:]
    gc.collect()
    return "dropped"


def test_a_forked_child_that_drops_a_view_gives_back_nothing_of_its_parents(ends):
    left, right = ends
    views = [kept_borrow(left, right)]
    with Child(drop, views) as child:
        assert child.outcome() == "dropped"
    with pytest.raises(TimedOut):
        left.send_bytes(bytes(ALL_ELSE), timeout=0.06)
    assert (views[0] == 7).all()
    views.clear()
    left.send_bytes(bytes(ALL_ELSE), timeout=AT_ONCE)


def test_memory_is_unmapped_when_the_last_view_of_a_closed_connection_is_gone(ends):
    left, right = ends
    name = left._segment.name
    view = kept_borrow(left, right)
    left.close()
    right.close()
    assert is_mapped(name)
    del view
    Pipe()[0].close()  # looked at when the next segment closes
    assert eventually(lambda: not is_mapped(name), within=AT_ONCE)


def is_mapped(name):
    return name in Path("/proc/self/maps").read_text()


def test_a_buffer_that_is_still_named_keeps_no_closed_memory_mapped(ends):
    left, right = ends
    with left.loan(8) as first:
        first[0] = 1
    with left.loan(8) as second:
        second[0] = 2
    with right.borrow() as read:
        assert read[0] == 1
    name = left._segment.name
    left.close()
    right.close()
    assert not is_mapped(name)
    for buffer in (first, second, read):
        with pytest.raises(ValueError, match="released"):
            buffer[0]


def test_memory_is_unmapped_by_the_thread_that_waited_when_another_closed(ends):
    left, right = ends
    name, outcomes = left._segment.name, []

    def receive():
        try:
            right.recv_bytes()
        except Closed:
            outcomes.append("closed")

    thread = threading.Thread(target=receive)
    thread.start()
    time.sleep(0.01)  # longer than it spins
    right.close()
    thread.join(PATIENCE)
    left.close()
    assert outcomes == ["closed"]
    assert not is_mapped(name)


# --- the buffer of one message after the other


def passed(left, right, stamp):
    """A message goes through; the buffers of both sides, open for as long as the caller asks for no more."""
    with left.loan(8) as sent:
        sent[:] = bytes([stamp]) * 8
    with right.borrow() as received:
        assert bytes(received) == bytes([stamp]) * 8
        yield sent, received


def test_an_old_buffer_stays_invalid_while_later_messages_are_open(ends):
    left, right = ends
    old = []
    for stamp in range(8):
        for buffers in passed(left, right, stamp):
            for buffer in old:
                with pytest.raises(ValueError, match="released"):
                    buffer[0]
            old += buffers


def test_the_buffers_of_a_loop_are_used_again(ends):
    left, right = ends
    seen = set()
    for stamp in range(50):
        for _, received in passed(left, right, stamp):
            seen.add(id(received))
    assert len(seen) <= 3


def test_a_buffer_with_a_weak_reference_is_not_used_again(ends):
    left, right = ends
    watched = []
    for stamp in range(4):
        for sent, received in passed(left, right, stamp):
            watched += [weakref.ref(sent), weakref.ref(received)]
            del sent, received
    with left.loan(8) as sent:
        assert all(reference() is not sent for reference in watched)


@pytest.mark.parametrize(
    "look", [memoryview, np.frombuffer, lambda buffer: np.ndarray(8, np.uint8, buffer), lambda buffer: buffer[2:]]
)
def test_whatever_way_somebody_looks_the_next_message_goes_elsewhere(ends, look):
    left, right = ends
    looks = []
    for stamp in range(1, 4):
        with left.loan(8) as buffer:
            buffer[:] = bytes([stamp]) * 8
        with right.borrow() as buffer:
            looks.append(look(buffer))
    assert [bytes(memoryview(view)[:1])[0] for view in looks] == [1, 2, 3]
    assert right.statistics().views_alive == 3
    del looks[1]
    assert right.statistics().views_alive == 2


def test_a_buffer_may_be_released_before_its_block_ends(ends):
    left, right = ends
    for stamp in range(3):
        with left.loan(1) as buffer:
            buffer[0] = stamp
            buffer.release()
        with right.borrow() as buffer:
            assert buffer[0] == stamp
            buffer.release()


def test_the_hash_of_a_buffer_is_that_of_its_own_message(ends):
    left, right = ends
    for content in (b"one", b"other"):
        left.send_bytes(content)
        with right.borrow() as buffer:
            assert hash(buffer) == hash(content)


def test_a_block_that_is_ended_twice_says_so(ends):
    left, right = ends
    loan, borrow = left.loan(8), right.borrow()
    for block in (loan, borrow):
        with block:
            pass
        with pytest.raises(AttributeError):
            block.__exit__(None, None, None)
