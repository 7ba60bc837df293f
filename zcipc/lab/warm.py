"""Imported once by the server that launches are forked from: compiles every loop, or loads it, before anything is measured."""

import numpy as np
from numba import int64, typeof
from numba.core.types import Type

from zcipc.lab import loops, tasks
from zcipc.lab.peers import exchange
from zcipc.lab.transports import COMPILED, INTERPRETED, TRANSPORTS

_LENGTH = 64  # bytes; any will do


def warm() -> None:
    """Compile the loops for the ends of all transports, and what their interpreted ends call."""
    for name in INTERPRETED:
        transport = TRANSPORTS[name](_LENGTH)
        transport.interpreted_end(0)
        transport.close()
    times = typeof(np.zeros(1, np.int64))
    for end in {_end_type(name) for name in COMPILED}:
        loops.ping.compile((end, int64, int64, times))
        loops.ping_each.compile((end, int64, times))
        loops.pong.compile((end, int64, int64, int64))
        loops.inject.compile((end, int64, int64))
        loops.absorb.compile((end, int64, int64))
        loops.pace.compile((end, int64, int64, int64))
        loops.observe.compile((end, int64, times))


def _end_type(name: str) -> Type:
    transport = TRANSPORTS[name](_LENGTH)
    try:
        end: Type = typeof(transport.compiled_end(0))
    finally:
        transport.close()
    return end


__all__ = ["exchange", "tasks", "warm"]  # imported for whoever is forked from here

warm()
