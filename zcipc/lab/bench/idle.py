"""A receiver that waits for a message that does not come: what it takes of a core."""

import threading
import time
from collections.abc import Sequence

import zcipc
from zcipc.lab.bench.scenario import Effort, Measured, Scenario, Series, WrongMessage, own
from zcipc.lab.harness.launch import Partner

_SETTLE_S = 0.2  # the spin before the first sleep, and the start of the process, are over


def _cpu_share(waiting: str, seconds: float) -> list[Measured]:
    """CPU time of a process whose only work is a `recv_bytes`, over `seconds`; its partner then sends the message."""
    ours, theirs = zcipc.Pipe(waiting=zcipc.Waiting[waiting])

    def send_at_last() -> None:
        theirs.poll()  # takes the seat: a receiver whose peer is not there yet waits differently
        time.sleep(_SETTLE_S + seconds)
        theirs.send_bytes(b"at last")

    partner = Partner(send_at_last)
    receiver = threading.Thread(target=lambda: received.append(ours.recv_bytes()))
    received: list[bytes] = []
    receiver.start()
    time.sleep(_SETTLE_S)
    began, used = time.monotonic(), time.process_time()
    receiver.join()
    share = (time.process_time() - used) / (time.monotonic() - began)
    partner.join()
    if received != [b"at last"]:
        raise WrongMessage(f"a receiver that waited in {waiting} got {received}")
    return [Measured(0, "cpu_share", "%", 100 * share)]


def _series(effort: Effort, _peers: bool) -> Sequence[Series]:
    return [own("zcipc", "python", waiting.lower(), _cpu_share, waiting, effort.idle_s) for waiting in ("HYBRID", "BLOCK")]


SCENARIO = Scenario("idle", "a receiver that waits for nothing", _series, together=True)
