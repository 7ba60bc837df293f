"""The bars: what zcipc must reach, each as data with its rule, and what a run says of it.

A bar compares series of one run with one another. It is judged by its value; the 95 % interval beside it says how sure that is.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple, Protocol

import pandas as pd

from zcipc.lab.bench import bulk_stream, caged, calls, echo, queue_throughput
from zcipc.lab.bench.scenario import LIMIT, PIPE
from zcipc.lab.bench.there_and_back import LARGE
from zcipc.lab.harness import stats
from zcipc.lab.harness.stats import Estimate
from zcipc.lab.peers import PEERS

Verdict = Literal["pass", "short", "not measured"]


class Where(NamedTuple):
    """The samples of one series and metric; what is None may be anything."""

    scenario: str
    metric: str
    system: str = "zcipc"
    bytes: int | None = None
    mode: str | None = None

    def find(self, samples: pd.DataFrame) -> pd.DataFrame:
        found = pd.Series(True, index=samples.index)
        for column, value in self._asdict().items():
            if value is not None:
                found &= samples[column] == value
        return samples[found]


class Rule(Protocol):
    """Makes one number of a run."""

    def estimate(self, samples: pd.DataFrame) -> Estimate | None:
        """The number; None if the run does not hold what it takes."""
        ...


@dataclass(frozen=True)
class Value:
    """What was measured, divided by `unit`."""

    of: Where
    unit: float = 1.0

    def estimate(self, samples: pd.DataFrame) -> Estimate | None:
        found = self.of.find(samples)
        return None if found.empty else stats.median_ci(found["value"] / self.unit)


@dataclass(frozen=True)
class Ratio:
    """The median over launches of the ratio in each."""

    of: Where
    to: Where

    def estimate(self, samples: pd.DataFrame) -> Estimate | None:
        above, below = (where.find(samples).groupby("launch")["value"].median() for where in (self.of, self.to))
        return None if above.empty or below.empty else stats.paired_ratio_ci(above, below)


@dataclass(frozen=True)
class ToBest:
    """The ratio to whichever of several is best: the one with the highest rate, or with the lowest time."""

    of: Where
    to: tuple[Where, ...]
    best: Literal["highest", "lowest"]

    def estimate(self, samples: pd.DataFrame) -> Estimate | None:
        ratios = [ratio for where in self.to if (ratio := Ratio(self.of, where).estimate(samples))]
        choose = min if self.best == "highest" else max
        return choose(ratios, key=lambda ratio: ratio.value, default=None)


@dataclass(frozen=True)
class Slope:
    """The log-log slope over message sizes: 1 = proportional, 0 = independent."""

    of: Where

    def estimate(self, samples: pd.DataFrame) -> Estimate | None:
        found = self.of.find(samples)
        return None if found["bytes"].nunique() < 2 else stats.slope_ci(found, "bytes", "value")


@dataclass(frozen=True)
class Target:
    """What an estimate must be. `holds`: its interval must hold the bound; else its value is compared."""

    demand: Literal["at most", "at least", "holds"]
    bound: float
    unit: str = ""

    def met(self, estimate: Estimate) -> bool:
        if self.demand == "holds":
            return estimate.low <= self.bound <= estimate.high
        return estimate.value <= self.bound if self.demand == "at most" else estimate.value >= self.bound

    def __str__(self) -> str:
        return f"{self.demand} {self.bound:,g} {self.unit}".rstrip()


@dataclass(frozen=True)
class Bar:
    """One demand, one of those that share a number."""

    number: int
    what: str
    rule: Rule
    target: Target


@dataclass(frozen=True)
class Judged:
    """A bar and what a run says of it."""

    bar: Bar
    estimate: Estimate | None
    verdict: Verdict

    def record(self) -> dict[str, Any]:
        """For JSON."""
        value = asdict(self.estimate) if self.estimate else dict.fromkeys(("value", "low", "high", "launches"))
        target = {"target": str(self.bar.target), "bound": self.bar.target.bound, "unit": self.bar.target.unit}
        return {"bar": self.bar.number, "what": self.bar.what} | target | value | {"verdict": self.verdict}


def judge(bars: Sequence[Bar], samples: pd.DataFrame) -> list[Judged]:
    """Each of `bars` by the samples of one run."""
    judged = []
    for bar in bars:
        estimate = bar.rule.estimate(samples)
        verdict: Verdict = "not measured" if estimate is None else "pass" if bar.target.met(estimate) else "short"
        judged.append(Judged(bar, estimate, verdict))
    return judged


def _at_most(bound: float, unit: str = "times") -> Target:
    return Target("at most", bound, unit)


def _at_least(bound: float, unit: str = "times") -> Target:
    return Target("at least", bound, unit)


def _round_trip(system: str, size: int) -> Where:
    return Where("round_trip", "round_trip", system, size)


def _stream(system: str) -> Where:
    return Where("small_stream", "messages_per_s", system)


def _bulk(system: str, size: int) -> Where:
    return Where("bulk_stream", "bytes_per_s", system, size)


def _echo(scenario: str, system: str, size: int) -> Where:
    return Where(scenario, "round_trip", system, size)


def _start_up(metric: str, system: str = "zcipc") -> Where:
    return Where("start_up", metric, system)


def _one_of_many(mode: str) -> Where:
    return Where("many_connections", "round_trip", mode=mode)


def _queue(system: str) -> Where:
    return Where("queue", "messages_per_s", system, mode=queue_throughput.ONE)


def _rpc(system: str, size: int, mode: str) -> Where:
    return Where("rpc", "round_trip", system, size, mode)


_TEXTBOOK = (_stream("two_index"), _stream("two_index_patient"))
_PEERS = tuple(_echo("bytes_echo", name, echo.SMALL) for name in PEERS if name != "zcipc")

BARS = (
    Bar(1, "compiled round trip, 8 B, against the limit",
        Ratio(_round_trip("zcipc_loan", 8), _round_trip(LIMIT, 8)), _at_most(1.25)),
    Bar(1, "compiled round trip, 64 B, against the limit",
        Ratio(_round_trip("zcipc_loan", 64), _round_trip(LIMIT, 64)), _at_most(1.6)),
    Bar(2, "compiled round trip, 64 B, faster than a pipe",
        Ratio(_round_trip(PIPE, 64), _round_trip("zcipc_loan", 64)), _at_least(60)),
    Bar(2, "compiled round trip, 8 KiB, faster than a pipe",
        Ratio(_round_trip(PIPE, 8192), _round_trip("zcipc_loan", 8192)), _at_least(20)),
    Bar(3, "compiled stream, 8 B, one push a message, against a textbook queue",
        ToBest(_stream("zcipc"), _TEXTBOOK, "highest"), _at_least(1.0)),
    Bar(3, "compiled stream, 8 B, in batches, against a textbook queue",
        ToBest(_stream("zcipc_batches"), _TEXTBOOK, "highest"), _at_least(5)),
    *(
        Bar(4, f"compiled stream, {size >> 10:,} KiB written and read, against no queue",
            Ratio(_bulk("zcipc_loan", size), _bulk(LIMIT, size)), _at_least(0.9))
        for size in bulk_stream.SIZES
    ),
    Bar(5, "send_bytes and recv_bytes, 64 B, against the fastest peer here",
        ToBest(_echo("bytes_echo", "zcipc", echo.SMALL), _PEERS, "lowest"), _at_most(0.8)),
    Bar(5, "send_bytes and recv_bytes, 64 B, against iceoryx2",
        Ratio(_echo("bytes_echo", "zcipc", echo.SMALL), _echo("bytes_echo", "iceoryx2", echo.SMALL)), _at_most(0.1)),
    Bar(5, "send_bytes and recv_bytes, 64 B, against os.pipe",
        Ratio(_echo("bytes_echo", "zcipc", echo.SMALL), _echo("bytes_echo", PIPE, echo.SMALL)), _at_most(0.05)),
    Bar(6, "loan and borrow, 1 MiB, against its own 64 B",
        Ratio(_echo("loan_echo", "zcipc", echo.LARGE), _echo("loan_echo", "zcipc", echo.SMALL)), _at_most(1.5)),
    Bar(6, "loan and borrow, 1 MiB, against iceoryx2",
        Ratio(_echo("loan_echo", "zcipc", echo.LARGE), _echo("loan_echo", "iceoryx2", echo.LARGE)), _at_most(0.3)),
    Bar(7, "hand-over of a loaned message, log-log slope over the sizes measured",
        Slope(Where("hand_over", "round_trip", "zcipc_loan")), Target("holds", 0.0)),
    Bar(8, "send and recv of a 1 MiB array, as fast as two memcpy",
        Ratio(Where("array_copy", "two_memcpy"), Where("array_copy", "one_way")), _at_least(0.8)),
    Bar(9, "sleeping echo, 64 B, two cores, against a pipe",
        Ratio(_echo("block_two_cores", "zcipc", 64), _echo("block_two_cores", PIPE, 64)), _at_most(0.65)),
    Bar(9, "sleeping echo, 64 B, one core, against a pipe",
        Ratio(_echo("block_one_core", "zcipc", 64), _echo("block_one_core", PIPE, 64)), _at_most(1.05)),
    Bar(10, "a receiver that waits for nothing, hybrid",
        Value(Where("idle", "cpu_share", mode="hybrid")), _at_most(0.5, "% of a core")),
    Bar(10, "a receiver that waits for nothing, block",
        Value(Where("idle", "cpu_share", mode="block")), _at_most(0.5, "% of a core")),
    Bar(11, "messages without a system call",
        Value(Where("no_system_call", "messages")), _at_least(caged.MESSAGES, "messages")),
    Bar(12, "import zcipc, against import numba",
        Ratio(_start_up("import"), _start_up("import", "numba")), _at_most(1.2)),
    Bar(12, "the first message after the import", Value(_start_up("first_message"), 1e6), _at_most(20, "ms")),
    Bar(12, "compiled again in a second process", Value(_start_up("compiled_again")), _at_most(0, "functions")),
    Bar(13, "one of 1,000 connections, always the same, against a single one",
        Ratio(_one_of_many("same_of_many"), _one_of_many("one_connection")), _at_most(1.1)),
    Bar(13, "1,000 connections in turn, against a single one",
        Ratio(_one_of_many("each_in_turn"), _one_of_many("one_connection")), _at_most(1.1)),
    *(
        Bar(14, f"items of 64 B through a queue, 1 to 1, against {system}",
            Ratio(_queue("zcipc"), _queue(system)), _at_least(bound))
        for system, bound in (("faster_fifo", 3), ("multiprocessing", 10))
    ),
    *(
        Bar(15, f"a call of {size:,} B, {runtime}, against an echo of the same payload",
            Ratio(_rpc(system, size, calls.CALL), _rpc(system, size, calls.ECHO)), _at_most(1.5))
        for system, runtime, size in (
            ("zcipc", "interpreted", calls.SMALL), ("zcipc", "interpreted", LARGE),
            ("zcipc_compiled", "compiled", calls.SMALL),
        )
    ),
)  # fmt: skip
