"""Unrelated processes meet by name."""

import contextlib
import os
import socket
import threading
import time
from pathlib import Path

import pytest
from support import PATIENCE, Child, eventually

from zcipc import Client, Closed, Listener, NameNotFound, NameTaken, PeerDied, TimedOut, Waiting
from zcipc.listener import _address

pytestmark = pytest.mark.usefixtures("tidy")

AT_ONCE = 5.0  # seconds: generous for what should take none


@pytest.fixture
def name():
    return f"test grüße/{os.getpid()}"


@pytest.fixture
def listener(name):
    with Listener(name, capacity=8192) as listener:
        yield listener


# --- workers


def greet(name, greeting):
    with Client(name, timeout=PATIENCE) as connection:
        connection.send(greeting)
        return connection.recv(timeout=PATIENCE)


def connect_and_die(name):
    connection = Client(name, timeout=PATIENCE)
    connection.send("last word")
    os._exit(0)


def connect_and_go_away(name):
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.connect(_address(name))
    return "gone"


def serve_late(name):
    time.sleep(0.3)
    with Listener(name) as listener, listener.accept(timeout=PATIENCE) as connection:
        connection.send("finally")
        with pytest.raises(Closed):
            connection.recv(timeout=PATIENCE)
    return "served"


# --- tests


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_two_processes_meet_by_name(listener, name, method):
    with Child(greet, name, "hello", method=method) as child, listener.accept(timeout=PATIENCE) as connection:
        assert connection.recv(timeout=PATIENCE) == "hello"
        assert connection.statistics().peer_pid == child.pid
        connection.send("good bye")
        assert child.outcome() == "good bye"


def test_every_client_gets_a_connection_of_its_own(listener, name):
    with Child(greet, name, 0) as one, Child(greet, name, 1) as other:
        connections = [listener.accept(timeout=PATIENCE) for _ in range(2)]
        for connection in connections:
            connection.send(connection.recv(timeout=PATIENCE) + 10)
        assert (one.outcome(), other.outcome()) == (10, 11)
        for connection in connections:
            connection.close()


def test_an_accepted_connection_has_no_name_left(listener, name):
    with Child(greet, name, 1), listener.accept(timeout=PATIENCE) as connection:
        assert not Path("/dev/shm", connection._segment.name).exists()
        connection.send(2)
        assert connection.recv(timeout=PATIENCE) == 1


def test_the_listener_decides_capacity_and_waiting(name):
    answer = []
    with Listener(name, capacity=1 << 14, waiting=Waiting.BLOCK) as listener:
        thread = threading.Thread(target=lambda: answer.append(Client(name)))
        thread.start()
        with listener.accept(timeout=PATIENCE) as connection:
            thread.join(PATIENCE)
            for end in (connection, *answer):
                assert (end.capacity, end.statistics().waiting) == (1 << 14, Waiting.BLOCK)
        answer[0].close()


def test_connections_outlive_their_listener(name):
    listener = Listener(name)
    with Child(greet, name, 1) as child, listener.accept(timeout=PATIENCE) as connection:
        listener.close()
        listener.close()
        assert listener.closed
        connection.send(2)
        assert child.outcome() == 2


def test_one_listener_a_name_until_it_closes(listener, name):
    with pytest.raises(NameTaken, match="grüße"):
        Listener(name)
    listener.close()
    Listener(name).close()


def test_nobody_listening_is_an_error_at_once_or_after_the_time_out(name):
    with pytest.raises(NameNotFound, match="start the listener first"):
        Client(name)
    start = time.monotonic()
    with pytest.raises(NameNotFound):
        Client(name, timeout=0.1)
    assert 0.1 <= time.monotonic() - start < AT_ONCE


def test_a_client_may_come_before_its_listener(name):
    with Child(serve_late, name) as child, Client(name, timeout=PATIENCE) as connection:
        assert connection.recv(timeout=PATIENCE) == "finally"
        connection.close()
        assert child.outcome() == "served"


def test_nobody_coming_is_a_time_out(listener):
    for timeout in (0, 0.05):
        with pytest.raises(TimedOut, match="nobody connected"):
            listener.accept(timeout=timeout)


@pytest.mark.usefixtures("listener")
def test_a_listener_that_does_not_accept_is_a_time_out(name):
    with pytest.raises(TimedOut, match="did not accept"):
        Client(name, timeout=0.05)


def accept_one(listener):
    listener.accept(timeout=PATIENCE)


def test_a_listener_that_was_forked_is_told_when_it_is_closed(listener):
    """It saw a socket that was readable for ever, and looked at it for ever."""
    with Child(accept_one, listener) as child:
        time.sleep(0.2)
        listener.close()
        assert child.outcome() is Closed


