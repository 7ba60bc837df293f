"""Hostile memory under way: two processes talk, and a third one overwrites what both see, as fast as it can."""

import mmap
import time
from contextlib import suppress
from random import Random
from typing import Any

import numpy as np

from zcipc import Connection, Pipe, TimedOut, ZcipcError
from zcipc.lab.torture.corruption import CONTROL_END, guard, some_value
from zcipc.lab.torture.messages import stream
from zcipc.lab.torture.processes import PATIENCE_S, Victim, count_outcome, eventually
from zcipc.lab.torture.tally import Tally
from zcipc.native.atomics import WORD

_PAIRS = 10  # a round
_OVERWRITTEN = 40  # words a pair
_SHORT_WAIT_S = 0.005
_STOP, _TALKING, _WORDS = range(3)


def sabotage(random: Random) -> Tally:
    """One round: pairs of processes, each of which ends by itself, whatever it meets."""
    tally = Tally()
    for _ in range(_PAIRS):
        _disturb(random, tally)
    return tally


def _disturb(random: Random, tally: Tally) -> None:
    seed, flags = random.getrandbits(32), np.frombuffer(mmap.mmap(-1, WORD * _WORDS), np.int64)
    ends = Pipe(capacity=1 << 12)
    memory = np.frombuffer(ends[0]._segment.buffer, np.int64)
    with Victim(lambda: _talk(ends[0], flags, seed)) as first, Victim(lambda: _talk(ends[1], flags, seed + 1)) as second:
        eventually(lambda: bool(flags[_TALKING]))
        for _ in range(_OVERWRITTEN):
            words = CONTROL_END // WORD if random.random() < 0.5 else memory.size
            memory[random.randrange(words)] = some_value(random)
            time.sleep(random.choice((0, 0.0001)))
        tally.corruptions += _OVERWRITTEN
        flags[_STOP] = 1
        deadline = time.monotonic() + PATIENCE_S
        for victim in (first, second):
            status = victim.outcome(lambda: time.monotonic() > deadline)
            count_outcome(status, tally, f"sabotage {seed}")
    del memory
    for end in ends:
        end.close()


def _talk(end: Connection, flags: "np.ndarray[Any, Any]", seed: int) -> None:
    """Send and receive until told to stop, or until the package says that it makes no sense any more."""
    guard(end._segment.address, end._segment.size)
    with suppress(ZcipcError):
        for message in stream(Random(seed), end.capacity - 64):
            if flags[_STOP]:
                return
            with suppress(TimedOut):
                end.send_bytes(message, timeout=_SHORT_WAIT_S)
            with suppress(TimedOut):
                while not flags[_STOP]:
                    end.recv_bytes(timeout=_SHORT_WAIT_S)
                    flags[_TALKING] = 1
