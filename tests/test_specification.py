"""One specification of a connection, two `collections.deque`: in one process, between two, and with one that suffers.

Nothing waits here unless it says so: an operation that cannot be done at once must say `TimedOut`, and be right.
"""

import multiprocessing
import os
import signal
import time
from collections import deque

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from support import PATIENCE

from zcipc import Closed, MessageTooLarge, PeerDied, Pipe, TimedOut, Waiting
from zcipc.errors import LoanOpen, ZcipcError

CAPACITY = 4096  # bytes; the least there is
LONGEST = CAPACITY - 16
HEADERS = 16  # bytes: of the record, and of the one after it
NOTICED_WITHIN = 0.25  # seconds, a death
A_WHILE = 0.06  # seconds: long enough to look at the peer

SIDES = st.sampled_from([0, 1])
LENGTHS = st.integers(0, 40) | st.integers(0, LONGEST) | st.integers(LONGEST - 8, LONGEST + 8)


class Dropped(Exception):
    """A user's error within a loan."""


class End:
    """What a user does with one end, and the views that he keeps, by number."""

    def __init__(self, connection, kept):
        self.connection, self.kept = connection, kept

    def do(self, operation, *arguments):
        """The result of an operation, or the type of what it raised."""
        try:
            return getattr(self, operation)(*arguments)
        except ZcipcError as error:
            return type(error)

    def send(self, message, _number):
        self.connection.send_bytes(message, timeout=0)

    def loan(self, message, number, keeps=False, drops=False):
        try:
            with self.connection.loan(len(message), timeout=0) as buffer:
                buffer[:] = message
                if keeps:
                    self.kept[number] = np.frombuffer(buffer, np.uint8)
                with pytest.raises(LoanOpen):
                    self.connection.send_bytes(b"past the loan", timeout=0)
                if drops:
                    raise Dropped
        except Dropped:
            pass

    def loan_and_keep(self, message, number):
        self.loan(message, number, keeps=True)

    def drop(self, message, number):
        self.loan(message, number, drops=True)

    def drop_and_keep(self, message, number):
        self.loan(message, number, keeps=True, drops=True)

    def receive(self, _number, timeout=0):
        return self.connection.recv_bytes(timeout=timeout)

    def borrow(self, _number):
        with self.connection.borrow(timeout=0) as buffer:
            return bytes(buffer)

    def borrow_and_keep(self, number):
        with self.connection.borrow(timeout=0) as buffer:
            self.kept[number] = np.frombuffer(buffer, np.uint8)
            return bytes(buffer)

    def poll(self):
        return self.connection.poll()

    def bytes_queued_out(self):
        return self.connection.statistics().bytes_queued_out

    def views(self):
        return {number: view.tobytes() for number, view in self.kept.items()}

    def forget(self, number):
        del self.kept[number]

    def close(self):
        self.connection.close()


def serve(end, orders):
    while True:
        orders.send(end.do(*orders.recv()))


class RemoteEnd:
    """An `End` in a process of its own."""

    def __init__(self, connection):
        context = multiprocessing.get_context("fork")
        self._orders, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(End(connection, {}), theirs))
        self._process.start()
        theirs.close()

    def begin(self, *order):
        self._orders.send(order)

    def do(self, *order):
        self.begin(*order)
        assert self._orders.poll(PATIENCE), f"the other process does not come back from {order[0]}"
        return self._orders.recv()

    def signal(self, number):
        os.kill(self._process.pid, number)

    def kill(self):
        self._process.kill()
        self._process.join()
        self._orders.close()


