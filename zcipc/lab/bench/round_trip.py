"""A message there and back between two cores, both spinning: zcipc against the limit and against the kernel's pipe."""

from collections.abc import Sequence

from zcipc import Waiting
from zcipc.lab.bench.further_limits import WalkingLimit
from zcipc.lab.bench.scenario import LIMIT, PIPE, Effort, Measured, Scenario, Series, own
from zcipc.lab.measurements import tasks
from zcipc.lab.transports.base import Transport
from zcipc.lab.transports.limit import Limit
from zcipc.lab.transports.pipe import Pipe
from zcipc.lab.transports.ring import Copying, Loaning

SIZES = (8, 64, 8192)  # bytes


class Spinning(Copying):
    """zcipc, copying, never asleep."""

    waiting = Waiting.SPIN


class SpinningLoans(Loaning):
    """zcipc, loaned, never asleep."""

    waiting = Waiting.SPIN


def compiled_echo(transport: type[Transport], size: int, blocks: int, samples: int, one_core: bool = False) -> list[Measured]:
    """Round trips of messages that are written and read in full.

    `round_trip` is timed over many in a row, the percentiles one by one, with the cost of a clock in each.
    """
    result, _ = tasks.round_trips("compiled", transport(size), blocks, samples, one_core)
    return [
        Measured(size, "round_trip", "ns", result["round_trip_ns"]),
        Measured(size, "round_trip_p50", "ns", result["p50_ns"]),
        Measured(size, "round_trip_p99", "ns", result["p99_ns"]),
    ]


def _series(effort: Effort, _peers: bool) -> Sequence[Series]:
    systems: tuple[tuple[str, str, type[Transport]], ...] = (
        (LIMIT, "spin", Limit),
        ("walking_limit", "spin", WalkingLimit),
        ("zcipc", "spin", Spinning),
        ("zcipc_loan", "spin", SpinningLoans),
        (PIPE, "block", Pipe),
    )
    return [
        own(name, "compiled", mode, compiled_echo, transport, size, effort.blocks, effort.samples)
        for size in SIZES
        for name, mode, transport in systems
    ]


SCENARIO = Scenario("round_trip", "compiled echo, spinning, on two cores", _series)
