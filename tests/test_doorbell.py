"""A descriptor that tells of messages: beside sockets and pipes, in every kind of wait of the standard library."""

import asyncio
import multiprocessing
import os
import select
import selectors
import threading
import time
from multiprocessing.connection import wait
from pathlib import Path

import pytest
from support import PATIENCE, Child, eventually

from zcipc import Closed, PeerDied, Pipe, TimedOut

pytestmark = pytest.mark.usefixtures("tidy")

AT_ONCE = 5.0  # seconds: generous for what should take none
METHODS = ("fork", "spawn", "forkserver")


@pytest.fixture
def ends():
    left, right = Pipe(capacity=4096)
    with left, right:
        yield left, right


def readable(end):
    return bool(select.select([end], [], [], 0)[0])


def descriptors():
    return {path.name for path in Path("/proc/self/fd").iterdir()}


# --- workers


def send_when_told(connection, count):
    """For each message of the peer, `count` of this process, one a millisecond."""
    with connection:
        while True:
            try:
                connection.recv(timeout=PATIENCE)
            except Closed:
                return "closed"
            for number in range(count):
                connection.send(number, timeout=PATIENCE)
                time.sleep(0.001)


def take_the_seat_and_hang(connection, pipe):
    connection.poll()
    pipe.send("seated")
    time.sleep(3600)


def stream(connection, count):
    with connection:
        for number in range(count):
            connection.send(number, timeout=PATIENCE)
        connection.recv(timeout=PATIENCE)
    return "sent"


def fork_and_die(connection):
    """End at once, but leave a child that inherited everything."""
    connection.send(1)
    if os.fork() == 0:
        time.sleep(1.5)
    os._exit(0)


# --- tests


def test_the_descriptor_is_readable_while_a_message_is_there(ends):
    left, right = ends
    assert not readable(right)
    left.send(1)
    left.send(2)
    for expected in (1, 2):
        assert readable(right)
        assert readable(right)
        assert right.recv() == expected
    assert not readable(right)
    left.send_bytes(b"three")
    assert readable(right)
    assert right.recv_bytes() == b"three"
    assert not readable(right)
    assert right.fileno() == right.fileno() >= 0


def test_what_was_sent_before_the_descriptor_was_asked_for_counts(ends):
    left, right = ends
    left.send(1)
    assert readable(right)
    assert right.recv() == 1
    assert not readable(right)


def test_a_message_that_is_read_in_place_counts_as_taken(ends):
    left, right = ends
    assert not readable(right)
    left.send_bytes(b"one")
    left.send_bytes(b"two")
    with right.borrow() as first:
        assert readable(right)
        with right.borrow():
            assert not readable(right)
        assert bytes(first) == b"one"


def test_a_wait_for_nothing_leaves_the_descriptor_silent(ends):
    left, right = ends
    assert not readable(right)
    with pytest.raises(ZeroDivisionError), left.loan(8):
        raise ZeroDivisionError
    assert not right.poll()
    assert not readable(right)
    with pytest.raises(TimedOut):
        right.recv(timeout=0.01)
    assert not readable(right)


def test_a_receiver_that_sleeps_is_woken_though_its_end_is_watched(ends):
    left, right = ends
    assert not readable(right)
    for delay in (0.0, 0.03, 0.12):
        timer = threading.Timer(delay, left.send, [delay])
        timer.start()
        assert right.recv(timeout=PATIENCE) == delay
        timer.join()
        assert not readable(right)


@pytest.mark.parametrize("method", METHODS)
def test_a_selector_serves_ends_beside_pipes(method):
    left, right = Pipe()
    pipe, other = multiprocessing.Pipe()
    with left, pipe, other, selectors.DefaultSelector() as selector, Child(send_when_told, right, 3, method=method) as child:
        right.close()
        for one in (left, pipe):
            selector.register(one, selectors.EVENT_READ)
        for _ in range(3):
            left.send("go")
            other.send("pipe")
            got = []
            while len(got) < 4:
                events = selector.select(PATIENCE)
                assert events, "nothing came"
                got += [key.fileobj.recv() for key, _ in events]
            assert sorted(map(str, got)) == ["0", "1", "2", "pipe"]
            assert not selector.select(0)
        left.close()
        assert child.outcome() == "closed"


