"""Objects there and back: a dict of small fields and an array, and a small tuple; beside the pickles of `multiprocessing`.

`Pipe` is used as it comes, and with protocol 5, which its users can have by pickling themselves.
"""

import multiprocessing
import pickle
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from zcipc.lab.bench.scenario import Effort, Measured, Scenario, Series, own
from zcipc.lab.bench.there_and_back import LARGE, asked, connection_echo, echo_for_ever, measured

_context = multiprocessing.get_context("fork")  # what is made here is inherited by the partner

OBJECTS: dict[str, Any] = {
    "dict_and_array": {"camera": "left", "frame": 17, "exposure_s": 0.004, "pixels": np.arange(LARGE // 8)},
    "tuple": (17, 0.004, "left", None),
}


class _Protocol5:
    """A connection of which the user pickles."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def send(self, message: Any) -> None:
        self._connection.send_bytes(pickle.dumps(message, protocol=5))

    def recv(self) -> Any:
        return pickle.loads(self._connection.recv_bytes())


class _Queues:
    """The end of a queue each way."""

    def __init__(self, outgoing: Any, incoming: Any) -> None:
        self.send, self.recv = outgoing.put, incoming.get


def _ends(system: str) -> tuple[Any, Any]:
    if system == "mp_queue":
        there, back = _context.Queue(), _context.Queue()
        return _Queues(there, back), _Queues(back, there)
    ours, theirs = _context.Pipe()
    return (_Protocol5(ours), _Protocol5(theirs)) if system == "mp_pipe_protocol_5" else (ours, theirs)


def _round_trip(system: str, mode: str, samples: int, blocks: int) -> list[Measured]:
    message = OBJECTS[mode]
    size = LARGE if mode == "dict_and_array" else len(pickle.dumps(message))
    if system == "zcipc":
        return connection_echo(size, message, samples, blocks)
    ours, theirs = _ends(system)
    return measured(size, partial(echo_for_ever, theirs), lambda: partial(asked, ours), message, samples, blocks)


def _series(effort: Effort, _peers: bool) -> Sequence[Series]:
    return [
        own(system, "python", mode, _round_trip, system, mode, effort.samples, effort.blocks)
        for mode in OBJECTS
        for system in ("zcipc", "mp_pipe", "mp_pipe_protocol_5", "mp_queue")
    ]


SCENARIO = Scenario("objects", "send and recv of objects, there and back", _series)
