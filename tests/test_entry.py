"""Who may enter: the two processes of one user that were meant to, and nobody else."""

import ctypes
import os
import socket
import struct
import time

import numpy as np
import pytest
from numba import njit
from support import PATIENCE, Child, eventually

from zcipc import Client, Listener, PeerDied, PermissionDenied, Pipe, TimedOut, ipc_init
from zcipc import operations as ops
from zcipc.algorithms.ring import LINE
from zcipc.listener import _REFUSED, _address
from zcipc.memory.peer import Identity
from zcipc.memory.segment import DIRECTORY, HEADER_BYTES, PREFIX, Segment

pytestmark = pytest.mark.usefixtures("tidy")

NOBODY = 65534
_CLONE_NEWPID, _CLONE_NEWUSER = 0x20000000, 0x10000000
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


def seat_of(end, index):
    """Words of a seat: number, start time and namespace of its process, and whether it is taken."""
    return list(struct.unpack_from("<4q", end._segment.buffer, HEADER_BYTES + index * LINE))


def put_seat(end, index, words):
    struct.pack_into("<4q", end._segment.buffer, HEADER_BYTES + index * LINE, *words)


# --- other users


def as_nobody(function, *arguments):
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    return function(*arguments)


def attach(name):
    Segment.attach("channel", name)
    return "attached"


@as_root
def test_another_user_cannot_attach_to_a_segment():
    left, right = Pipe()
    with left, right, Child(as_nobody, attach, left._segment.name) as child:
        assert child.outcome() is PermissionDenied


def lay_a_trap(name, until):
    """A segment that is all right but for its owner, who has opened it to everybody."""
    trap = Segment.create("channel", 4096 + 2 * 4096)
    trap.rename(name)
    (DIRECTORY / trap.name).chmod(0o666)
    (DIRECTORY / f"{trap.name}.laid").touch()
    eventually(until)
    (DIRECTORY / f"{trap.name}.laid").unlink()
    trap.close()
    return "gone"


@as_root
@pytest.mark.parametrize("way", ["attach", "ipc_init"])
def test_a_segment_that_another_user_has_opened_to_all_is_refused(way):
    own = Identity.own()
    with Child(time.sleep, PATIENCE) as other:
        first, second = sorted((own, Identity.of(other.pid)), key=lambda process: process.pid)
        name = f"ipc-{first.pid}.{first.start_time}-{second.pid}.{second.start_time}"
        laid = DIRECTORY / f"{PREFIX}{name}.laid"
        refused = DIRECTORY / f"{PREFIX}{name}.refused"
        with Child(as_nobody, lay_a_trap, name, refused.exists) as trapper:
            assert eventually(laid.exists)
            with pytest.raises(PermissionDenied, match=f"belongs to user {NOBODY}"):
                attach(PREFIX + name) if way == "attach" else ipc_init(own.pid, other.pid)
            refused.touch()
            assert trapper.outcome() == "gone"
        refused.unlink()
        other.kill()
        other.process.join()


def listen_at(address):
    """What another user may do: bind the name of a listener that is not his."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.bind(address)
        server.listen()
        client, _ = server.accept()
        with client:
            return client.recv(16)


@as_root
def test_a_listener_of_another_user_is_refused():
    name = f"entry/{os.getpid()}"
    with Child(as_nobody, listen_at, _address(name)) as child:
        with pytest.raises(PermissionDenied, match=f"user {NOBODY} listens"):
            Client(name, timeout=PATIENCE)
        assert child.outcome() == b""


def connect_to(address):
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.connect(address)
        return server.recv(256)


@as_root
def test_a_client_of_another_user_is_refused():
    name = f"entry/{os.getpid()}"
    with Listener(name) as listener, Child(as_nobody, connect_to, _address(name)) as child:
        with pytest.raises(TimedOut):
            listener.accept(timeout=0.5)
        assert child.outcome() == _REFUSED, "before it was told the name of a segment"


# --- who is who


def use_and_sleep(end):
    end.send("here", timeout=PATIENCE)
    time.sleep(PATIENCE)


@pytest.fixture
def seated():
    """An end, and the process at the other one, which lives and does nothing."""
    left, right = Pipe(capacity=4096)
    with left, Child(use_and_sleep, right) as child:
        right.close()
        assert left.recv(timeout=PATIENCE) == "here"
        yield left, child
        child.kill()
        child.process.join()


def test_a_process_is_alive_and_a_later_one_with_its_number_is_another(seated):
    left, child = seated
    with pytest.raises(TimedOut):
        left.recv(timeout=0.12)
    pid, start_time, *rest = seat_of(left, 1)
    assert (pid, start_time) == (child.pid, Identity.of(child.pid).start_time)
    put_seat(left, 1, [pid, start_time - 1, *rest])  # as if this one had started after the death of that
    with pytest.raises(PeerDied, match=f"process {child.pid} "):
        left.recv(timeout=PATIENCE)


@njit
def receive_for(end, address, size, timeout_ns):
    return ops.receive(end, address, size, timeout_ns)


def test_a_number_of_another_pid_namespace_says_nothing_about_its_process(seated):
    """There the process may live under a number that nobody has here, or that a dead one had."""
    left, child = seated
    buffer = np.zeros(64, np.uint8)
    words = seat_of(left, 1)
    words[2] += 1
    put_seat(left, 1, words)
    child.kill()
    child.process.join()
    with pytest.raises(TimedOut):
        left.recv(timeout=0.12)
    assert receive_for(left.end, buffer.ctypes.data, buffer.nbytes, 120_000_000) == ops.AGAIN
    words[2] -= 1
    put_seat(left, 1, words)
    assert receive_for(left.end, buffer.ctypes.data, buffer.nbytes, 2_000_000_000) == ops.PEER_DIED
    with pytest.raises(PeerDied):
        left.recv(timeout=PATIENCE)


def send_from_a_pid_namespace(end):
    flags = _CLONE_NEWPID if os.geteuid() == 0 else _CLONE_NEWPID | _CLONE_NEWUSER
    if ctypes.CDLL(None).unshare(flags) != 0:
        return None
    inside = os.fork()  # the process itself stays outside, its children are in
    if inside == 0:
        end.send((os.getpid(), Identity.own().namespace), timeout=PATIENCE)
        end.recv(timeout=PATIENCE)
        end.close()
        os._exit(0)
    os.waitpid(inside, 0)
    return "sent"


def test_two_pid_namespaces_can_talk():
    left, right = Pipe(capacity=4096)
    with left, right, Child(send_from_a_pid_namespace, right) as child:
        if not eventually(lambda: left.poll() or child._pipe.poll()) or not left.poll():
            assert child.outcome() is None
            pytest.skip("this user may not make a pid namespace here")
        pid, namespace = left.recv()
        assert pid == 1
        assert namespace != Identity.own().namespace
        with pytest.raises(TimedOut):
            left.recv(timeout=0.12)
        left.send("good bye")
        assert child.outcome() == "sent"


def test_after_both_seats_are_taken_nobody_finds_a_name(seated):
    left, _ = seated
    assert not (DIRECTORY / left._segment.name).exists()
    with pytest.raises(FileNotFoundError):
        Segment.attach("channel", left._segment.name)
