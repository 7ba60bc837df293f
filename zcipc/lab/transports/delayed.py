"""A known delay, to test the instruments with: the limit, or a connection, on which each message waits before it goes.

It stands here and not with its test, because the loops compiled for it are cached, and a cache remembers where its types are.
"""

import time
from typing import Any, NamedTuple

from zcipc.lab.transports import base
from zcipc.lab.transports.limit import Limit, LimitEnd
from zcipc.lab.transports.ring import Copying
from zcipc.native.atomics import clock, load

DELAY_NS = 20_000


class DelayedEnd(NamedTuple):
    """Those of `LimitEnd`, under a type of its own."""

    source: int
    sink: int
    counts: int


@base.implement(base.send, DelayedEnd)
def _delay_and_send(end, length):
    until = clock() + DELAY_NS
    while clock() < until:
        load(end.counts)
    base.send(LimitEnd(end.source, end.sink, end.counts), length)


@base.implement(base.room, DelayedEnd)
def _same_room(end, length):
    return base.room(LimitEnd(end.source, end.sink, end.counts), length)


@base.implement(base.receive, DelayedEnd)
def _same_receive(end, length):
    return base.receive(LimitEnd(end.source, end.sink, end.counts), length)


@base.implement(base.release, DelayedEnd)
def _same_release(end, length):
    base.release(LimitEnd(end.source, end.sink, end.counts), length)


class DelayedLine(Limit):
    """A cache line that carries each message only after `DELAY_NS`."""

    def compiled_end(self, index: int) -> Any:
        return DelayedEnd(*super().compiled_end(index))


class DelayedCallEnd(base.InterpretedEnd):
    """An end that sends only after `DELAY_NS`."""

    def __init__(self, end: base.InterpretedEnd) -> None:
        self._end = end

    def send(self, stamp: int) -> None:
        until = time.monotonic_ns() + DELAY_NS
        while time.monotonic_ns() < until:
            pass
        self._end.send(stamp)

    def receive(self, stamp: int) -> bool:
        return self._end.receive(stamp)

    def receive_stamp(self) -> int:
        return self._end.receive_stamp()


class DelayedCall(Copying):
    """The same for calls from Python: through zcipc, which awaits a message without sleeping for longer than the delay."""

    def interpreted_end(self, index: int) -> base.InterpretedEnd:
        return DelayedCallEnd(super().interpreted_end(index))
