"""What the tables of a run say of one combination of runtime, library and baseline: the statistics of claims.

A statistic is a function from `Evidence` to one `Effect` for each size, volume or transport it looked at.
Decorating it with `@statistic(unit)` is all it takes for `paper/claims.yml` to name it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from zcipc.lab.errors import LabError
from zcipc.lab.harness import stats
from zcipc.lab.harness.stats import Estimate
from zcipc.lab.plots.style import format_bytes

TRANSPORT_NAMES: Mapping[str, str] = {
    "pipe": "the pipe",
    "socketpair": "the Unix socket pair",
    "paper": "the paper's design",
    "zcipc": "zcipc",
    "zcipc_block": "zcipc asleep in the kernel",
    "zcipc_loan": "zcipc's loans",
}
"""How a sentence calls each transport."""

ROLES = ("library", "baseline")
"""Names that stand for the transport a combination puts in that place."""

RUNTIMES = ("compiled", "python")

_KEYS = ("runtime", "transport", "launch", "verified")

EXPERIMENTS: Mapping[str, tuple[str, ...]] = {
    "pingpong": _KEYS,
    "injection": (*_KEYS, "warmup"),
    "latency": _KEYS,
    "table1_evidence": ("tried", "seen", "missing"),
}
"""The tables that hold evidence, and the columns each needs besides what a claim asks for.

One without a runtime and a transport was tried with zcipc itself, whichever loop would drive it.
"""

Launches = dict[tuple[str, str, str], pd.DataFrame]
"""The rows of each (table, runtime, transport)."""


class NoEvidence(Exception):
    """The run holds nothing that could decide; the message is a sentence for the reader."""


@dataclass(frozen=True)
class Quantity:
    """What to look at: the column `value` of `table` against the column `at`, in the rows that match `where`.

    `levels` are the values of `at` that count, all of which must be there; None = whatever was measured.
    """

    table: str
    value: str
    at: str
    where: Mapping[str, Any] = field(default_factory=dict)
    levels: Sequence[int] | None = None

    @property
    def columns(self) -> list[str]:
        """Every column that must be in the table."""
        return [*EXPERIMENTS[self.table], self.value, self.at, *self.where]


@dataclass(frozen=True)
class Effect:
    """An estimate, and where it holds: "64 B", "From 64 B to 8 KiB", "the pipe"."""

    estimate: Estimate
    at: str


@dataclass(frozen=True)
class Evidence:
    """The launches of a run, seen from one combination."""

    launches: Launches
    runtime: str
    library: str
    baseline: str

    def transport(self, role: str) -> str:
        """The transport that plays `role`: the library, the baseline, or itself."""
        return {"library": self.library, "baseline": self.baseline}.get(role, role)

    def name(self, role: str) -> str:
        """How a sentence calls the transport that plays `role`."""
        return TRANSPORT_NAMES[self.transport(role)]

    def rows(self, quantity: Quantity, role: str) -> pd.DataFrame:
        """The rows of `quantity` for `role`, verified or not, no warm-up; `NoEvidence` if there is none."""
        frame = self.launches.get((quantity.table, self.runtime, self.transport(role)), pd.DataFrame())
        for column, wanted in quantity.where.items():
            frame = frame[frame[column] == wanted] if len(frame) else frame
        if frame.empty:
            matching = ", ".join(f"{column} = {wanted}" for column, wanted in quantity.where.items())
            raise NoEvidence(
                f"The run did not measure {self.name(role)} in the {self.runtime} runtime"
                f" (table {quantity.table}{', ' if matching else ''}{matching})."
            )
        return frame

    def grid(self, quantity: Quantity, role: str) -> pd.DataFrame:
        """One row per launch, one column per level of `quantity.at`, ascending; medians of what was measured.

        Only verified rows count: a wrong answer has no speed. Launches that miss a level are left out.
        """
        frame = self.rows(quantity, role)
        frame = frame[frame["verified"].astype(bool)]
        grid = frame.pivot_table(index="launch", columns=quantity.at, values=quantity.value, aggfunc="median")
        missing = sorted(set(quantity.levels or ()) - set(grid.columns))
        if missing:
            absent = ", ".join(format_level(quantity.at, level) for level in missing)
            raise NoEvidence(f"The run did not measure {self.name(role)} at {absent} (table {quantity.table}).")
        complete = (grid[list(quantity.levels)] if quantity.levels else grid).dropna()
        if complete.empty:
            raise NoEvidence(f"No launch of {self.name(role)} was verified at every level of {quantity.at}.")
        return complete

    def pair(self, quantity: Quantity, over: str, under: str) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The grids of two transports, over the levels that both have."""
        first, second = self.grid(quantity, over), self.grid(quantity, under)
        common = first.columns.intersection(second.columns)
        if common.empty:
            raise NoEvidence(f"The run measured {self.name(over)} and {self.name(under)} at no common {quantity.at}.")
        return first[common], second[common]


