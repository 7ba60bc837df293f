"""Objects, and messages larger than the queue: a victim that sends both, in every form, until it is killed.

Both ends send without looking whether the other one does, and so may wait for each other inside messages larger than the queue.
Whose time is out gives its message up, and sends it again later: the other one must see it once, and whole.
"""

import time
from contextlib import suppress
from random import Random
from typing import Any

import numpy as np

from zcipc import Connection, TimedOut
from zcipc.lab.torture.kills import COMMITTED, KILLS, RECEIVED, SPOILT, Traffic, torment
from zcipc.lab.torture.messages import Ledger, content, in_some_form, number_of, stream
from zcipc.lab.torture.tally import Tally

_SHORT_WAIT_S = 0.002
_LARGER = 3  # times the capacity


def objects(random: Random) -> Tally:
    """One round: victims at one end of a connection, that send and receive objects until they die."""
    tally = Tally()
    for _ in range(KILLS):
        torment(random, tally, traffic=Traffic(_live, _keep_busy, _receive))
    return tally


def _live(end: Connection, random: Random, progress: "np.ndarray[Any, Any]") -> None:
    """The victim."""
    for message in stream(random, _LARGER * end.capacity):
        sent = False
        while not sent:
            sent = _send(end, message, random)
            progress[COMMITTED] += sent
            with suppress(TimedOut):
                while random.random() < 0.7:
                    received = _receive(end, 0.0)
                    progress[RECEIVED] += 1
                    progress[SPOILT] += number_of(received) is None


def _keep_busy(end: Connection, ledger: Ledger, random: Random, seconds: float) -> None:
    """The survivor: receives, and sends what passes in time, until it is time to kill."""
    deadline = time.monotonic() + seconds
    for message in stream(random, _LARGER * end.capacity):
        with suppress(TimedOut):
            while time.monotonic() < deadline:
                ledger.note(_receive(end, 0.0))
        _send(end, message, random)
        if time.monotonic() >= deadline:
            return


def _send(end: Connection, message: bytes, random: Random) -> bool:
    """Whether a message passed before it was given up."""
    try:
        end.send(in_some_form(message, random), timeout=_SHORT_WAIT_S)
    except TimedOut:
        return False
    return True


def _receive(end: Connection, timeout: float) -> bytes:
    return content(end.recv(timeout=timeout))
