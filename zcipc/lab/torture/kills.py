"""Killed at random instants, under load: a victim that sends and receives in every way, and dies at some time.

What the victim knows of its own progress it writes to memory that outlives it, right after each call; so a message that its
call had committed, and that never arrives, is known to be lost.
"""

import mmap
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from random import Random
from typing import Any, NamedTuple

import numpy as np

from zcipc import Closed, Connection, PeerDied, Pipe, TimedOut, Waiting, ipc_destroy, ipc_init, ipc_receive, ipc_send
from zcipc.lab.torture.messages import SHORTEST, Ledger, number_of, sealed, stream
from zcipc.lab.torture.processes import NOTICE_S, PATIENCE_S, Victim, eventually, nothing_left
from zcipc.lab.torture.tally import Tally

KILLS = 25  # a round
_LONGEST_LIFE_S = 0.004
COMMITTED, RECEIVED, SPOILT, _WORDS = range(4)


def channels(random: Random) -> Tally:
    """One round: victims at one end of a connection, that send, lend, receive and borrow until they die."""
    tally = Tally()
    for _ in range(KILLS):
        torment(random, tally)
    return tally


class Traffic(NamedTuple):
    """What goes through a connection.

    Attributes:
        live: the victim, until it dies, with its end, a source of randomness and its progress.
        keep_busy: the survivor, with its end, its ledger and a source of randomness, for so many seconds.
        receive: the next message at an end, within so many seconds.
    """

    live: Callable[[Connection, Random, "np.ndarray[Any, Any]"], None]
    keep_busy: Callable[[Connection, Ledger, Random, float], None]
    receive: Callable[[Connection, float], bytes]


Torment = Callable[[Victim, Connection, Ledger], None]


def torment(random: Random, tally: Tally, before: Torment = lambda *_: None, traffic: Traffic | None = None) -> None:
    """A victim that talks to a survivor, until `before(victim, the survivor's end, its ledger)` is over and it is killed."""
    live, keep_busy, receive = traffic or Traffic(_live, _keep_busy, lambda end, timeout: end.recv_bytes(timeout=timeout))
    seed, capacity = random.getrandbits(32), 1 << random.randint(12, 17)
    waiting = random.choice(list(Waiting))
    step = f"victim {seed} of {capacity} bytes, waiting {waiting.name}"
    progress = _progress()
    with nothing_left(tally, step) as names:
        ours, theirs = Pipe(capacity=capacity, waiting=waiting)
        names.append(ours._segment.name)
        ours.poll()
        with Victim(lambda: live(theirs, Random(seed), progress)) as victim:
            theirs.close()
            ledger = Ledger()
            eventually(lambda: ours.statistics().peer_pid is not None)  # who dies before it comes is missed by nobody
            eventually(lambda: bool(progress[COMMITTED] or progress[RECEIVED]), within=0.05)
            keep_busy(ours, ledger, Random(seed + 1), random.uniform(0, _LONGEST_LIFE_S))
            before(victim, ours, ledger)
            victim.kill()
            tally.kills += 1
            with _in_time(tally, step), suppress(Closed):
                while True:
                    ledger.note(receive(ours, PATIENCE_S))
        ours.close()
    ledger.settle(int(progress[COMMITTED]), tally, step)
    tally.messages += int(progress[RECEIVED])
    tally.fault("torn", f"received by the victim, {step}", int(progress[SPOILT]))


def _progress() -> "np.ndarray[Any, Any]":
    """Words that outlive the victim."""
    return np.frombuffer(mmap.mmap(-1, 8 * _WORDS), np.int64)


def _live(end: Connection, random: Random, progress: "np.ndarray[Any, Any]") -> None:
    """The victim: whatever a user may do, until it dies."""
    kept: list[Any] = []
    for message in stream(random, end.capacity - 64):
        _send(end, message, random, kept)
        progress[COMMITTED] += 1
        with suppress(TimedOut):
            while random.random() < 0.7:
                received = _receive(end, random, kept)
                progress[RECEIVED] += 1
                progress[SPOILT] += number_of(received) is None
        del kept[: -random.randint(1, 3)]


def _send(end: Connection, message: bytes, random: Random, kept: list[Any]) -> None:
    """In one of the ways there are; a loan may be dropped before, and viewed after."""
    way = random.randrange(4)
    if way == 0:
        end.send_bytes(message)
        return
    if way == 1:
        with suppress(InterruptedError), end.loan(len(message)):
            raise InterruptedError
    with end.loan(len(message)) as buffer:
        buffer[:] = message
        if way == 3 and len(message) < end.capacity // 8:
            kept.append(np.frombuffer(buffer, np.uint8))