@dataclass(frozen=True)
class Statistic:
    """A function of the evidence, and the unit of what it estimates."""

    function: Callable[..., list[Effect]]
    unit: str


STATISTICS: dict[str, Statistic] = {}
"""Every statistic a claim may name."""


def statistic(unit: str) -> Callable[[Callable[..., list[Effect]]], Callable[..., list[Effect]]]:
    """Enter a function into `STATISTICS` under its own name."""

    def enter(function: Callable[..., list[Effect]]) -> Callable[..., list[Effect]]:
        STATISTICS[function.__name__] = Statistic(function, unit)
        return function

    return enter


@statistic("ratio")
def ratio(evidence: Evidence, quantity: Quantity, over: str, under: str) -> list[Effect]:
    """The ratio of medians, at each level."""
    first, second = evidence.pair(quantity, over, under)
    return [Effect(stats.ratio_ci(first[level], second[level]), format_level(quantity.at, level)) for level in first.columns]


@statistic("slope")
def slope(evidence: Evidence, quantity: Quantity, of: Sequence[str]) -> list[Effect]:
    """The log-log slope of each transport."""
    grids = {role: evidence.grid(quantity, role) for role in of}
    for grid in grids.values():
        _at_least_two(grid, quantity)
    return [Effect(stats.slope_ci(_tidy(grid), "level", "value"), evidence.name(role)) for role, grid in grids.items()]


@statistic("slope")
def slope_difference(evidence: Evidence, quantity: Quantity, over: str, under: str) -> list[Effect]:
    """The difference of two log-log slopes, which is the slope of the ratio of the two."""
    first, second = evidence.pair(quantity, over, under)
    _at_least_two(first, quantity)
    per_launch = [stats.slopes(_tidy(grid), "level", "value") for grid in (first, second)]
    return [Effect(stats.difference_ci(*per_launch), _span(quantity, first.columns))]


@statistic("ns")
def growth_difference(evidence: Evidence, quantity: Quantity, over: str, under: str) -> list[Effect]:
    """The difference of what two transports gain from the first level to the last."""
    first, second = evidence.pair(quantity, over, under)
    _at_least_two(first, quantity)
    return [Effect(stats.difference_ci(_growth(first), _growth(second)), _span(quantity, first.columns))]


@statistic("ns")
def step_difference(evidence: Evidence, quantity: Quantity, over: str, under: str) -> list[Effect]:
    """The difference of what two transports gain from each level to the next."""
    first, second = evidence.pair(quantity, over, under)
    _at_least_two(first, quantity)
    return [
        Effect(
            stats.difference_ci(_growth(first[list(step)]), _growth(second[list(step)])),
            _span(quantity, step),
        )
        for step in zip(first.columns[:-1], first.columns[1:], strict=True)
    ]


@statistic("ratio")
def growth_ratio(evidence: Evidence, quantity: Quantity, over: str, under: str) -> list[Effect]:
    """The ratio of what two transports gain from the first level to the last."""
    first, second = evidence.pair(quantity, over, under)
    _at_least_two(first, quantity)
    growths = _growth(first), _growth(second)
    if min(growth.min() for growth in growths) <= 0:
        raise NoEvidence(
            f"{_span(quantity, first.columns)}, what {evidence.name(over)} and {evidence.name(under)} gain"
            " is lost in the noise of some launch."
        )
    return [Effect(stats.ratio_ci(*growths), _span(quantity, first.columns))]


