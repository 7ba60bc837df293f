"""Unrelated processes meet by name."""

import os
import socket
import threading
import time
from pathlib import Path

import pytest
from support import PATIENCE, Child, eventually

from zcipc import Client, Closed, Listener, NameNotFound, NameTaken, PeerDied, PermissionDenied, TimedOut, Waiting
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


def test_a_closed_listener_accepts_nobody(listener):
    listener.close()
    with pytest.raises(Closed):
        listener.accept()
    assert repr(listener).endswith("closed>")


def test_a_client_that_waits_when_the_listener_closes_is_refused(listener, name):
    raised = []

    def connect():
        try:
            Client(name, timeout=PATIENCE)
        except Exception as error:
            raised.append(type(error))

    thread = threading.Thread(target=connect)
    thread.start()
    time.sleep(0.2)
    listener.close()
    thread.join(PATIENCE)
    assert raised == [PermissionDenied]


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
