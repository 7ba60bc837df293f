"""Stopped and continued: a victim that does nothing for a while, at any instant, is late and not dead."""

import signal
import time
from random import Random

from zcipc import Connection, PeerDied, TimedOut
from zcipc.lab.torture.kills import torment
from zcipc.lab.torture.messages import Ledger
from zcipc.lab.torture.processes import Victim
from zcipc.lab.torture.tally import Tally

_VICTIMS = 5  # a round
_STOPS = 4  # each
_LONGEST_S = 0.12  # longer than two looks at the peer


def stops(random: Random) -> Tally:
    """One round: victims that are stopped several times, and lose nothing by it, before they are killed."""
    tally = Tally()
    for _ in range(_VICTIMS):

        def stop_and_continue(victim: Victim, end: Connection, ledger: Ledger) -> None:
            for _ in range(_STOPS):
                victim.send(signal.SIGSTOP)
                _receive_for(random.uniform(0, _LONGEST_S), end, ledger, tally)
                victim.send(signal.SIGCONT)
                tally.stops += 1
                _receive_for(random.uniform(0, 0.002), end, ledger, tally)

        torment(random, tally, stop_and_continue)
    return tally


def _receive_for(seconds: float, end: Connection, ledger: Ledger, tally: Tally) -> None:
    deadline = time.monotonic() + seconds
    try:
        while (left := deadline - time.monotonic()) > 0:
            ledger.note(end.recv_bytes(timeout=left))
    except TimedOut:
        return
    except PeerDied:
        tally.fault("crashes", "taken for dead while it was only stopped")