@statistic("ratio")
def relative_to_first(evidence: Evidence, quantity: Quantity, of: str) -> list[Effect]:
    """The value at each further level over the value at the first, within each launch."""
    grid = evidence.grid(quantity, of)
    _at_least_two(grid, quantity)
    return [
        Effect(stats.median_ci(grid[level] / grid.iloc[:, 0]), _span(quantity, [grid.columns[0], level]))
        for level in grid.columns[1:]
    ]


@statistic("share")
def share_verified(evidence: Evidence, quantity: Quantity, of: str) -> list[Effect]:
    """The share of launches in which every payload was verified: a count, so its interval has no width."""
    per_launch = evidence.rows(quantity, of).groupby("launch")["verified"].all()
    share = float(per_launch.mean())
    return [Effect(Estimate(share, share, share, len(per_launch)), evidence.name(of))]


@statistic("share")
def share_seen(evidence: Evidence, quantity: Quantity, of: str) -> list[Effect]:
    """The share of all that was tried of a property that went as it should, and what that was: a count as well."""
    row = evidence.rows(quantity, of).iloc[0]
    if row["missing"]:
        raise NoEvidence(f"It could not be tried: {row['missing']}.")
    good, tried = int(row[quantity.value]), int(row["tried"])
    share = good / tried
    return [Effect(Estimate(share, share, share, 1), f"{good:,} of {tried:,} {row['seen']}")]


def split(tables: Mapping[str, pd.DataFrame], quantities: Iterable[Quantity]) -> Launches:
    """The rows of `tables` by table, runtime and transport, warm-up left out.

    A table that lacks a column one of `quantities` needs is a `LabError`; an absent table has no rows.
    """
    wanted: dict[str, dict[str, None]] = {}
    for quantity in quantities:
        wanted.setdefault(quantity.table, {}).update(dict.fromkeys(quantity.columns))
    launches: Launches = {}
    for table, columns in wanted.items():
        if table not in tables:
            continue
        frame = tables[table]
        if missing := [column for column in columns if column not in frame]:
            found = ", ".join(map(str, frame.columns))
            raise LabError(f"cannot judge table {table!r}: it lacks {', '.join(missing)}; its columns: {found}")
        if "warmup" in columns:
            frame = frame[~frame["warmup"].astype(bool)]
        if "transport" not in frame:
            launches |= {(table, runtime, "zcipc"): frame for runtime in RUNTIMES}
            continue
        for (runtime, transport), group in frame.groupby(["runtime", "transport"], observed=True):
            launches[table, str(runtime), str(transport)] = group
    return launches


def format_level(column: str, level: int) -> str:
    """How a sentence calls one level of a column: `64 B`, `1,000 messages an injection`."""
    return format_bytes(level) if column == "message_bytes" else f"{level:,} messages an injection"


def _span(quantity: Quantity, levels: Sequence[int]) -> str:
    first = f"{levels[0]:,}" if quantity.at == "volume_messages" else format_level(quantity.at, levels[0])
    return f"From {first} to {format_level(quantity.at, levels[-1])}"


def _growth(grid: pd.DataFrame) -> pd.Series:
    return grid.iloc[:, -1] - grid.iloc[:, 0]


def _at_least_two(grid: pd.DataFrame, quantity: Quantity) -> None:
    if grid.shape[1] < 2:
        raise NoEvidence(f"Growth needs two levels of {quantity.at}; table {quantity.table} has one.")


def _tidy(grid: pd.DataFrame) -> pd.DataFrame:
    """A grid as the rows launch, level, value that `stats` works on."""
    return pd.DataFrame(
        {
            "launch": np.repeat(grid.index.to_numpy(), grid.shape[1]),
            "level": np.tile(grid.columns.to_numpy(), len(grid)),
            "value": grid.to_numpy().ravel(),
        }
    )
