"""The paper's four calls, on the paper's semaphores, with initial values that let the first message through."""

import ctypes
import os
import signal
import threading
import time
from pathlib import Path

import pytest
from support import PATIENCE, Child, eventually

from zcipc import (
    Closed,
    CorruptSegment,
    MessageTooLarge,
    PeerDied,
    PermissionDenied,
    TimedOut,
    ipc_destroy,
    ipc_init,
    ipc_receive,
    ipc_send,
)
from zcipc.algorithms import bounded_buffer
from zcipc.ipc import _GEOMETRY

pytestmark = pytest.mark.usefixtures("tidy")

AT_ONCE = 5.0  # seconds: generous for what should take none


# --- workers


def echo(other_pid, **geometry):
    """Send back whatever comes, until the other process destroys."""
    ipc = ipc_init(os.getpid(), other_pid, **geometry)
    while True:
        try:
            ipc_send(ipc, bytes(ipc_receive(ipc, timeout=PATIENCE)), timeout=PATIENCE)
        except Closed as error:
            return type(error).__name__


def only_init(other_pid):
    ipc = ipc_init(os.getpid(), other_pid)
    time.sleep(3600)
    ipc_destroy(ipc)


def send_and_exit_at_once(other_pid, count):
    ipc = ipc_init(os.getpid(), other_pid)
    for number in range(count):
        ipc_send(ipc, bytes([number]))
    os._exit(0)


def send_with_what_was_forked(ipc):
    ipc_send(ipc, b"x", timeout=AT_ONCE)


def receive_with_what_was_forked(ipc):
    ipc_receive(ipc, timeout=AT_ONCE)


def write_own_pid(path):
    """Wait for the number of the other process, then bind both."""
    assert eventually(lambda: path.exists() and path.read_text())
    return echo(int(path.read_text()))


def ask(path):
    assert eventually(lambda: path.exists() and path.read_text())
    ipc = ipc_init(int(path.read_text()), os.getpid())
    ipc_send(ipc, b"question", timeout=PATIENCE)
    answer = bytes(ipc_receive(ipc, timeout=PATIENCE))
    ipc_destroy(ipc)
    return answer


def destroy_at_once(other_pid):
    ipc = ipc_init(os.getpid(), other_pid)
    ipc_receive(ipc, timeout=PATIENCE)
    ipc_destroy(ipc)
    return "destroyed"


@pytest.fixture
def alone():
    """Bound to a process that has bound too and does nothing."""
    with Child(only_init, os.getpid()) as child:
        ipc = ipc_init(os.getpid(), child.pid)
        assert both_bound(ipc)
        yield ipc
        child.kill()
        ipc_destroy(ipc)


def both_bound(ipc):
    return eventually(lambda: not Path("/dev/shm", ipc._segment.name).exists())


def own_queue(ipc):
    return ipc._queues[ipc.own_index()][0]


def semaphores(ipc, index):
    """The values of *empty*, *mutex* and *full*."""
    values = []
    for offset in (bounded_buffer.EMPTY, bounded_buffer.MUTEX, bounded_buffer.FULL):
        value = ctypes.c_int(-1)
        assert ctypes.CDLL(None).sem_getvalue(ctypes.c_void_p(int(ipc._queues[index][0]) + offset), ctypes.byref(value)) == 0
        values.append(value.value)
    return values


# --- tests


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_messages_go_there_and_back(method):
    with Child(echo, os.getpid(), method=method) as child:
        ipc = ipc_init(child.pid, os.getpid())
        for message in (b"", b"hello", bytes(range(256)) * 32, bytearray(b"abc"), memoryview(b"def")):
            ipc_send(ipc, message, timeout=PATIENCE)
            assert ipc_receive(ipc, timeout=PATIENCE) == message
        for lap in range(5):
            for number in range(16):
                ipc_send(ipc, bytes([lap, number]), timeout=PATIENCE)
            assert [bytes(ipc_receive(ipc, timeout=PATIENCE)) for _ in range(16)] == [bytes([lap, n]) for n in range(16)]
        ipc_destroy(ipc)
        assert child.outcome() == "Closed"