def test_no_wake_up_is_lost_and_none_is_in_vain():
    """The peer sends as the receiver goes idle, over and over: each time the descriptor tells, and the message is there."""
    left, right = Pipe(capacity=4096)
    with left, Child(stream, right, 20_000) as child:
        right.close()
        for number in range(20_000):
            assert wait([left], PATIENCE) == [left]
            assert left.recv(timeout=0) == number
        assert not wait([left], 0)
        left.send("all")
        assert child.outcome() == "sent"


def test_the_standard_librarys_wait_takes_ends_pipes_and_processes(ends):
    left, right = ends
    ours, theirs = multiprocessing.Pipe()
    with ours, theirs, Child(time.sleep, 0.3) as child:
        assert wait([left, right, ours, child.process.sentinel], 0) == []
        left.send(1)
        assert wait([left, right, ours, child.process.sentinel], AT_ONCE) == [right]
        theirs.send(1)
        assert set(wait([left, right, ours], AT_ONCE)) == {right, ours}
        assert right.recv() == 1
        assert ours.recv() == 1
        assert wait([left, right, ours, child.process.sentinel], AT_ONCE) == [child.process.sentinel]


def test_the_descriptor_tells_of_room_when_asked_to(ends):
    left, right = ends
    left.send_bytes(bytes(3000))
    with pytest.raises(TimedOut):
        left.send_bytes(bytes(2000), timeout=0)
    assert not readable(left)
    left.watch_for_room(2000)
    assert not readable(left)
    assert len(right.recv_bytes()) == 3000
    assert not right.poll(), "and goes past the gap at the end of the lap"
    assert readable(left)
    left.send_bytes(bytes(2000), timeout=0)
    assert not left.poll()
    assert not readable(left)
    left.watch_for_room(1)
    assert readable(left), "there is room already"


def test_closing_makes_the_descriptor_readable(ends):
    left, right = ends
    assert not readable(right)
    left.send(1)
    left.close()
    assert right.recv() == 1
    for _ in range(2):
        assert readable(right)
        with pytest.raises(EOFError):
            right.recv()
    with pytest.raises(Closed):
        left.fileno()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("seated", ["before", "after"])
def test_death_makes_the_descriptor_readable(method, seated):
    """Whether the peer took its seat before this end was watched or after."""
    left, right = Pipe()
    ours, theirs = multiprocessing.Pipe()
    if seated == "after":
        assert not wait([left], 0)
    with left, ours, theirs, Child(take_the_seat_and_hang, right, theirs, method=method) as child:
        right.close()
        assert ours.poll(PATIENCE)
        assert not wait([left], 0)
        child.kill()
        assert wait([left], AT_ONCE) == [left]
        assert eventually(lambda: left.poll(0), AT_ONCE)
        with pytest.raises(PeerDied):
            left.recv(timeout=AT_ONCE)
        assert wait([left], 0) == [left]


def test_death_is_told_of_though_a_grandchild_lives():
    left, right = Pipe()
    assert not wait([left], 0)
    with left, Child(fork_and_die, right) as child:
        right.close()
        assert wait([left], AT_ONCE) == [left]
        assert left.recv() == 1
        start = time.monotonic()
        assert wait([left], AT_ONCE) == [left]
        assert time.monotonic() - start < 1
        child.process.join(PATIENCE)
        with pytest.raises(PeerDied):
            left.recv(timeout=AT_ONCE)


def test_asyncio_reads_ends_as_they_come():
    left, right = Pipe()

    async def numbers(count):
        loop, got, done = asyncio.get_running_loop(), [], asyncio.Event()

        def take():
            got.append(left.recv(timeout=0))
            if len(got) == count:
                done.set()

        loop.add_reader(left.fileno(), take)
        await asyncio.wait_for(done.wait(), PATIENCE)
        loop.remove_reader(left.fileno())
        return got

    with left, Child(send_when_told, right, 50) as child:
        left.send("go")
        assert asyncio.run(numbers(50)) == list(range(50))
        left.close()
        assert child.outcome() == "closed"
    right.close()


def test_an_end_that_is_watched_leaves_no_descriptor(ends):
    left, right = ends
    before = descriptors()
    for end in ends:
        end.fileno()
    left.send(1)
    right.send(right.recv())
    left.close()
    right.close()
    assert descriptors() <= before


def test_polling_alone_notices_the_death_of_the_peer():
    left, right = Pipe()
    ours, theirs = multiprocessing.Pipe()
    with left, ours, theirs, Child(take_the_seat_and_hang, right, theirs) as child:
        right.close()
        assert ours.poll(PATIENCE)
        assert not left.poll()
        child.kill()
        assert eventually(left.poll, AT_ONCE)