class InOneProcess(RuleBasedStateMachine):
    """Random operations at both ends, each with the outcome that two deques give it; after each, every view is as it was."""

    @initialize(waiting=st.sampled_from(Waiting))
    def begin(self, waiting):
        self.number = 0
        self.kept = [{}, {}]  # bytes of the views that each side keeps
        self.near_views = {}
        self.meet(waiting)

    def meet(self, waiting):
        self.waiting = waiting
        self.sent = (deque(), deque())  # by each side, and not yet received
        self.closed = [False, False]
        ours, theirs = Pipe(capacity=CAPACITY, waiting=waiting)
        self.ends = (End(ours, self.near_views), self.far_end(theirs))
        assert [end.do("poll") for end in self.ends] == [False, False]

    def far_end(self, connection):
        return End(connection, {})

    def answers(self, side):
        """Whether the process of this side can be asked for anything."""
        return True

    @rule(
        side=SIDES,
        length=LENGTHS,
        way=st.sampled_from(["send", "loan", "loan_and_keep", "drop", "drop_and_keep"]),
    )
    def send_or_drop(self, side, length, way):
        if not self.answers(side):
            return
        message = self.message(length)
        outcome = self.ends[side].do(way, message, self.number)
        if length > LONGEST:
            assert outcome is MessageTooLarge or (outcome is Closed and self.closed[side])
            return
        if any(self.closed):
            assert outcome is Closed
            return
        if outcome is TimedOut and self.is_idle(side):
            outcome = self.send_until_gaps_are_passed(side, way, message)
        if outcome is TimedOut:
            self.had_no_room(side, length)
            return
        assert outcome is None
        if not way.startswith("drop"):
            self.sent[side].append(message)
        if way.endswith("keep"):
            self.kept[side][self.number] = message

    def message(self, length):
        self.number += 1
        return bytes([self.number % 251]) * length

    def is_idle(self, side):
        """Whether nothing is left in the queue that this side sends to but what the library itself has to tidy up."""
        return self.answers(1 - side) and not self.sent[side] and not any(self.kept)

    def send_until_gaps_are_passed(self, side, way, message):
        """A message never wraps: the other side may first have to pass what is left of the lap."""
        for _ in range(2):
            assert self.ends[1 - side].do("poll") is bool(self.sent[side])
            outcome = self.ends[side].do(way, message, self.number)
            if outcome is None:
                break
        assert outcome is None, "no room in an empty queue"
        return outcome

    def had_no_room(self, side, length):
        """There may be room for it at the end of the lap, or at the start, but not for twice as much."""
        if not self.kept[side]:
            free = CAPACITY - self.ends[side].do("bytes_queued_out")
            assert free < 2 * (-(-length // 8) * 8 + HEADERS)

    @rule(side=SIDES, way=st.sampled_from(["receive", "borrow", "borrow_and_keep"]))
    def receive(self, side, way):
        if not self.answers(side):
            return
        self.number += 1
        outcome = self.ends[side].do(way, self.number)
        assert outcome == self.next_outcome(side)
        if way == "borrow_and_keep" and isinstance(outcome, bytes):
            self.kept[side][self.number] = outcome

    def next_outcome(self, side):
        """What this side receives now."""
        if self.closed[side]:
            return Closed
        if self.sent[1 - side]:
            return self.sent[1 - side].popleft()
        return Closed if self.closed[1 - side] else TimedOut

    @rule(side=SIDES)
    def poll(self, side):
        if self.answers(side):
            assert self.ends[side].do("poll") is (any(self.closed) or bool(self.sent[1 - side]))

    @rule(side=SIDES, data=st.data())
    def forget_a_view(self, side, data):
        if self.answers(side) and self.kept[side]:
            number = data.draw(st.sampled_from(sorted(self.kept[side])))
            self.ends[side].do("forget", number)
            del self.kept[side][number]

    @rule(side=SIDES, is_meant=st.integers(0, 9).map(lambda n: n == 0))
    def close(self, side, is_meant):
        if self.answers(side) and is_meant:  # seldom, for little happens afterwards
            self.ends[side].do("close")
            self.closed[side] = True

    @invariant()
    def views_keep_their_bytes(self):
        for side in (0, 1) if hasattr(self, "ends") else ():
            if self.answers(side):
                assert self.ends[side].do("views") == self.kept[side]

    def teardown(self):
        if hasattr(self, "ends"):
            self.near_views.clear()
            for end in self.ends:
                end.do("close")


class BetweenTwoProcesses(InOneProcess):
    """The same, with one end in a process of its own."""

    def far_end(self, connection):
        end = RemoteEnd(connection)
        connection.close()
        return end

    def teardown(self):
        if hasattr(self, "ends"):
            self.near_views.clear()
            self.ends[0].do("close")
            self.ends[1].kill()


class WithFaults(BetweenTwoProcesses):
    """The same, and the other process is stopped, goes on, and dies within an operation or between two; then comes another."""

    def meet(self, waiting):
        self.is_stopped = False
        super().meet(waiting)

    def answers(self, side):
        return side == 0 or not self.is_stopped

    @precondition(lambda self: not self.is_stopped)
    @rule()
    def stop(self):
        self.ends[1].signal(signal.SIGSTOP)
        self.is_stopped = True

    @precondition(lambda self: self.is_stopped)
    @rule()
    def go_on(self):
        self.ends[1].signal(signal.SIGCONT)
        self.is_stopped = False

    @precondition(lambda self: self.is_stopped)
    @rule()
    def a_stopped_process_is_not_dead(self):
        assert self.ends[0].do("receive", 0, A_WHILE) == self.next_outcome(0)

    @rule(
        within=st.sampled_from([None, "send", "loan", "loan_and_keep", "drop", "drop_and_keep"]),
        length=st.integers(0, LONGEST),
        after=st.floats(0, 0.0005),
        waiting=st.sampled_from(Waiting),
    )
    def die_and_be_followed(self, within, length, after, waiting):
        message = self.message(length)
        if within is not None and self.answers(1):
            self.ends[1].begin(within, message, self.number)
            time.sleep(after)
        self.ends[1].kill()
        killed = time.monotonic()
        came = []
        while isinstance(outcome := self.ends[0].do("receive", 0, PATIENCE), bytes):
            came.append(outcome)
        assert time.monotonic() - killed < NOTICED_WITHIN
        if self.closed[0]:
            assert (came, outcome) == ([], Closed)
        else:
            assert outcome is (Closed if self.closed[1] else PeerDied)
            committed = list(self.sent[1])
            may_come = within in ("send", "loan", "loan_and_keep") and self.answers(1) and not self.closed[1]
            assert came == committed or (may_come and came == [*committed, message])
        self.ends[0].do("close")
        self.kept[1].clear()
        self.meet(waiting)


def cases(machine, examples):
    machine.TestCase.settings = settings(
        max_examples=examples, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
    )
    return pytest.mark.usefixtures("tidy")(machine.TestCase)


TestInOneProcess = cases(InOneProcess, 200)
TestBetweenTwoProcesses = cases(BetweenTwoProcesses, 60)
TestWithFaults = cases(WithFaults, 8)


def test_who_only_receives_gives_back_the_room_of_a_view_long_gone():
    ours, theirs = Pipe(capacity=CAPACITY)
    with ours, theirs:
        ours.send_bytes(bytes(2000))
        with theirs.borrow(timeout=PATIENCE) as buffer:
            view = np.frombuffer(buffer, np.uint8)
        del view
        assert not theirs.poll(A_WHILE)
        assert theirs.statistics().bytes_queued_in == ours.statistics().bytes_queued_out == 0


def test_who_only_tries_to_send_has_the_room_of_a_loan_no_longer_viewed():
    ours, theirs = Pipe(capacity=CAPACITY)
    with ours, theirs:
        with ours.loan(8, timeout=PATIENCE) as buffer:
            view = np.frombuffer(buffer, np.uint8)
        theirs.recv_bytes(timeout=PATIENCE)
        end = End(ours, {})
        most = bytes(CAPACITY // 2)
        assert [sent_and_received(end, theirs, most) for _ in range(3)][-1] is TimedOut
        del view
        assert None in [sent_and_received(end, theirs, most) for _ in range(2)]


def sent_and_received(end, other, message):
    outcome = end.do("send", message, 0)
    if other.poll():  # past what is left of the lap, too
        assert other.recv_bytes(timeout=PATIENCE) == message
    return outcome


@pytest.mark.parametrize("operation", ["receive", "borrow", "borrow_and_keep"])
def test_an_end_closed_before_its_first_borrow_says_so(operation):
    ours, theirs = Pipe(capacity=CAPACITY)
    with theirs:
        ours.close()
        assert End(ours, {}).do(operation, 0) is Closed
