"""Killed anywhere: every operation of a queue, with a death at every instant of it.

The victim is stepped through the compiled function that is the operation. What the survivor can see changes only when the
victim writes to shared memory, so a first pass notes the instructions at which it does, and further victims die before the
first of them and after each: that is every instant that can be told from another. `every` asks for each instruction instead.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from random import Random
from typing import Any

import numpy as np

from zcipc import Closed, Connection, TimedOut, Waiting, ipc_receive, ipc_send
from zcipc.algorithms import seats
from zcipc.ends import methods
from zcipc.ends.methods import entries
from zcipc.ipc import _entries as ipc_entries
from zcipc.lab.torture.messages import Ledger, sealed
from zcipc.lab.torture.processes import NOTICE_S, Victim, nothing_left
from zcipc.lab.torture.queues import CAPACITY, Channel, Queue, Semaphores
from zcipc.lab.torture.stepping import Stepper, address_of, be_traced
from zcipc.lab.torture.tally import Tally

_LENGTH = 200  # bytes of an ordinary message; a multiple of no vector register


@dataclass(frozen=True)
class Operation:
    """One call of the victim, and the compiled function in it that is stepped through.

    Attributes:
        act: what the victim calls, with its end of the queue.
        address: of the function.
        queue: what they are connected by.
        sent: messages that the victim sends before.
        received: how many of them the survivor receives before.
        provided: messages that the survivor sends before.
        taken: how many of them the victim receives before.
        sends: whether message number `sent` is committed when the function returns.
        waiting: of both ends.
    """

    name: str
    act: Callable[[Any], object]
    address: Callable[[], int]
    queue: Callable[[Waiting], Queue] = Channel
    sent: int = 1
    received: int = 0
    provided: int = 1
    taken: int = 0
    sends: bool = False
    waiting: Waiting = Waiting.HYBRID


def _native(name: str) -> Callable[[], int]:
    return lambda: address_of(getattr(entries, name))


def _send(number: int) -> Callable[[Connection], object]:
    return lambda end: end.send_bytes(sealed(number, _LENGTH))


def _loan(number: int, drop: bool = False, keep: bool = False) -> Callable[[Connection], object]:
    def act(end: Connection) -> object:
        try:
            with end.loan(_LENGTH) as buffer:
                kept = np.frombuffer(buffer, np.uint8) if keep else None
                buffer[:] = sealed(number, _LENGTH)
                if drop:
                    raise InterruptedError
        except InterruptedError:
            pass
        return kept

    return act


def _borrow(end: Connection) -> object:
    with end.borrow() as buffer:
        return len(buffer)


def _borrow_and_keep(end: Connection) -> None:
    with end.borrow() as buffer:
        kept = np.frombuffer(buffer, np.uint8)
    del kept  # gives back what nobody views any more


def _expire(call: Callable[[], object]) -> None:
    with suppress(TimedOut):
        call()


_FULL = (CAPACITY - 8) // (8 + _LENGTH)  # messages that fit into an empty queue
_BLOCK = Waiting.BLOCK

OPERATIONS = (
    Operation("send", _send(1), lambda: methods.send_bytes.address, sends=True),
    Operation(
        "send at the end of a lap", _send(_FULL), lambda: methods.send_bytes.address, sent=_FULL, received=_FULL, sends=True
    ),
    Operation("send to a sleeper", _send(1), lambda: methods.send_bytes.address, sends=True, waiting=_BLOCK),
    Operation("receive", lambda end: end.recv_bytes(), lambda: methods.recv_bytes.address, provided=2),
    Operation(
        "receive past a gap", lambda end: end.recv_bytes(), lambda: methods.recv_bytes.address, provided=_FULL + 1, taken=_FULL
    ),
    Operation("open a loan", _loan(1), lambda: methods.enter_loan.address),
    Operation("end a loan", _loan(1), lambda: methods.exit_loan.address, sends=True),
    Operation("end a loan still viewed", _loan(1, keep=True), _native("commit"), sends=True),
    Operation("drop a loan", _loan(1, drop=True), _native("end_loan")),
    Operation("drop a loan still viewed", _loan(1, drop=True, keep=True), _native("drop")),
    Operation("open a borrow", _borrow, lambda: methods.enter_borrow.address),
    Operation("end a borrow", _borrow, lambda: methods.exit_borrow.address),
    Operation("give back what was kept", _borrow_and_keep, _native("give_back")),
    Operation("poll", lambda end: end.poll(), _native("peek")),
    Operation(
        "wait for a message",
        lambda end: _expire(lambda: end.recv_bytes(timeout=0.001)),
        _native("await_message"),
        provided=0,
        waiting=_BLOCK,
    ),
    Operation(
        "wait for room",
        lambda end: _expire(lambda: end.send_bytes(sealed(_FULL, _LENGTH), timeout=0.001)),
        _native("await_room"),
        sent=_FULL,
        waiting=_BLOCK,
    ),
    Operation("take a seat", lambda end: end.poll(), lambda: address_of(seats._entries.take), sent=0),
    Operation("open an end", lambda end: end.poll(), _native("open_end"), sent=0),
    Operation("close", lambda end: end.close(), _native("close")),
    Operation(
        "send at the semaphores",
        lambda ipc: ipc_send(ipc, sealed(1, _LENGTH)),
        lambda: address_of(ipc_entries().send),
        Semaphores,
        sends=True,
    ),
    Operation("receive at the semaphores", ipc_receive, lambda: address_of(ipc_entries().receive), Semaphores),
)


def sweep(random: Random) -> Tally:
    """One round: an operation chosen at random, with a death at each instant of it."""
    return killed_throughout(random.choice(OPERATIONS))


def killed_throughout(operation: Operation, every: bool = False) -> Tally:
    """A death at each instant of `operation`: after each change of shared memory, or after each instruction."""
    tally = Tally()
    arrived = False
    for instant in range(instants_of(operation, every)):
        number = _killed_at(operation, instant, every, tally)
        if arrived and not number:
            tally.fault("lost", f"committed before instant {instant}, {operation.name}")
        arrived = number
    if arrived != operation.sends:
        tally.fault("lost", f"after the last instant, {operation.name}")
    return tally


def instants_of(operation: Operation, every: bool) -> int:
    """How many instants an operation has."""
    with _Stage(operation) as stage:
        return sum(1 for _ in stage.instants(every))


def _killed_at(operation: Operation, instant: int, every: bool, tally: Tally) -> bool:
    """Let a victim die at an instant; whether the message that it was sending arrived."""
    step = f"killed at instant {instant} of {operation.name!r}"
    with nothing_left(tally, step) as names, _Stage(operation) as stage:
        names.append(stage.queue.name)
        next(islice(stage.instants(every), instant, None))
        stage.victim.kill()
        tally.kills += 1
        return stage.bereave(tally, step)


class _Stage:
    """A survivor and a victim, which stands at the first instruction of the operation."""

    def __init__(self, operation: Operation) -> None:
        self._operation, self._ledger = operation, Ledger()
        self.queue = operation.queue(operation.waiting)
        self.victim = Victim(self._suffer)
        self.queue.meet(self.victim.pid)
        for number in range(operation.provided):
            self.queue.send(sealed(number, _LENGTH))
        for _ in range(operation.received):
            self._ledger.note(self.queue.receive())
        self.stepper = Stepper(self.victim, operation.address())

    def _suffer(self) -> None:
        operation = self._operation
        end = self.queue.victims_end()
        for number in range(operation.sent):
            end.send(sealed(number, _LENGTH))
        for _ in range(operation.taken):
            end.receive()
        be_traced()
        operation.act(end.queue)

    def instants(self, every: bool) -> Iterator[None]:
        """Let the victim run from instant to instant of its operation."""
        return self.stepper.instants(None if every else lambda: bytes(self.queue.memory))

    def bereave(self, tally: Tally, step: str) -> bool:
        """The survivor takes what is there and learns of the death; whether one more than `sent` messages were there."""
        operation, ledger = self._operation, self._ledger
        if not self.queue.has_met():
            return False  # it died before it was anybody's peer
        for doing in (self._receive_all, self._send_all):
            start = time.monotonic()
            try:
                doing()
            except Closed:
                took = time.monotonic() - start
                tally.fault("hangs", f"{doing.__name__}: noticed after {took:.3f} s, {step}", int(took > NOTICE_S))
            except TimedOut:
                tally.fault("hangs", f"{doing.__name__}, {step}")
        arrived = ledger.received > operation.sent
        ledger.settle(operation.sent, tally, step)
        return arrived

    def _receive_all(self) -> None:
        while True:
            self._ledger.note(self.queue.receive())

    def _send_all(self) -> None:
        while True:
            self.queue.send(bytes(_LENGTH))

    def __enter__(self) -> "_Stage":
        return self

    def __exit__(self, *_: object) -> None:
        self.victim.kill()
        self.queue.close()
