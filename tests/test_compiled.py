"""Operations from a user's own compiled code, and a cache that no change of the package leaves stale."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from numba import njit
from support import PATIENCE, Child

import zcipc
from zcipc import Pipe
from zcipc import operations as ops
from zcipc.algorithms import ring
from zcipc.lab.measurements import loops
from zcipc.native import compiled
from zcipc.operations import DONE, FOREVER, borrow, claim, commit, header_length, receive, send, skip

pytestmark = pytest.mark.usefixtures("tidy")

SECONDS = 1_000_000_000
ROUNDS = 1000


@njit("int64(int64, uint8[::1], int64)")
def echo_compiled(end, buffer, rounds):
    """Send back what comes; the sum of lengths, or the result that ended it."""
    total = 0
    for _ in range(rounds):
        length = receive(end, buffer.ctypes.data, buffer.nbytes, FOREVER)
        if length < 0:
            return length
        result = send(end, buffer.ctypes.data, length, FOREVER)
        if result < 0:
            return result
        total += length
    return total


@njit("int64(int64, uint8[::1], int64)")
def ping_compiled(end, buffer, rounds):
    """Send messages of growing size and check what comes back; the number of rounds that went well."""
    for number in range(rounds):
        length = number % buffer.size + 1
        buffer[:length] = number % 251
        if send(end, buffer.ctypes.data, length, FOREVER) < 0:
            return number
        buffer[:length] = 255
        if receive(end, buffer.ctypes.data, buffer.nbytes, FOREVER) != length or (buffer[:length] != number % 251).any():
            return number
    return rounds


@njit("int64(int64, int64, int64)")
def write_in_place(end, length, timeout_ns):
    payload = claim(end, length, timeout_ns)
    if payload < 0:
        return payload
    commit(end, length, 0)
    return DONE


@njit("int64(int64, int64)")
def length_in_place(end, timeout_ns):
    header, payload = borrow(end, timeout_ns)
    if header == 0:
        return payload
    skip(end, header)
    return header_length(header)


@njit("int64(int64, uint8[::1], int64)")
def receive_compiled(end, buffer, timeout_ns):
    return receive(end, buffer.ctypes.data, buffer.nbytes, timeout_ns)


@njit("int64(int64, uint8[::1], int64)")
def send_compiled(end, buffer, timeout_ns):
    return send(end, buffer.ctypes.data, buffer.nbytes, timeout_ns)


@pytest.fixture
def ends():
    left, right = Pipe(capacity=4096)
    with left, right:
        left.poll()
        right.poll()
        yield left, right


# --- workers


def echo(connection):
    with connection:
        connection.poll()  # takes the seat
        return echo_compiled(connection.end, np.zeros(2000, np.uint8), ROUNDS)


def wait_for_ever(connection):
    with connection:
        connection.send("ready")
        return echo_compiled(connection.end, np.zeros(100, np.uint8), ROUNDS)


def exit_at_once(connection):
    connection.send("ready")
    os._exit(0)


# --- between two processes


def test_two_compiled_loops_in_two_processes_understand_each_other():
    left, right = Pipe(capacity=4096)
    with left, Child(echo, right) as child:
        right.close()
        left.poll()
        assert ping_compiled(left.end, np.zeros(1500, np.uint8), ROUNDS) == ROUNDS
        assert child.outcome() == sum(number % 1500 + 1 for number in range(ROUNDS))
        statistics = left.statistics()
        assert (statistics.messages_sent, statistics.messages_received) == (ROUNDS, ROUNDS)


def test_a_compiled_loop_and_an_interpreted_one_understand_each_other():
    left, right = Pipe(capacity=4096)
    with left, Child(echo, right) as child:
        right.close()
        for number in range(ROUNDS):
            left.send_bytes(bytes([number % 256]) * 10, timeout=PATIENCE)
            assert left.recv_bytes(timeout=PATIENCE) == bytes([number % 256]) * 10
        assert child.outcome() == 10 * ROUNDS


def test_closing_ends_a_compiled_wait():
    left, right = Pipe()
    with left, Child(wait_for_ever, right) as child:
        right.close()
        assert left.recv(timeout=PATIENCE) == "ready"
        left.close()
        assert child.outcome() == ops.PEER_CLOSED


def test_death_ends_a_compiled_wait():
    left, right = Pipe(capacity=4096)
    with left, Child(exit_at_once, right):
        right.close()
        assert left.recv(timeout=PATIENCE) == "ready"
        assert length_in_place(left.end, FOREVER) == ops.PEER_DIED
        while (result := write_in_place(left.end, 500, FOREVER)) == ops.DONE:
            pass
        assert result == ops.PEER_DIED


# --- results


def test_messages_are_written_and_read_in_place(ends):
    left, right = ends
    assert write_in_place(left.end, 100, 0) == ops.DONE
    assert length_in_place(right.end, 0) == 100
    assert length_in_place(right.end, 0) == ops.AGAIN


def test_an_end_that_is_not_used_yet_or_closed_is_not_open():
    left, right = Pipe()
    assert send_compiled(left.end, np.zeros(1, np.uint8), 0) == ops.NOT_OPEN
    assert receive_compiled(left.end, np.zeros(1, np.uint8), 0) == ops.NOT_OPEN
    left.close()
    assert send_compiled(left.end, np.zeros(1, np.uint8), 0) == ops.NOT_OPEN
    right.close()


def test_a_compiled_wait_times_out(ends):
    left, right = ends
    assert receive_compiled(right.end, np.zeros(1, np.uint8), SECONDS // 20) == ops.AGAIN
    while (result := write_in_place(left.end, 1000, SECONDS // 20)) == ops.DONE:
        pass
    assert result == ops.AGAIN


def test_a_message_longer_than_the_buffer_is_not_taken(ends):
    left, right = ends
    left.send_bytes(bytes(10))
    assert receive_compiled(right.end, np.zeros(9, np.uint8), 0) == ops.TOO_LARGE
    assert receive_compiled(right.end, np.zeros(10, np.uint8), 0) == 10


@pytest.mark.parametrize("length", [-1, 4096 - 15, 1 << 62])
def test_a_message_that_can_never_fit_is_too_large(ends, length):
    assert write_in_place(ends[0].end, length, FOREVER) == ops.TOO_LARGE


def test_an_open_loan_keeps_compiled_code_from_sending(ends):
    left, _ = ends
    with left.loan(8):
        assert write_in_place(left.end, 8, 0) == ops.LOANED
    assert write_in_place(left.end, 8, 0) == ops.DONE


def test_a_corrupt_record_is_a_result(ends):
    left, right = ends
    left._segment.buffer[4096:4104] = (-3).to_bytes(8, "little", signed=True)
    assert length_in_place(right.end, 0) == ring.CORRUPT


def test_closed_and_empty_is_a_result_after_the_last_message(ends):
    left, right = ends
    left.send_bytes(bytes(5))
    left.close()
    assert length_in_place(right.end, FOREVER) == 5
    assert length_in_place(right.end, FOREVER) == ops.PEER_CLOSED
    assert write_in_place(right.end, 5, FOREVER) == ops.PEER_CLOSED


# --- the cache


@pytest.fixture
def package(tmp_path):
    shutil.copytree(Path(zcipc.__file__).parent, tmp_path / "zcipc", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "zcipc"


@pytest.mark.parametrize("file", ["algorithms/ring.py", "connection.py", "lab/measurements/loops.py"])
def test_a_changed_file_makes_the_stamp_differ(package, file):
    def stamp():
        return compiled._stamp(package.rglob("*.py"))

    before = stamp()
    assert stamp() == before
    source = (package / file).read_text()
    (package / file).write_text(source[:-1] + " ")  # as long as before
    changed = stamp()
    (package / file).write_text(source + "# more\n")
    assert len({before, changed, stamp()}) == 3


def test_a_new_and_a_lost_file_make_the_stamp_differ(package):
    def stamp():
        return compiled._stamp(package.rglob("*.py"))

    before = stamp()
    (package / "new.py").write_text("x = 1\n")
    assert stamp() != before
    (package / "new.py").unlink()
    assert stamp() == before
    (package / "algorithms" / "ring.py").unlink()
    assert stamp() != before


@pytest.mark.parametrize("function", [ring.claim, ops.send, ops.await_message], ids=lambda function: function.__name__)
def test_what_the_library_compiles_is_stamped_with_the_library(function):
    assert function._cache._cache_file._source_stamp == compiled.STAMP


def test_what_the_laboratory_compiles_is_stamped_with_all(package):
    assert loops.inject._cache._cache_file._source_stamp == compiled._stamp_of_all()
    before = compiled._stamp(compiled._library(package)), compiled._stamp(package.rglob("*.py"))
    (package / "lab" / "new.py").write_text("x = 1\n")
    assert compiled._stamp(compiled._library(package)) == before[0]
    assert compiled._stamp(package.rglob("*.py")) != before[1]


def test_a_dropped_loan_holds_up_no_compiled_sender():
    left, right = Pipe(capacity=1 << 12)
    message = np.full(500, 7, np.uint8)
    with left, right:
        with pytest.raises(KeyError), left.loan(8):
            raise KeyError
        for _ in range(50):  # six laps
            assert send_compiled(left.end, message, SECONDS) == DONE
            assert right.recv_bytes(timeout=1) == message.tobytes()
