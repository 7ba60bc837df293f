"""Nothing lost, torn, hung or leaked, wherever a process dies; and a judge that would see it."""

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from random import Random

import numpy as np
import pytest
from numba import cfunc, int64, void
from support import PATIENCE, eventually

from zcipc import Queue, cli
from zcipc import operations as ops
from zcipc.algorithms import ring
from zcipc.broadcast import Reader
from zcipc.lab.harness.progress import VARIABLE
from zcipc.lab.torture import broadcasts, calls, crowds, kills, objects, run, sweep, takeover
from zcipc.lab.torture.messages import SHORTEST, Ledger, number_of, sealed, stream
from zcipc.lab.torture.stepping import AVAILABLE
from zcipc.lab.torture.sweep import OPERATIONS, Operation, killed_throughout
from zcipc.lab.torture.tally import FAULTS, Tally
from zcipc.native.atomics import memcpy

steps = pytest.mark.skipif(not AVAILABLE, reason="processes are stepped through on x86-64 only")


# --- the judge


def settled(messages, committed):
    ledger, tally = Ledger(), Tally()
    for message in messages:
        ledger.note(message)
    ledger.settle(committed, tally, "here")
    return {kind: getattr(tally, kind) for kind in FAULTS if getattr(tally, kind)}


FIRST = [sealed(number, 40) for number in range(5)]


def test_all_messages_once_and_in_order_are_no_fault():
    assert settled(FIRST, 5) == {}
    assert settled(FIRST, 4) == {}, "one more may have been committed than its sender could tell"


@pytest.mark.parametrize(
    ("messages", "fault"),
    [
        (FIRST[:4], {"lost": 1}),
        (FIRST[:2] + FIRST[3:], {"lost": 1}),
        ([*FIRST, FIRST[4]], {"duplicated": 1}),
        ([FIRST[0], FIRST[2], FIRST[1], FIRST[3], FIRST[4]], {"out_of_order": 1}),
        ([*FIRST, FIRST[0][:-1] + b"?"], {"torn": 1}),
        ([*FIRST, FIRST[0][:-1]], {"torn": 1}),
        ([*FIRST, b""], {"torn": 1}),
    ],
)
def test_each_fault_is_seen_for_what_it_is(messages, fault):
    assert settled(messages, 5) == fault


def test_a_message_is_as_long_as_asked_and_no_two_are_alike():
    lengths = (SHORTEST, SHORTEST + 1, 100, 5000)
    assert [len(sealed(7, length)) for length in lengths] == list(lengths)
    assert [number_of(sealed(7, length)) for length in lengths] == [7] * 4
    assert sealed(7, 100)[SHORTEST:] != sealed(8, 100)[SHORTEST:]


def test_a_stream_is_its_seed_and_stays_within_its_longest():
    first, again = stream(Random(3), 900), stream(Random(3), 900)
    messages = [next(first) for _ in range(50)]
    assert messages == [next(again) for _ in range(50)]
    assert [number_of(message) for message in messages] == list(range(50))
    assert max(map(len, messages)) <= 900


# --- killed anywhere


@steps
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_killed_at_any_instant_of_an_operation_nothing_is_lost_torn_hung_or_leaked(operation):
    tally = killed_throughout(operation)
    assert tally.failures == []
    assert tally.kills >= 2


@cfunc(void(int64, int64, int64))
def header_before_payload(end, address, length):
    payload = ops.try_claim(end, length)
    ops.commit(end, length, 0)
    memcpy(payload, address, length)


@cfunc(void(int64, int64, int64))
def twice(end, address, length):
    for _ in range(2):
        memcpy(ops.try_claim(end, length), address, length)
        ring.commit(end + ops.PRODUCER, length, 0)


def calling(broken):
    def act(end):
        message = np.frombuffer(sealed(1, 200), np.uint8)
        ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 3)(broken.address)(end.end, message.ctypes.data, message.nbytes)

    return Operation("a broken send", act, lambda: broken.address, sends=True)


@steps
@pytest.mark.parametrize(("broken", "fault"), [(header_before_payload, "torn"), (twice, "duplicated")])
def test_a_queue_that_is_wrong_at_one_instant_is_caught(broken, fault):
    tally = killed_throughout(calling(broken))
    assert getattr(tally, fault) > 0


@steps
def test_every_instant_means_every_instruction():
    operation = next(one for one in OPERATIONS if one.name == "poll")
    assert sweep.instants_of(operation, every=True) > 50 > sweep.instants_of(operation, every=False)


@steps
@pytest.mark.parametrize("operation", takeover.OPERATIONS, ids=lambda operation: operation.name)
def test_killed_at_any_instant_at_a_queue_the_others_go_on(operation):
    tally = takeover.killed_throughout(operation)
    assert tally.failures == []
    assert tally.kills >= 5


