"""Each reader sees every message, in order; a slow one is handled as was said; nobody is held up by the dead."""

import multiprocessing
import time
from itertools import islice

import numpy as np
import pytest
from support import PATIENCE, Child

from zcipc import Broadcast, Closed, MessageTooLarge, PeerDied, PermissionDenied, TimedOut
from zcipc.broadcast import _entries
from zcipc.lab.torture.processes import Victim
from zcipc.lab.torture.stepping import AVAILABLE, Stepper, address_of, be_traced

pytestmark = pytest.mark.usefixtures("tidy")

CAPACITY = 4096


def read_all(reader):
    """What was received until the sender closed, and how many were missed."""
    received = []
    while True:
        try:
            received.append(reader.recv(timeout=PATIENCE))
        except PeerDied:
            return received, reader.missed, "died"
        except Closed:
            return received, reader.missed, "closed"


def check_stream(reader):
    """Messages whole and rising, every one received or counted as missed: their number, and that of the missed."""
    last, received = -1, 0
    while True:
        try:
            message = reader.recv(timeout=PATIENCE)
        except Closed:
            return received, reader.missed, last
        number = int(message[0])
        assert (message == number).all(), "torn"
        received += 1
        assert number + 1 == received + reader.missed
        last = number


def use_once(reader):
    reader.recv(timeout=PATIENCE)
    time.sleep(3600)


def never_use(reader):
    time.sleep(3600)


def use_until_closed(reader):
    try:
        while True:
            reader.recv(timeout=PATIENCE)
    except Closed as reason:
        return str(reason)


def send_and_die(sender):
    for number in range(3):
        sender.send(number)
    sender.send(None)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_each_reader_sees_every_message(method):
    sender = Broadcast(3, capacity=CAPACITY)
    children = [Child(read_all, reader, method=method) for reader in sender.readers]
    messages = [(number, bytes(number % 500)) for number in range(500)]
    for message in messages:
        sender.send(message, timeout=PATIENCE)
    sender.close()
    for child in children:
        assert child.outcome() == (messages, 0, "closed")


def test_messages_are_objects_of_any_kind():
    sender = Broadcast(1)
    (reader,) = sender.readers
    for obj in (None, b"bytes", {"a": 1}, np.arange(12.0).reshape(3, 4)):
        sender.send(obj)
        found = reader.recv()
        assert type(found) is type(obj)
        assert np.array_equal(found, obj)
    with pytest.raises(MessageTooLarge):
        sender.send(bytes(2 << 20))


def fill(sender, count):
    for number in range(count):
        sender.send(np.full(11, number), timeout=0.05)  # 128 bytes encoded, 144 with header and number


def test_block_waits_for_the_slowest():
    sender = Broadcast(2, capacity=CAPACITY)
    fast, slow = sender.readers
    with pytest.raises(TimedOut):
        fill(sender, 100)
    first = [fast.recv(timeout=0)[0], slow.recv(timeout=0)[0]]
    sender.send("there is room again", timeout=PATIENCE)
    assert first == [0, 0]
    assert (fast.missed, slow.missed) == (0, 0)


@pytest.mark.skipif(not AVAILABLE, reason="processes are stepped through on x86-64 only")
def test_a_reader_that_overtakes_another_while_the_sender_looks_costs_nobody_a_message():
    """At each instruction of a `send` that makes room behind the slowest reader, which goes on past the other one just then."""
    full = [bytes([number]) * 496 for number in range(7)]  # 512 bytes each: no other one fits
    instant, ended = 0, False
    while not ended:
        sender = Broadcast(2, capacity=CAPACITY)
        slowest, other = sender.readers

        def send(sender=sender):
            for message in full:
                sender.send(message)
            be_traced()
            sender.send(b"last" * 124)

        with Victim(send) as victim:
            instants = Stepper(victim, address_of(_entries.send)).instants(None)
            assert [slowest.recv(), other.recv(), other.recv()] == [full[0], *full[:2]]
            ended = len(list(islice(instants, instant))) < instant
            assert [slowest.recv() for _ in range(3)] == full[1:4]
            for _ in instants:
                pass
            assert [other.recv(timeout=PATIENCE) for _ in range(6)] == [*full[2:], b"last" * 124]
        instant += 1
    assert instant > 100


def test_drop_tells_how_many_were_missed():
    sender = Broadcast(2, capacity=CAPACITY, slow="drop")
    fast, slow = sender.readers
    for number in range(100):
        sender.send((number, bytes(100)))
        assert fast.recv()[0] == number
    sender.close()
    received = [message[0] for message in read_all(slow)[0]]
    assert received == list(range(slow.missed, 100))
    assert slow.missed > 50
    assert fast.missed == 0


def test_drop_never_shows_a_torn_message():
    sender = Broadcast(2, capacity=CAPACITY, slow="drop")
    children = [Child(check_stream, reader) for reader in sender.readers]
    count = 50_000
    for number in range(count):
        sender.send(np.full(number % 150 + 1, number))
    sender.close()
    for child in children:
        received, missed, last = child.outcome()
        assert received + missed == last + 1 == count


def test_disconnect_gives_a_slow_reader_up():
    sender = Broadcast(2, capacity=CAPACITY, slow="disconnect")
    fast, slow = sender.readers
    for number in range(100):
        sender.send((number, bytes(100)))
        assert fast.recv()[0] == number
    with pytest.raises(Closed, match="too slow"):
        slow.recv()


@pytest.mark.parametrize("ended", ["closed", "killed"])
def test_a_reader_that_is_gone_holds_nobody_up(ended):
    sender = Broadcast(2, capacity=CAPACITY)
    stays, goes = sender.readers
    if ended == "closed":
        goes.close()
    else:
        with Child(use_once, goes) as child:
            sender.send(0)
            time.sleep(0.2)
            child.kill()
        stays.recv()
    start = time.monotonic()
    for number in range(100):
        sender.send((number, bytes(100)), timeout=PATIENCE)
        assert stays.recv()[0] == number
    assert time.monotonic() - start < 0.5


def test_a_reader_that_died_before_it_came_can_be_closed_in_its_place():
    sender = Broadcast(1, capacity=CAPACITY)
    (reader,) = sender.readers
    with Child(never_use, reader) as child:
        child.kill()
    sender.send(bytes(CAPACITY // 2))
    with pytest.raises(TimedOut):
        sender.send(bytes(CAPACITY // 2), timeout=0.1)
    reader.close()
    sender.send(bytes(CAPACITY // 2), timeout=PATIENCE)


def test_a_reader_closed_elsewhere_is_told_so():
    sender = Broadcast(1, capacity=CAPACITY)
    (reader,) = sender.readers
    with Child(use_until_closed, reader) as child:
        sender.send(0)
        while not sender.statistics().readers[0].process:
            time.sleep(0.001)
        reader.close()
        assert "another process" in child.outcome()


def test_a_sender_that_died_is_told_after_what_it_sent():
    sender = Broadcast(1, capacity=CAPACITY)
    process = multiprocessing.get_context("fork").Process(target=send_and_die, args=(sender,))
    process.start()
    process.join(PATIENCE)
    assert read_all(sender.readers[0]) == ([0, 1, 2, None], 0, "died")


def test_a_place_is_for_one_process():
    sender = Broadcast(1)
    sender.send(1)
    with Child(lambda: sender.readers[0].recv(timeout=PATIENCE)) as child:
        assert child.outcome() == 1
    with pytest.raises(PermissionDenied):
        sender.readers[0].recv()
