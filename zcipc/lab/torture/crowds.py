"""Many at one queue: producers and consumers that are stopped and killed at random instants, and replaced, under load.

A consumer writes what it got to memory that outlives it, right after each call. So an item that was put and stands in nobody's
notes at the end is lost, unless a consumer was killed in a call that may have got it.
"""

import mmap
import signal
import time
from collections.abc import Callable, Sequence
from functools import partial
from queue import Empty, Full
from random import Random
from typing import Any

import numpy as np

from zcipc import Queue, Waiting
from zcipc.lab.torture.messages import SHORTEST, content, in_some_form, number_of, sealed
from zcipc.lab.torture.processes import NOTICE_S, PATIENCE_S, Victim, count_outcome, goes_on, nothing_left
from zcipc.lab.torture.tally import Tally
from zcipc.native.atomics import WORD

_KILLS = 12  # a round
_EACH = 3  # producers, and consumers, at a time
_LONGEST_LIFE_S = 0.01
_LONGEST_STOP_S = 0.02
_MOST_AT_ONCE = 4  # items of one call
_LONGEST = 40_000  # bytes: some items are so large that they are copied without the interpreter lock
_MOST_NOTED = 1 << 18  # items of one consumer
PRODUCER_SHIFT = 32  # above an item's number stands its producer's
_STOP, TORN = -1, -2  # noted in place of a number
_COUNT, _ASKED, _NOTES = range(3)


def crowds(random: Random) -> Tally:
    """One round: members of a queue die one after the other, the others go on, and all that was put is accounted for."""
    tally = Tally()
    seed, waiting = random.getrandbits(32), random.choice((Waiting.HYBRID, Waiting.BLOCK))
    capacity, maxsize = 1 << random.randint(12, 17), random.choice((0, 0, 20))
    step = f"crowd {seed} at {capacity} bytes, at most {maxsize} items, waiting {waiting.name}"
    with nothing_left(tally, step):
        _torment(Queue(maxsize, capacity=capacity, waiting=waiting), seed, tally, step)
    return tally


def _torment(items: Queue, seed: int, tally: Tally, step: str) -> None:
    random = Random(seed)
    with _Crowd(items, random) as crowd:
        for _ in range(_KILLS):
            crowd.bereave(random, tally, step)
        crowd.end(tally, step)
        settle(*crowd.accounts(), tally, step)


def settle(
    puts: Sequence[tuple[int, int]], notes: "Sequence[np.ndarray[Any, Any]]", taken_along: int, tally: Tally, step: str
) -> None:
    """Nothing more will come: count what is wrong.

    Args:
        puts: for each producer, how many items it put for certain, and how many it may have put.
        notes: for each consumer, the numbers that it noted; a number is its producer's, shifted, and the item's.
        taken_along: items that killed consumers may have got and not noted.
    """
    numbers = np.concatenate(notes)
    tally.fault("torn", step, int(np.count_nonzero(numbers == TORN)))
    found, times = np.unique(numbers[numbers >= 0], return_counts=True)
    tally.messages += len(found)
    tally.fault("duplicated", step, int(np.sum(times - 1)))
    for one in notes:
        whole = one[one >= 0]
        by_producer = whole[np.argsort(whole >> PRODUCER_SHIFT, kind="stable")]
        tally.fault("out_of_order", step, int(np.count_nonzero(np.diff(by_producer) < 0)))
    missing = 0
    for index, (certain, most) in enumerate(puts):
        own = found[found >> PRODUCER_SHIFT == index] - (index << PRODUCER_SHIFT)
        missing += certain - int(np.count_nonzero(own < certain))
        tally.fault("torn", f"never put, {step}", int(np.count_nonzero(own >= most)))
    lost = max(missing - taken_along, 0)
    tally.fault("lost", f"beside {taken_along} that may be gone with their consumers, {step}", lost)


class _Member:
    """A producer or a consumer: its process, and words that outlive it: how many items, how many it asked for, its notes."""

    def __init__(self, work: Callable[["_Member"], None]) -> None:
        self.words = np.frombuffer(mmap.mmap(-1, WORD * (_NOTES + _MOST_NOTED)), np.int64)
        self.killed = False
        self.process = Victim(lambda: work(self))

    def notes(self) -> "np.ndarray[Any, Any]":
        return self.words[_NOTES : _NOTES + self.words[_COUNT]]