def test_the_semaphores_start_as_in_dijkstras_bounded_buffer(alone):
    assert [semaphores(alone, index) for index in (0, 1)] == [[16, 1, 0], [16, 1, 0]]


def test_the_first_send_does_not_wait_for_a_receiver_and_a_full_queue_does(alone):
    for _ in range(16):
        ipc_send(alone, b"x", timeout=AT_ONCE)
    start = time.monotonic()
    with pytest.raises(TimedOut):
        ipc_send(alone, b"one too many", timeout=0.1)
    assert 0.1 <= time.monotonic() - start < AT_ONCE
    assert semaphores(alone, alone.own_index()) == [0, 1, 16]


def test_nothing_sent_is_a_time_out_and_ones_own_messages_are_not_received(alone):
    ipc_send(alone, b"for the other")
    for timeout in (0, 0.1):
        with pytest.raises(TimedOut):
            ipc_receive(alone, timeout=timeout)


def test_a_message_longer_than_a_slot_is_too_large_and_takes_no_slot(alone):
    with pytest.raises(MessageTooLarge, match="slot_bytes=8193"):
        ipc_send(alone, bytes(8193))
    ipc_send(alone, bytes(8192), timeout=AT_ONCE)
    assert semaphores(alone, alone.own_index()) == [15, 1, 1]


def test_the_first_to_come_decides_the_geometry(alone):
    assert (alone.slots, alone.slot_bytes, len(alone.message_buffer)) == (16, 8192, 8192)
    with pytest.raises(ValueError, match="make no queue"):
        ipc_init(*(process.pid for process in alone.processes), slots=0)
    with Child(echo_with_two_slots, os.getpid()) as child:
        ipc = ipc_init(os.getpid(), child.pid, slots=2, slot_bytes=20)
        assert (ipc.slots, ipc.slot_bytes) == (2, 24), "a slot is whole words"
        for number in range(20):
            ipc_send(ipc, bytes([number]) * 24, timeout=PATIENCE)
            assert ipc_receive(ipc, timeout=PATIENCE) == bytes([number]) * 24
        ipc_destroy(ipc)
        assert child.outcome() == "Closed"


def echo_with_two_slots(other_pid):
    return echo(other_pid, slots=2, slot_bytes=20)


def test_a_third_process_may_bind_two_others_and_not_send_or_receive(tmp_path):
    first_pid, second_pid = tmp_path / "first", tmp_path / "second"
    with Child(write_own_pid, second_pid) as first, Child(ask, first_pid) as second:
        ipc = ipc_init(first.pid, second.pid)
        for call in (lambda: ipc_send(ipc, b"x", timeout=AT_ONCE), lambda: ipc_receive(ipc, timeout=AT_ONCE)):
            with pytest.raises(PermissionDenied, match=f"only {min(first.pid, second.pid)} and {max(first.pid, second.pid)}"):
                call()
        first_pid.write_text(str(first.pid))
        second_pid.write_text(str(second.pid))
        assert second.outcome() == b"question"
        assert first.outcome() == "Closed"


def test_a_forked_child_may_not_use_what_its_parent_bound(alone):
    for function in (send_with_what_was_forked, receive_with_what_was_forked):
        with Child(function, alone) as child:
            assert child.outcome() is PermissionDenied


def test_a_process_that_does_not_exist_cannot_be_bound():
    with Child(os.getpid) as child:
        child.outcome()
    with pytest.raises(ProcessLookupError, match=str(child.pid)):
        ipc_init(os.getpid(), child.pid)


def test_what_a_dead_process_sent_is_received_first():
    with Child(send_and_exit_at_once, os.getpid(), 5) as child:
        ipc = ipc_init(os.getpid(), child.pid)
        child.process.join(PATIENCE)
        assert [bytes(ipc_receive(ipc, timeout=PATIENCE)) for _ in range(5)] == [bytes([number]) for number in range(5)]
        with pytest.raises(PeerDied, match=str(child.pid)):
            ipc_receive(ipc, timeout=PATIENCE)
        ipc_destroy(ipc)


