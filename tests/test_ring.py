"""The queue, in one process: a `collections.deque` of records that never overlap, whatever the other side writes."""

from collections import deque
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from zcipc.algorithms import ring
from zcipc.algorithms.ring import CORRUPT, EMPTY, GAP, HEADER, LENGTH_BITS, LENGTH_MASK, NOTHING

pytestmark = pytest.mark.usefixtures("tidy")

CANARY = 0x5AA5_5AA5_5AA5_5AA5
MARGIN = 64  # words before and after the data that nobody may touch
WORDS = st.integers(-(1 << 63), (1 << 63) - 1)
NEAR_ZERO = st.integers(-600, 600)


def claim(producer, length):
    """What `operations.try_claim` makes of it: the quick look, or else the thorough one."""
    payload = ring.claim(producer, length)
    return ring.claim_anew(producer, length) if payload == NOTHING else payload


def peek(consumer):
    """What `operations.peek` makes of it: past the gaps."""
    header, payload = ring.peek(consumer)
    return ring.pass_gaps(consumer) if payload == GAP else (header, payload)


class Queue:
    """A queue in ordinary memory, with canaries around its data."""

    def __init__(self, capacity):
        self.capacity = capacity
        self.control = np.zeros(ring.CONTROL_BYTES // 8, np.int64)
        self.memory = np.full(capacity // 8 + 2 * MARGIN, CANARY, np.int64)
        self.data = self.memory[MARGIN : MARGIN + capacity // 8]
        self.data[:] = EMPTY
        self.sides = np.zeros((2, ring.SIDE_BYTES // 8), np.int64)
        for side in self.sides:
            side[ring.CONTROL // 8] = self.control.ctypes.data
            side[ring.DATA // 8] = self.data.ctypes.data
            side[ring.CAPACITY // 8] = capacity
            side[ring.FLOOR // 8] = ring.NO_FLOOR
        self.producer, self.consumer = (side.ctypes.data for side in self.sides)

    def word(self, side, offset):
        return int(self.sides[side, offset // 8])

    def set_word(self, side, offset, value):
        self.sides[side, offset // 8] = value

    @property
    def consumer_position(self):
        return self.word(1, ring.POSITION)

    def bytes_at(self, payload, length):
        start = payload - self.data.ctypes.data
        assert 0 <= start <= start + length <= self.capacity, "outside the queue's data"
        return self.data.view(np.uint8)[start : start + length]

    def put(self, message, tag=0):
        """Claim and commit; whether there was room."""
        payload = claim(self.producer, len(message))
        if payload != NOTHING:
            self.bytes_at(payload, len(message))[:] = list(message)
            ring.commit(self.producer, len(message), tag)
        return payload != NOTHING

    def peek(self):
        """Tag and payload of the next record, or None."""
        header, payload = peek(self.consumer)
        if header == 0:
            assert payload == NOTHING
            return None
        return header >> LENGTH_BITS, self.bytes_at(payload, (header & LENGTH_MASK) - 1).tobytes()

    def take(self):
        record = self.peek()
        if record is not None:
            ring.skip(self.consumer, peek(self.consumer)[0])
        return record

    def untouched_outside(self):
        return bool((self.memory[:MARGIN] == CANARY).all() and (self.memory[-MARGIN:] == CANARY).all())


@dataclass
class Record:
    tag: int
    payload: bytes
    address: int
    start: int = -1  # position in the queue, once the consumer has seen it
    over: bool = False  # the consumer no longer needs it


class QueueBehavesLikeADeque(RuleBasedStateMachine):
    """Random operations of both sides; after each, every record not released has the bytes that were written."""

    @initialize(capacity=st.sampled_from([64, 128, 256]))
    def make(self, capacity):
        self.queue = Queue(capacity)
        self.claimed = None  # address and length of a claim not yet published
        self.queued = deque()
        self.held = deque()  # seen by the consumer, bytes not released: held records, and those skipped behind one
        self.sent = self.received = 0

    @precondition(lambda self: self.claimed is None)
    @rule(data=st.data())
    def claim(self, data):
        length = data.draw(st.integers(0, ring.max_message(self.queue.capacity)))
        payload = claim(self.queue.producer, length)
        if payload == NOTHING:
            assert self.queued or self.held or self.queue.word(1, ring.POSITION) != self.queue.word(0, ring.POSITION)
        else:
            assert claim(self.queue.producer, length) == payload, "a claim is repeatable"
            self.queue.bytes_at(payload, length)[:] = 0xEE  # whatever it overlaps shows
            self.claimed = payload, length

    @precondition(lambda self: self.claimed is not None)
    @rule(data=st.data(), tag=st.integers(0, 3))
    def commit_what_was_claimed_or_less(self, data, tag):
        address, length = self.claimed
        payload = data.draw(st.binary(max_size=length))
        self.queue.bytes_at(address, len(payload))[:] = list(payload)
        ring.commit(self.queue.producer, len(payload), tag)
        self.queued.append(Record(tag, payload, address))
        self.claimed = None
        self.sent += 1

    @precondition(lambda self: self.claimed is not None)
    @rule()
    def give_the_claim_up(self):
        ring.commit_gap(self.queue.producer, self.claimed[1])
        self.claimed = None

    def next_record(self):
        """What the consumer sees next agrees with the model; a second gap in a row takes a second look."""
        looks = (peek(self.queue.consumer) for _ in range(self.queue.capacity))
        header, payload = next((seen for seen in looks if seen[0] != 0), (0, NOTHING))
        if not self.queued:
            assert (header, payload) == (0, NOTHING)
            return None, 0
        record = self.queued.popleft()
        assert (header >> LENGTH_BITS, (header & LENGTH_MASK) - 1) == (record.tag, len(record.payload))
        assert payload == record.address
        record.start = self.queue.consumer_position
        self.received += 1
        return record, header

    @rule()
    def skip(self):
        record, header = self.next_record()
        if record is not None:
            ring.skip(self.queue.consumer, header)
            record.over = True
            if self.held:
                self.held.append(record)

    @rule()
    def hold(self):
        record, header = self.next_record()
        if record is not None:
            ring.hold(self.queue.consumer, header)
            self.held.append(record)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release_held_in_any_order(self, data):
        data.draw(st.sampled_from([record for record in self.held if not record.over])).over = True
        while self.held and self.held[0].over:
            self.held.popleft()
        position = self.held[0].start if self.held else self.queue.consumer_position
        ring.release_until(self.queue.consumer, position)

    @invariant()
    def records_keep_their_bytes(self):
        for record in (*self.held, *self.queued) if hasattr(self, "queue") else ():
            assert self.queue.bytes_at(record.address, len(record.payload)).tobytes() == record.payload

    @invariant()
    def counts_agree_and_nothing_is_written_outside(self):
        if hasattr(self, "queue"):
            assert self.queue.untouched_outside()
            assert (self.queue.word(0, ring.COUNT), self.queue.word(1, ring.COUNT)) == (self.sent, self.received)
            head, tail = (int(self.queue.control[offset // 8]) for offset in (ring.HEAD, ring.TAIL))
            assert 0 <= head <= self.queue.consumer_position <= tail <= head + self.queue.capacity


QueueBehavesLikeADeque.TestCase.settings = settings(
    max_examples=100, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
)
TestQueueBehavesLikeADeque = pytest.mark.usefixtures("tidy")(QueueBehavesLikeADeque.TestCase)


@given(capacity=st.sampled_from([64, 256, 1024]), lengths=st.lists(st.integers(0, 1008), min_size=1, max_size=80))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_messages_of_any_size_pass_in_order_over_many_laps(capacity, lengths):
    queue, expected, received = Queue(capacity), [], []
    for number, length in enumerate(lengths):
        message = bytes([number]) * min(length, ring.max_message(capacity))
        expected.append((number, message))
        while not queue.put(message, number):
            record = queue.take()
            received.extend([record] if record else [])
            assert len(received) <= len(expected)
    while (record := queue.take()) is not None:
        received.append(record)
    assert received == expected
    assert queue.untouched_outside()


@pytest.mark.parametrize("offset", range(0, 256, 8))
def test_a_message_of_maximal_size_passes_from_wherever_the_queue_stands(offset):
    queue = Queue(256)
    for _ in range(offset // 8):
        assert queue.put(b"")
        assert queue.take() == (0, b"")
    longest = bytes(range(ring.max_message(256)))
    if not queue.put(longest):  # the rest of the lap is a gap, for the consumer to pass first
        assert queue.take() is None
        assert queue.put(longest)
    assert queue.take() == (0, longest)


def test_a_full_queue_refuses_and_takes_again_what_was_released():
    queue = Queue(64)
    sent = 0
    while queue.put(b"12345678", sent):
        sent += 1
    assert sent == 3, "three records of 16 bytes, and the header after them, fill 64 bytes"
    assert ring.can_claim(queue.producer, 8) == 0
    assert queue.take() == (0, b"12345678")
    assert ring.can_claim(queue.producer, 8) != 0
    assert queue.put(b"abcdefgh", 7)
    assert [queue.take() for _ in range(4)] == [(1, b"12345678"), (2, b"12345678"), (7, b"abcdefgh"), None]


def test_a_message_behind_many_gaps_is_the_next():
    queue = Queue(256)
    for _ in range(10):
        assert claim(queue.producer, 8) > 0
        ring.commit_gap(queue.producer, 8)
    queue.put(b"after")
    assert queue.take() == (0, b"after")


def test_a_queue_of_nothing_but_gaps_does_not_hold_the_consumer_for_ever():
    queue = Queue(64)
    queue.data[:] = -8
    assert peek(queue.consumer)[0] == 0
    assert queue.untouched_outside()


def test_a_dropped_claim_is_no_message():
    queue = Queue(128)
    assert claim(queue.producer, 20) > 0
    ring.commit_gap(queue.producer, 20)
    assert queue.put(b"after")
    assert queue.take() == (0, b"after")
    assert queue.word(0, ring.COUNT) == 1


def test_peeking_changes_nothing():
    queue = Queue(64)
    queue.put(b"same", 5)
    assert [queue.peek() for _ in range(3)] == [(5, b"same")] * 3
    assert queue.word(1, ring.COUNT) == 0


def test_held_bytes_are_not_reused_before_they_are_released():
    queue = Queue(64)
    queue.put(b"12345678")
    header, payload = peek(queue.consumer)
    ring.hold(queue.consumer, header)
    passed = 0
    while queue.put(b"ABCDEFGH"):
        assert queue.take() == (0, b"ABCDEFGH")
        passed += 1
    assert passed == 2
    assert queue.bytes_at(payload, 8).tobytes() == b"12345678"
    ring.release_until(queue.consumer, queue.consumer_position)
    assert queue.put(b"ABCDEFGH")


def test_bytes_above_the_floor_are_not_overwritten_though_they_were_released():
    queue = Queue(64)
    payload = claim(queue.producer, 8)
    queue.put(b"12345678")
    queue.set_word(0, ring.FLOOR, 0)
    passed = 0
    while queue.put(b"ABCDEFGH"):
        passed += 1
        while queue.take() is not None:
            pass
    assert passed == 2
    assert queue.bytes_at(payload, 8).tobytes() == b"12345678"
    queue.set_word(0, ring.FLOOR, ring.NO_FLOOR)
    assert queue.put(b"ABCDEFGH")


@given(header=WORDS | NEAR_ZERO | st.integers(0, 300).map(lambda length: (3 << LENGTH_BITS) | length), lap=st.integers(0, 15))
@example(header=-64, lap=0)
@example(header=-(1 << 63), lap=0)
@example(header=(1 << 63) - 1, lap=3)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_hostile_header_gives_a_record_inside_the_queue_or_corrupt(header, lap):
    queue = Queue(128)
    for _ in range(lap):
        queue.put(b"")
        queue.take()
    before = queue.consumer_position
    queue.data[before % 128 // 8] = header
    found, payload = peek(queue.consumer)
    offset = payload - queue.data.ctypes.data
    if found != 0:
        assert found & LENGTH_MASK >= 1
        assert HEADER <= offset <= offset + (found & LENGTH_MASK) - 1 <= 128
    else:
        assert payload in (NOTHING, CORRUPT)
    assert before <= queue.consumer_position <= before + 2 * 128
    assert queue.untouched_outside()


@pytest.mark.parametrize("header", [-1, -7, -136, -(1 << 63), ring.header_of.py_func(128, 0), LENGTH_MASK, 1 << LENGTH_BITS])
def test_an_impossible_header_is_corrupt(header):
    queue = Queue(128)
    queue.data[0] = header
    assert tuple(peek(queue.consumer)) == (0, CORRUPT)


@given(head=WORDS | NEAR_ZERO, length=st.integers(0, 112), messages=st.integers(0, 30))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_hostile_head_gives_room_inside_the_queue_or_none_or_corrupt(head, length, messages):
    queue = Queue(128)
    for _ in range(messages):
        queue.put(b"12345678")
        queue.take()
    queue.control[ring.HEAD // 8] = head
    payload = claim(queue.producer, length)
    if payload not in (NOTHING, CORRUPT):
        queue.bytes_at(payload, length)[:] = 1
        ring.commit(queue.producer, length, 0)
    assert 0 <= queue.word(0, ring.KNOWN_HEAD) <= queue.word(0, ring.POSITION)
    assert queue.untouched_outside()


@pytest.mark.parametrize("head", [-1, 1 << 40, -(1 << 63), (1 << 63) - 1])
def test_an_impossible_head_is_corrupt(head):
    queue = Queue(64)
    while queue.put(b"12345678"):
        pass
    queue.control[ring.HEAD // 8] = head
    assert claim(queue.producer, 8) == CORRUPT


def test_a_head_that_moves_back_is_corrupt():
    queue = Queue(64)
    for _ in range(5):
        queue.put(b"12345678")
        queue.take()
    while queue.put(b"12345678"):
        pass
    queue.control[ring.HEAD // 8] = queue.word(0, ring.KNOWN_HEAD) - 16
    assert claim(queue.producer, 8) == CORRUPT