@pytest.mark.parametrize(
    "round_",
    [
        kills.channels,
        kills.pairs,
        kills.semaphores,
        objects.objects,
        crowds.crowds,
        broadcasts.broadcasts,
        calls.calls,
    ],
    ids=lambda round_: round_.__name__,
)
def test_killed_at_random_instants_under_load(round_):
    tally = round_(Random(20240))
    assert tally.failures == []
    assert tally.kills >= 10
    assert tally.messages > 10 or round_ is kills.pairs, "nobody lived to receive"


def test_a_queue_that_drops_an_item_is_caught(monkeypatch):
    put = Queue.put

    def forgetful(items, obj, **how):
        if items.qsize() != 1:
            put(items, obj, **how)

    monkeypatch.setattr(Queue, "put", forgetful)
    assert crowds.crowds(Random(20240)).lost > 0


def test_a_reader_that_does_not_own_up_to_what_it_missed_is_caught(monkeypatch):
    monkeypatch.setattr(Reader, "missed", 0)
    assert broadcasts.broadcasts(Random(20240)).lost > 0


def test_a_server_that_confuses_answers_is_caught(monkeypatch):
    monkeypatch.setattr(calls._Service, "echo", lambda self, form: sealed(0, SHORTEST))
    assert calls.calls(Random(20240)).torn > 0


FIRST_PRODUCER = list(range(5))
SECOND_PRODUCER = [(1 << crowds.PRODUCER_SHIFT) + number for number in range(3)]


def test_the_notes_of_all_consumers_together_are_what_was_put():
    notes = [FIRST_PRODUCER[::2] + SECOND_PRODUCER[:1], SECOND_PRODUCER[1:] + FIRST_PRODUCER[1::2]]
    assert crowd_settled([(5, 5), (3, 3)], notes) == {}
    assert crowd_settled([(4, 8), (3, 3)], notes) == {}, "a producer may have died before it counted"
    assert crowd_settled([(6, 6), (3, 3)], notes, taken_along=1) == {}, "a consumer may have died before it noted"


@pytest.mark.parametrize(
    ("notes", "fault"),
    [
        ([FIRST_PRODUCER[:4]], {"lost": 1}),
        ([FIRST_PRODUCER, FIRST_PRODUCER[:2]], {"duplicated": 2}),
        ([[0, 1, 3, 2, 4]], {"out_of_order": 1}),
        ([[*FIRST_PRODUCER, crowds.TORN]], {"torn": 1}),
        ([[*FIRST_PRODUCER, 5]], {"torn": 1}),
    ],
)
def test_each_fault_of_a_crowd_is_seen_for_what_it_is(notes, fault):
    assert crowd_settled([(5, 5)], notes) == fault


def crowd_settled(puts, notes, taken_along=0):
    tally = Tally()
    crowds.settle(puts, [np.array(one) for one in notes], taken_along, tally, "here")
    return {kind: getattr(tally, kind) for kind in FAULTS if getattr(tally, kind)}


# --- the command


def test_the_command_runs_the_rounds_asked_for_and_counts_them(tmp_path, capsys):
    file = tmp_path / "torture.json"
    assert cli.main(["torture", "--only", "pairs", "--rounds", "2", "--seed", "5", "--json", str(file)]) == 0
    counts = json.loads(file.read_text())
    assert counts["kills"] == 20
    assert counts["seed"] == 5
    assert list(counts)[2:] == list(Tally().counts())
    assert "out of order" in capsys.readouterr().out


def test_a_fault_ends_with_the_command_that_shows_it_again(monkeypatch, capsys):
    suffering = Tally()
    suffering.fault("lost", "of 3 messages, somewhere", 2)
    monkeypatch.setattr(run, "_finished", lambda turns, deadline: ((seed, name, suffering) for seed, name in turns))
    assert cli.main(["torture", "--only", "kills", "--rounds", "1", "--seed", "9"]) == 1
    said = capsys.readouterr().err
    assert "lost: 2 of 3 messages, somewhere" in said
    assert "zcipc torture --only kills --seed 9 --rounds 1" in said


def test_ctrl_c_pressed_again_and_again_ends_the_command_once_and_in_order(tmp_path):
    progress = tmp_path / "progress"
    command = [sys.executable, "-m", "zcipc", "torture", "--only", "pairs", "--seconds", "60"]
    torture = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {VARIABLE: str(progress)}
    )
    assert eventually(progress.exists), "the first round does not end"
    while torture.poll() is None:
        torture.send_signal(signal.SIGINT)
        time.sleep(0.01)
    said, complained = torture.communicate(timeout=PATIENCE)
    assert (torture.returncode, complained) == (130, "")
    assert "out of order" in said


def test_an_unknown_round_is_refused_with_those_there_are(capsys):
    assert cli.main(["torture", "--only", "nonsense"]) == 2
    assert "sweep, kills" in capsys.readouterr().err
