"""The faults: what is done to a pair of processes, and what the other one gets to see."""

import multiprocessing
import random
import signal
import time
from collections.abc import Callable
from typing import NamedTuple

from zcipc.lab.faults.pair import (
    LAST,
    NOTHING,
    PATIENCE_S,
    RECEIVED,
    RECEIVER,
    SENDER,
    SENDS_ON,
    SENT,
    STOP,
    TORN,
    WAITS,
    WINDOW,
    Pair,
)
from zcipc.lab.peers import CopyingEnd
from zcipc.lab.torture.processes import Victim, eventually

SMALL, LARGE = 256, 1 << 20  # bytes; most of the time that a large one takes is copying it, in a lock if there is one
_WARM_MESSAGES = 20
_STOPPED_S = 0.5
_SETTLE_S = 0.3
_LAST_NUMBER = 1 << 40  # of the message after all others

_random = random.SystemRandom()  # a forked process must not draw the same instants again
_context = multiprocessing.get_context("fork")


class Outcome(NamedTuple):
    """What became of the survivor, in a few words, and of the messages."""

    seen: str
    lost: int = 0
    torn: int = 0


class Fault(NamedTuple):
    title: str
    length: int  # bytes of a message
    inflict: Callable[[Pair], Outcome]


def _streaming(pair: Pair, leave: bool = True) -> tuple[Victim, Victim]:
    sender, receiver = pair.start("sender", SENDER, pair.stream), pair.start("receiver", RECEIVER, pair.collect)
    if leave:
        pair.leave()
    eventually(lambda: bool(pair.words[RECEIVED] >= _WARM_MESSAGES))
    time.sleep(_random.uniform(0.02, 0.1))  # the instant of the fault: any
    return sender, receiver


def _outcome(pair: Pair, seen: str | None, otherwise: str) -> Outcome:
    return Outcome(otherwise if seen is None else seen, pair.lost, int(pair.words[TORN]))


def _kill_sender(pair: Pair) -> Outcome:
    sender, _ = _streaming(pair)
    sender.kill()
    return _outcome(pair, pair.heard("receiver"), WAITS)


def _kill_receiver(pair: Pair) -> Outcome:
    """What is lost is not asked: nobody is left to receive it."""
    _, receiver = _streaming(pair)
    receiver.kill()
    pair.words[WINDOW] = pair.overflow
    seen = pair.heard("sender")
    if seen is None:
        seen = SENDS_ON if pair.lost >= pair.overflow else WAITS
    return Outcome(seen)


def _stop_receiver(pair: Pair) -> Outcome:
    _, receiver = _streaming(pair)
    receiver.send(signal.SIGSTOP)
    pair.words[WINDOW] = pair.overflow
    time.sleep(_STOPPED_S)
    receiver.send(signal.SIGCONT)
    pair.words[WINDOW] = pair.most_under_way
    time.sleep(_SETTLE_S)
    pair.words[STOP] = 1
    seen = pair.heard("sender") or ""
    eventually(lambda: pair.lost == 0, PATIENCE_S)
    return _outcome(pair, pair.heard("receiver", 0) or seen or "goes on", "goes on")


def _replace_receiver(pair: Pair) -> Outcome:
    def send_one(end: CopyingEnd) -> None:
        eventually(lambda: bool(pair.words[STOP]))
        end.send(pair.message(0))

    pair.start("sender", SENDER, send_one)
    receiver = pair.start("receiver", RECEIVER, pair.receive)
    time.sleep(_SETTLE_S)  # it waits by now
    receiver.kill()
    pair.start("successor", RECEIVER, pair.receive)
    time.sleep(_SETTLE_S)
    pair.words[STOP] = 1
    seen = pair.heard("successor")
    return Outcome(NOTHING if seen is None else seen or "receives")


def _replace_sender(pair: Pair) -> Outcome:
    sender, _ = _streaming(pair, leave=False)
    sender.kill()
    pair.start("successor", SENDER, lambda end: end.send(pair.message(_LAST_NUMBER)))
    seen = pair.heard("successor")
    if not seen:  # it sent, or still tries to
        arrived = eventually(lambda: bool(pair.words[LAST] == _LAST_NUMBER), PATIENCE_S)
        seen = "gets through" if arrived else NOTHING
    return Outcome(seen, torn=int(pair.words[TORN]))


def _fork_sender(pair: Pair) -> Outcome:
    """The sender sends, forks, and sends again; its child sends in between, by the end that it inherited."""

    def send(end: CopyingEnd) -> None:
        def send_as_well() -> None:
            try:
                end.send(pair.message(1))
                pair.tell("child", "sends")
            except Exception as error:
                pair.tell("child", f"raises {type(error).__name__}")
            signal.pause()

        end.send(pair.message(0))
        _context.Process(target=send_as_well).start()
        time.sleep(_SETTLE_S)
        end.send(pair.message(2))

    pair.start("sender", SENDER, send)
    pair.start("receiver", RECEIVER, pair.collect)
    pair.leave()
    sent = 2 if pair.heard("sender") == "" else 1
    seen = pair.heard("child", 0) or WAITS
    pair.words[SENT] = sent + (seen == "sends")
    eventually(lambda: pair.lost == 0, PATIENCE_S)
    return _outcome(pair, seen, WAITS)


def _kill_both(pair: Pair) -> Outcome:
    """They stream; whoever runs this kills them and looks what is left."""
    _streaming(pair)
    return Outcome("")


FAULTS: dict[str, Fault] = {
    "sender_killed": Fault("sender killed in a stream", SMALL, _kill_sender),
    "sender_killed_inside": Fault("sender killed inside a message of 1 MiB", LARGE, _kill_sender),
    "receiver_killed": Fault("receiver killed in a stream", SMALL, _kill_receiver),
    "receiver_killed_inside": Fault("receiver killed inside a message of 1 MiB", LARGE, _kill_receiver),
    "receiver_stopped": Fault("receiver stopped for half a second", SMALL, _stop_receiver),
    "sender_replaced": Fault("sender killed inside a message of 1 MiB, another one takes over", LARGE, _replace_sender),
    "receiver_replaced": Fault("receiver killed while it waits, another one takes over", SMALL, _replace_receiver),
    "sender_forked": Fault("a forked child sends as well", SMALL, _fork_sender),
    "both_killed": Fault("both killed: what is left", SMALL, _kill_both),
}
