"""`zcipc ls`: what segments show from outside, with and without a name, of the living and the dead."""

import json
import os
import signal
import time

import pytest
from support import Child, eventually

import zcipc
from zcipc import cli, listing
from zcipc.memory.segment import Segment

pytestmark = pytest.mark.usefixtures("tidy")

CAPACITY = 1 << 16


def state_of(segment):
    """What a snapshot says of a segment; None if it does not list it."""
    return next((state for state in listing.snapshot() if state.name == segment.name), None)


@pytest.fixture
def ends():
    left, right = zcipc.Pipe(capacity=CAPACITY, waiting=zcipc.Waiting.BLOCK)
    yield left, right
    left.close()
    right.close()


def receive_at(end):
    end.recv_bytes()
    time.sleep(60)


def test_a_new_channel_has_a_name_two_free_seats_and_nothing_in_it(ends):
    state = state_of(ends[0]._segment)
    assert state.named
    assert (state.kind, state.size) == ("channel", ends[0]._segment.size)
    assert (state.creator.pid, state.creator.alive) == (os.getpid(), True)
    assert state.mapped_by == (os.getpid(),)
    assert all(seat.process is None and not seat.sleeps_for and not seat.closed for seat in state.seats)
    assert state.queues == (listing.QueueState(CAPACITY, 0, 0),) * 2


def test_a_channel_without_a_name_is_found_and_read_through_who_maps_it(ends):
    left, right = ends
    with Child(receive_at, right) as child:
        left.send_bytes(bytes(100))
        assert eventually(lambda: not state_of(left._segment).named)
        assert eventually(lambda: state_of(left._segment).queues[0].queued == 0)
        left.send_bytes(bytes(1000))
        state = state_of(left._segment)
        assert [seat.process.pid for seat in state.seats] == [os.getpid(), child.pid]
        assert all(seat.process.alive for seat in state.seats)
        assert {os.getpid(), child.pid} <= set(state.mapped_by)
        assert state.queues[0].queued == left.statistics().bytes_queued_out == 1008
        assert state.queues[0].passed == 104 + 8 + 1008
        assert state.queues[1] == listing.QueueState(CAPACITY, 0, 0)
        child.kill()


def test_who_sleeps_for_a_message_is_told(ends):
    left, right = ends
    with Child(receive_at, right) as child:
        assert left.poll() is False
        assert eventually(lambda: state_of(left._segment).seats[1].sleeps_for == ("message",))
        child.kill()


def test_who_sleeps_for_room_is_told(ends):
    left, right = ends

    def fill():
        while True:
            right.send_bytes(bytes(1000))

    with Child(fill) as child:
        assert left.poll(5)
        assert eventually(lambda: state_of(left._segment).seats[1].sleeps_for == ("room",))
        assert state_of(left._segment).queues[1].queued > CAPACITY - 1100
        child.kill()


def test_the_dead_are_told_from_the_living_and_from_those_who_left(ends):
    left, right = ends
    with Child(receive_at, right) as child:
        left.send_bytes(b"")
        assert eventually(lambda: state_of(left._segment).seats[1].process is not None)
        os.kill(child.pid, signal.SIGKILL)
        assert eventually(lambda: state_of(left._segment).seats[1].process.alive is False)
        state = state_of(left._segment)
        assert state.seats[1].process.program == ""
        assert not state.seats[1].closed
    with Child(right.close):
        assert state_of(left._segment) is not None


def test_an_end_that_was_closed_is_told(ends):
    left, right = ends
    with Child(lambda: right.send_bytes(b"bye") or right.close()) as child:
        assert left.recv_bytes(timeout=20) == b"bye"
        assert eventually(lambda: state_of(left._segment).seats[1].closed)
        assert child.outcome() is None


def test_what_is_not_signed_is_listed_with_the_reason():
    segment = Segment.create("channel", 8192)
    try:
        segment.buffer[:8] = bytes(8)
        state = state_of(segment)
        assert "not signed" in state.unreadable
        assert (state.kind, state.creator, state.seats, state.queues) == ("", None, (), ())
    finally:
        segment.close()


def test_what_may_not_be_read_is_listed_with_the_reason(ends, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    left, right = ends
    left._require_open()
    with Child(receive_at, right) as child:
        assert eventually(lambda: not state_of(left._segment).named)
        monkeypatch.setattr(listing.Path, "open", refuse)
        state = listing._unnamed_state([listing._Mapping(child.pid, 0, "zcipc-x", 4096)])
        assert state.unreadable == f"the memory of process {child.pid}: Permission denied"
        monkeypatch.undo()
        child.kill()


def test_the_table_and_the_json_say_the_same(ends, capsys):
    left, _ = ends
    left.send_bytes(bytes(CAPACITY // 2 - 8))
    assert cli.main(["ls"]) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0].split()[:4] == ["segment", "kind", "bytes", "creator"]
    at = next(index for index, line in enumerate(table) if line.startswith(left._segment.name[:17]))
    assert f"{os.getpid()} alive" in table[at]
    assert "50%" in table[at]
    assert "free" in table[at + 1]
    assert cli.main(["ls", "--json"]) == 0
    states = json.loads(capsys.readouterr().out)
    state = next(state for state in states if state["name"] == left._segment.name)
    half = {"capacity": CAPACITY, "queued": CAPACITY // 2, "passed": CAPACITY // 2, "messages": None}
    assert state["queues"][0] == half
    assert state["seats"][1]["process"] is None