def _receive(end: Connection, random: Random, kept: list[Any]) -> bytes:
    if random.random() < 0.5:
        return end.recv_bytes(timeout=0)
    with end.borrow(timeout=0) as buffer:
        if len(buffer) < end.capacity // 8:
            kept.append(np.frombuffer(buffer, np.uint8))
        return bytes(buffer)


def _keep_busy(end: Connection, ledger: Ledger, random: Random, seconds: float) -> None:
    """The survivor: receives, and sends where there is room, until it is time to kill."""
    deadline = time.monotonic() + seconds
    for message in stream(random, end.capacity - 64):
        with suppress(TimedOut):
            while time.monotonic() < deadline:
                ledger.note(end.recv_bytes(timeout=0))
        with suppress(TimedOut):
            end.send_bytes(message, timeout=0)
        if time.monotonic() >= deadline:
            return


@contextmanager
def _in_time(tally: Tally, step: str) -> Iterator[None]:
    """Count a hang if the block, which notices a death, takes longer than it may, or gives up."""
    start = time.monotonic()
    try:
        yield
    except TimedOut:
        tally.fault("hangs", step)
    else:
        took = time.monotonic() - start
        tally.fault("hangs", f"noticed after {took:.3f} s, {step}", int(took > NOTICE_S))


def pairs(random: Random) -> Tally:
    """One round: both processes of a connection die, one after the other or at once, and leave nothing."""
    tally = Tally()
    for _ in range(KILLS // 5):
        _kill_both(random, tally)
    return tally


def _kill_both(random: Random, tally: Tally) -> None:
    seed, progress = random.getrandbits(32), _progress()
    with nothing_left(tally, f"both killed, {seed}") as names:
        ours, theirs = Pipe(capacity=1 << 14)
        names.append(ours._segment.name)
        first = Victim(lambda: _live_and_let_die(ours, Random(seed), progress))
        second = Victim(lambda: _live_and_let_die(theirs, Random(seed), progress))
        with first, second:
            eventually(lambda: bool(progress[COMMITTED]), within=0.05)  # or both wait for room, as two that only send do
            time.sleep(random.uniform(0, _LONGEST_LIFE_S))
            first.kill()
            time.sleep(random.choice((0, 0.0005)))
        tally.kills += 2
        ours.close()
        theirs.close()


def _live_and_let_die(end: Connection, random: Random, progress: "np.ndarray[Any, Any]") -> None:
    with suppress(Closed):  # it learns of the other one's death before its own
        _live(end, random, progress)


def semaphores(random: Random) -> Tally:
    """One round: the paper's queue, whose semaphores a victim may hold when it dies."""
    tally = Tally()
    for _ in range(KILLS):
        _kill_at_semaphores(random, tally)
    return tally


def _kill_at_semaphores(random: Random, tally: Tally) -> None:
    seed, progress, ledger = random.getrandbits(32), _progress(), Ledger()
    step = f"victim {seed} at the semaphores"
    with nothing_left(tally, step) as names, Victim(lambda: _live_at_semaphores(Random(seed), progress)) as victim:
        ipc = ipc_init(os.getpid(), victim.pid, slots=4, slot_bytes=512)
        names.append(ipc._segment.name)
        deadline = time.monotonic() + random.uniform(0, _LONGEST_LIFE_S)
        for message in stream(Random(seed + 1), 512):
            with suppress(TimedOut):
                ledger.note(ipc_receive(ipc, timeout=0))
            with suppress(TimedOut):
                ipc_send(ipc, message, timeout=0)
            if progress[COMMITTED] and time.monotonic() > deadline:
                break
        victim.kill()
        tally.kills += 1
        with _in_time(tally, step), suppress(PeerDied):
            while True:
                ledger.note(ipc_receive(ipc, timeout=PATIENCE_S))
        with _in_time(tally, step), suppress(PeerDied):
            while True:
                ipc_send(ipc, sealed(0, SHORTEST), timeout=PATIENCE_S)
        ipc_destroy(ipc)
    ledger.settle(int(progress[COMMITTED]), tally, step)


def _live_at_semaphores(random: Random, progress: "np.ndarray[Any, Any]") -> None:
    ipc = ipc_init(os.getppid(), os.getpid(), slots=4, slot_bytes=512)
    for message in stream(random, 512):
        ipc_send(ipc, message)
        progress[COMMITTED] += 1
        with suppress(TimedOut):
            progress[SPOILT] += number_of(ipc_receive(ipc, timeout=0)) is None
            progress[RECEIVED] += 1
