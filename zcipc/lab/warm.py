"""Imported once by the server that launches are forked from: compiles every loop, or loads it, before anything is measured."""

from collections.abc import Callable

import numpy as np
from numba import int64, typeof
from numba.core.types import Type

from zcipc.lab import bench
from zcipc.lab.bench.further_limits import SleepingLimit, WalkingLimit
from zcipc.lab.measurements import design_tasks, loops, tasks
from zcipc.lab.peers import exchange
from zcipc.lab.transports import COMPILED, INTERPRETED, TRANSPORTS, Transport
from zcipc.lab.variants import TYPED_VARIANTS, VARIANTS, EntryPoint

_LENGTH = 64  # bytes; any will do


def warm() -> None:
    """Compile the loops for the ends of all transports, and what their interpreted ends call."""
    for name in INTERPRETED:
        transport = TRANSPORTS[name](_LENGTH)
        transport.interpreted_end(0)
        transport.close()
    times = typeof(np.zeros(1, np.int64))
    for end in {_end_type(TRANSPORTS[name]) for name in COMPILED}:
        loops.ping.compile((end, int64, int64, times))
        loops.ping_each.compile((end, int64, times))
        loops.pong.compile((end, int64, int64, int64))
        loops.inject.compile((end, int64, int64))
        loops.absorb.compile((end, int64, int64))
        loops.pace.compile((end, int64, int64, int64))
        loops.observe.compile((end, int64, times))


def warm_variants() -> None:
    """The same for the design choices, which run fewer loops."""
    times = typeof(np.zeros(1, np.int64))
    for end in [_end_type(VARIANTS[name]) for name in TYPED_VARIANTS]:
        loops.ping.compile((end, int64, int64, times))
        loops.pong.compile((end, int64, int64, int64))
        loops.inject.compile((end, int64, int64))
        loops.absorb.compile((end, int64, int64))
    calls = EntryPoint(_LENGTH)
    calls.interpreted_end(0)
    calls.claim(0)
    calls.close()


def warm_bench() -> None:
    """The same for what only the bench compares with."""
    times = typeof(np.zeros(1, np.int64))
    for end in [_end_type(WalkingLimit), _end_type(SleepingLimit)]:
        loops.ping.compile((end, int64, int64, times))
        loops.ping_each.compile((end, int64, times))
        loops.pong.compile((end, int64, int64, int64))


def _end_type(make: Callable[[int], Transport]) -> Type:
    transport = make(_LENGTH)
    try:
        end: Type = typeof(transport.compiled_end(0))
    finally:
        transport.close()
    return end


__all__ = ["bench", "design_tasks", "exchange", "tasks", "warm"]  # imported for whoever is forked from here

warm()
warm_variants()
warm_bench()