def test_a_closed_listener_accepts_nobody(listener):
    listener.close()
    with pytest.raises(Closed):
        listener.accept()
    assert repr(listener).endswith("closed>")


def outcome_of_waiting(name, timeout, end, then):
    """What a client gets that waits to be accepted while `end` puts an end to its listener, and `then` happens."""
    outcomes = []

    def connect():
        try:
            outcomes.append(Client(name, timeout=timeout))
        except Exception as error:
            outcomes.append(type(error))

    thread = threading.Thread(target=connect)
    thread.start()
    time.sleep(0.2)
    end()
    result = then()
    thread.join(PATIENCE)
    return outcomes, result


@pytest.fixture(params=["closes", "dies"])
def ending(request, name):
    """Puts an end to a listener that accepts nobody."""
    if request.param == "closes":
        yield Listener(name).close
        return
    with Child(listen_for_ever, name) as child:
        assert eventually(lambda: name_is_taken(name))

        def kill():
            child.kill()
            child.process.join()

        yield kill


def test_a_client_that_waits_when_the_listener_ends_is_told_at_once(ending, name):
    outcomes, _ = outcome_of_waiting(name, None, ending, lambda: None)
    assert outcomes == [NameNotFound]


def test_a_client_that_waits_with_a_time_out_finds_the_next_listener(ending, name):
    def restart():
        with Listener(name) as listener:
            return listener.accept(timeout=PATIENCE)

    (client,), accepted = outcome_of_waiting(name, PATIENCE, ending, restart)
    accepted.send("you are welcome here")
    assert client.recv(timeout=PATIENCE) == "you are welcome here"
    client.close()
    accepted.close()


def sit_half_way(name):
    """A client that came and does not answer."""
    server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    server.connect(_address(name))
    return server


def test_a_client_that_sits_half_way_delays_nobody(listener, name):
    with sit_half_way(name):
        began = time.monotonic()
        with pytest.raises(TimedOut):
            listener.accept(timeout=0.1)
        assert 0.1 <= time.monotonic() - began < 0.1 + 0.05
        with Child(greet, name, "behind it") as child, listener.accept(timeout=PATIENCE) as connection:
            assert connection.recv(timeout=PATIENCE) == "behind it"
            connection.send("yes")
            assert child.outcome() == "yes"
            assert time.monotonic() - began < AT_ONCE


def test_who_accepts_now_and_then_gets_the_client_that_came_meanwhile(listener, name):
    with Child(greet, name, "patient") as child:
        accepted = []

        def look():
            with contextlib.suppress(TimedOut):
                accepted.append(listener.accept(timeout=0))
            return accepted

        assert eventually(look)
        with accepted[0] as connection:
            assert connection.recv(timeout=PATIENCE) == "patient"
            connection.send("yes")
            assert child.outcome() == "yes"


@pytest.mark.parametrize("key", [None, b"secret"])
def test_a_listener_that_stops_half_way_is_a_time_out(name, key):
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.bind(_address(name))
        server.listen()
        began = time.monotonic()
        with pytest.raises(TimedOut):
            Client(name, authkey=key, timeout=0.2)
        assert 0.2 <= time.monotonic() - began < 0.2 + 0.05


def test_a_full_backlog_is_waited_for_no_longer_than_the_time_out(name):
    with Listener(name, backlog=1), contextlib.ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(sit_half_way(name))
        began = time.monotonic()
        with pytest.raises(TimedOut):
            Client(name, timeout=0.2)
        assert 0.2 <= time.monotonic() - began < 0.2 + 0.05


def test_a_client_that_goes_away_is_passed_over(listener, name):
    with Child(connect_and_go_away, name) as child:
        assert child.outcome() == "gone"
    with Child(greet, name, "here") as child, listener.accept(timeout=PATIENCE) as connection:
        assert connection.recv(timeout=PATIENCE) == "here"
        connection.send("yes")
        assert child.outcome() == "yes"


def test_a_client_that_dies_is_noticed_after_its_last_word(listener, name):
    with Child(connect_and_die, name), listener.accept(timeout=PATIENCE) as connection:
        assert connection.recv(timeout=PATIENCE) == "last word"
        with pytest.raises(PeerDied):
            connection.recv(timeout=PATIENCE)


def test_the_name_is_free_as_soon_as_the_process_that_listened_is_gone(name):
    with Child(listen_for_ever, name) as child:
        assert eventually(lambda: name_is_taken(name))
        child.kill()
        child.process.join()
    Listener(name).close()


def listen_for_ever(name):
    listener = Listener(name)
    time.sleep(3600)
    listener.close()


def name_is_taken(name):
    try:
        Listener(name).close()
    except NameTaken:
        return True
    return False