@pytest.mark.parametrize("blocked", ["receiving", "sending"])
def test_a_wait_ends_within_250_ms_of_the_death_of_the_peer(blocked):
    with Child(only_init, os.getpid()) as child:
        ipc = ipc_init(os.getpid(), child.pid)
        assert both_bound(ipc)
        killed = []
        timer = threading.Timer(0.1, lambda: (killed.append(time.monotonic()), child.kill()))
        timer.start()
        with pytest.raises(PeerDied):
            ipc_receive(ipc, timeout=PATIENCE) if blocked == "receiving" else send_for_ever(ipc)
        assert time.monotonic() - killed[0] < 0.25
        timer.join()
        ipc_destroy(ipc)


def send_for_ever(ipc):
    while True:
        ipc_send(ipc, b"x", timeout=PATIENCE)


def test_destroying_ends_the_calls_of_both():
    with Child(destroy_at_once, os.getpid()) as child:
        ipc = ipc_init(os.getpid(), child.pid)
        ipc_send(ipc, b"now")
        with pytest.raises(Closed) as error:
            ipc_receive(ipc, timeout=PATIENCE)
        assert not isinstance(error.value, PeerDied)
        assert child.outcome() == "destroyed"
        ipc_destroy(ipc)
        ipc_destroy(ipc)
        for call in (lambda: ipc_send(ipc, b"x"), lambda: ipc_receive(ipc)):
            with pytest.raises(Closed, match="destroyed"):
                call()


def test_destroying_before_the_other_comes_leaves_nothing():
    with Child(time.sleep, 0.3) as child:
        ipc = ipc_init(os.getpid(), child.pid)
        path = Path("/dev/shm", ipc._segment.name)
        assert path.exists()
        ipc_destroy(ipc)
        assert not path.exists()


def test_ctrl_c_ends_a_wait_and_the_object_goes_on(alone):
    timer = threading.Timer(0.15, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        ipc_receive(alone, timeout=PATIENCE)
    timer.join()
    ipc_send(alone, b"after", timeout=AT_ONCE)
    with pytest.raises(TimedOut):
        ipc_receive(alone, timeout=0.01)


@pytest.mark.parametrize("length", [-1, 8193, 1 << 62])
def test_an_impossible_length_in_a_slot_is_corrupt(length):
    with Child(send_and_exit_at_once, os.getpid(), 1) as child:
        ipc = ipc_init(os.getpid(), child.pid)
        child.process.join(PATIENCE)
        queue = int(ipc._queues[1 - ipc.own_index()][0])
        start = queue - ipc._segment.address + bounded_buffer.SLOTS_START
        ipc._segment.buffer[start : start + 8] = length.to_bytes(8, "little", signed=True)
        with pytest.raises(CorruptSegment):
            ipc_receive(ipc, timeout=AT_ONCE)
        ipc_destroy(ipc)


@pytest.mark.parametrize("running_number", [-1, -(1 << 63), (1 << 63) - 1, 17])
def test_an_impossible_running_number_gives_a_slot_of_the_queue(alone, running_number):
    start = own_queue(alone) - alone._segment.address
    around = bytes(alone._segment.buffer[: _GEOMETRY + 16])
    word = start + bounded_buffer.WRITE
    alone._segment.buffer[word : word + 8] = running_number.to_bytes(8, "little", signed=True)
    ipc_send(alone, b"\xee" * 100, timeout=AT_ONCE)
    assert bytes(alone._segment.buffer[: _GEOMETRY + 16]) == around
    slots = bytes(alone._segment.buffer[start + bounded_buffer.SLOTS_START :][: 16 * (8 + 8192)])
    found = slots.find(b"\xee" * 100)
    assert found % (8 + 8192) == 8