class _Crowd:
    """A queue and its members, the dead included."""

    def __init__(self, items: Queue, random: Random) -> None:
        self._items, self._random = items, random
        self._longest = min(_LONGEST, items._capacity // (4 * _MOST_AT_ONCE))
        self._over = np.frombuffer(mmap.mmap(-1, WORD), np.int64)  # not zero: producers end
        self._producers: list[_Member] = []
        self._consumers: list[_Member] = []
        for _ in range(_EACH):
            self._join(self._producers)
            self._join(self._consumers)

    def _join(self, side: list[_Member]) -> None:
        random, index = Random(self._random.getrandbits(32)), len(side)
        if side is self._producers:
            side.append(_Member(lambda member: self._produce(member.words, index, random)))
        else:
            side.append(_Member(lambda member: self._consume(member.words, random)))

    def _produce(self, words: "np.ndarray[Any, Any]", index: int, random: Random) -> None:
        """A producer: put one item or several, in every form, until it is over."""
        while not self._over[0]:
            lengths = [random.randint(SHORTEST, random.choice((64, 64, 512, self._longest)))]
            lengths *= random.choice((1, 1, _MOST_AT_ONCE))
            first = (index << PRODUCER_SHIFT) + int(words[_COUNT])
            forms = [
                in_some_form(sealed(first + one, min(length, self._longest)), random) for one, length in enumerate(lengths)
            ]
            if len(forms) == 1:
                self._items.put(forms[0])
            else:
                self._items.put_many(forms, timeout=PATIENCE_S)
            words[_COUNT] += len(forms)

    def _consume(self, words: "np.ndarray[Any, Any]", random: Random) -> None:
        """A consumer: get one item or several, and note their numbers, until one says that it is over."""
        while True:
            words[_ASKED] = random.choice((1, _MOST_AT_ONCE))
            if words[_ASKED] == 1:
                got = [self._items.get()]
            else:
                got = self._items.get_many(timeout=PATIENCE_S, max_messages_to_get=_MOST_AT_ONCE)
            numbers = [_STOP if item is None else _number(item) for item in got]
            count = words[_COUNT]
            words[_NOTES + count : _NOTES + count + len(got)] = numbers
            words[_COUNT] += len(got)
            words[_ASKED] = 0
            if _STOP in numbers:
                for _ in range(numbers.count(_STOP) - 1):
                    self._items.put(None, timeout=PATIENCE_S)  # that was for another one
                return

    def bereave(self, random: Random, tally: Tally, step: str) -> None:
        """Kill a member, some of them stopped and continued before; see that both sides go on; replace it."""
        side = random.choice((self._producers, self._consumers))
        victim = random.choice(_alive(side))
        time.sleep(random.uniform(0, _LONGEST_LIFE_S))
        if random.random() < 0.3:
            victim.process.send(signal.SIGSTOP)
            time.sleep(random.uniform(0, _LONGEST_STOP_S))
            victim.process.send(signal.SIGCONT)
            tally.stops += 1
        victim.process.kill()
        victim.killed = True
        tally.kills += 1
        for name, others in (("producers", _alive(self._producers)), ("consumers", _alive(self._consumers))):
            if not goes_on(partial(_done, others)):
                tally.fault("hangs", f"{name} did nothing for {NOTICE_S} s after {tally.kills} kills, {step}")
        self._join(side)

    def end(self, tally: Tally, step: str) -> None:
        """Let producers, then consumers, end by themselves."""
        self._over[0] = 1
        deadline = time.monotonic() + PATIENCE_S
        for producer in _alive(self._producers):
            count_outcome(producer.process.outcome(lambda: time.monotonic() > deadline), tally, f"a producer, {step}")
        try:
            for _ in _alive(self._consumers):
                self._items.put(None, timeout=PATIENCE_S)
        except Full:
            tally.fault("hangs", f"no consumer makes room, {step}")
        for consumer in _alive(self._consumers):
            count_outcome(consumer.process.outcome(lambda: time.monotonic() > deadline), tally, f"a consumer, {step}")
        try:
            left = self._items.get_nowait()
        except Empty:
            return
        tally.fault("lost", f"{left!r} and what follows nobody got, {step}")

    def accounts(self) -> "tuple[list[tuple[int, int]], list[np.ndarray[Any, Any]], int]":
        """What `settle` wants to know."""
        puts = []
        for producer in self._producers:
            certain = int(producer.words[_COUNT])
            puts.append((certain, certain + producer.killed * _MOST_AT_ONCE))  # killed before it could count
        notes = [consumer.notes() for consumer in self._consumers]
        return puts, notes, sum(int(consumer.words[_ASKED]) for consumer in self._consumers if consumer.killed)

    def __enter__(self) -> "_Crowd":
        return self

    def __exit__(self, *_: object) -> None:
        for member in (*self._producers, *self._consumers):
            member.process.kill()


def _alive(side: list[_Member]) -> list[_Member]:
    return [member for member in side if not member.killed]


def _done(members: list[_Member]) -> int:
    return sum(int(member.words[_COUNT]) for member in members)


def _number(item: Any) -> int:
    number = number_of(content(item))
    return TORN if number is None else number
