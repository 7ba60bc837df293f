"""One sender, many readers: readers are killed and the sender goes on; then the sender is killed and the readers are told.

Everybody is a process of its own, and writes what it did to memory that outlives it. How much a reader may miss depends on what
is done with slow ones: nothing ("block"); as much as it says itself ("drop"); or, once it is disconnected, all that follows.
"""

import mmap
import time
from contextlib import ExitStack
from functools import partial
from random import Random
from typing import Any

import numpy as np

from zcipc import Broadcast, Closed, PeerDied, Waiting
from zcipc.broadcast import Policy, Reader
from zcipc.lab.torture.messages import Ledger, content, in_some_form, stream
from zcipc.lab.torture.processes import NOTICE_S, PATIENCE_S, Victim, count_outcome, eventually, goes_on, nothing_left
from zcipc.lab.torture.tally import FAULTS, Tally
from zcipc.native.atomics import WORD

_READERS = 4
_KILLED = 2  # of them
_SENDERS = 3  # a round, for each policy
_LONGEST_LIFE_S = 0.01
_LONGEST_NAP_S = 0.001
_POLICIES: tuple[Policy, ...] = ("block", "drop", "disconnect")
_RECEIVED, _END, _MISSED, *_FAULTS, _WORDS = range(4 + len(FAULTS))
_DIED, _DISCONNECTED = 1, 2  # how a reader ended


def broadcasts(random: Random) -> Tally:
    """One round: senders and readers that die, with each policy."""
    tally = Tally()
    for policy in _POLICIES * _SENDERS:
        seed, capacity = random.getrandbits(32), 1 << random.randint(12, 16)
        waiting = random.choice((Waiting.HYBRID, Waiting.BLOCK))
        step = f"broadcast {seed} of {capacity} bytes, slow={policy!r}, waiting {waiting.name}"
        with nothing_left(tally, step):
            _torment(Broadcast(_READERS, capacity=capacity, slow=policy, waiting=waiting), policy, seed, tally, step)
    return tally


def _torment(broadcast: Broadcast, policy: Policy, seed: int, tally: Tally, step: str) -> None:
    random = Random(seed)
    words = np.frombuffer(mmap.mmap(-1, WORD * (1 + _READERS * _WORDS)), np.int64)
    sent, notes = words[:1], words[1:].reshape(_READERS, _WORDS)
    with ExitStack() as stack:
        readers = [
            stack.enter_context(Victim(partial(_read, reader, notes[index], sent, Random(seed + index))))
            for index, reader in enumerate(broadcast.readers)
        ]
        sender = stack.enter_context(Victim(partial(_send, broadcast, sent, Random(seed))))
        eventually(lambda: sent[0] > 0 and all(seat.process for seat in broadcast.statistics().readers))  # as in kills.py
        victims = random.sample(range(_READERS), _KILLED)
        for victim in victims:
            time.sleep(random.uniform(0, _LONGEST_LIFE_S))
            readers[victim].kill()
            if not goes_on(lambda: int(sent[0])):
                tally.fault("hangs", f"the sender did nothing for {NOTICE_S} s after the death of reader {victim}, {step}")
        time.sleep(random.uniform(0, _LONGEST_LIFE_S))
        sender.kill()
        tally.kills += 1 + _KILLED
        survivors = [index for index in range(_READERS) if index not in victims]
        if not eventually(lambda: all(notes[index, _END] for index in survivors), NOTICE_S):
            tally.fault("hangs", f"not told of the death of the sender, {step}")
        deadline = time.monotonic() + PATIENCE_S
        for index in survivors:
            status = readers[index].outcome(lambda: time.monotonic() > deadline)
            count_outcome(status, tally, f"reader {index}, {step}")
            _settle(notes[index], policy, tally, f"reader {index}, {step}")


def _send(broadcast: Broadcast, sent: "np.ndarray[Any, Any]", random: Random) -> None:
    for message in stream(random, broadcast._capacity // 8):
        broadcast.send(in_some_form(message, random), timeout=PATIENCE_S)
        sent[0] += 1


def _read(reader: Reader, notes: "np.ndarray[Any, Any]", sent: "np.ndarray[Any, Any]", random: Random) -> None:
    """A reader, now and then a slow one, until it is told that there will be no more."""
    ledger, tally = Ledger(), Tally()
    try:
        while True:
            ledger.note(content(reader.recv(timeout=PATIENCE_S)))
            if random.random() < 0.02:
                time.sleep(random.uniform(0, _LONGEST_NAP_S))
    except PeerDied:
        ledger.settle(int(sent[0]), tally, "")
        end = _DIED
    except Closed:
        ledger.settle(0, tally, "")
        end = _DISCONNECTED
    notes[_MISSED] = reader.missed
    notes[_RECEIVED] = ledger.received
    notes[_FAULTS] = [getattr(tally, kind) for kind in FAULTS]
    notes[_END] = end


def _settle(notes: "np.ndarray[Any, Any]", policy: Policy, tally: Tally, step: str) -> None:
    """Count what is wrong with a reader's notes."""
    tally.messages += int(notes[_RECEIVED])
    counts = dict(zip(FAULTS, map(int, notes[_FAULTS]), strict=True))
    if policy == "drop":
        counts["lost"] = abs(counts["lost"] - int(notes[_MISSED]))
    for kind, count in counts.items():
        tally.fault(kind, step, count)
    tally.fault("crashes", f"disconnected, {step}", int(notes[_END] == _DISCONNECTED and policy != "disconnect"))
