"""Runs side by side: verdicts, ratios and the shape of distributions; and in what their machines differ.

Absolute times are never compared. Two ratios agree when the interval of their quotient lies within a quarter of 1, differ when
it lies wholly outside, and are open otherwise.
"""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from zcipc.lab.harness import stats
from zcipc.lab.harness.stats import Estimate
from zcipc.lab.runs import machine
from zcipc.lab.runs.results import Run
from zcipc.lab.verdicts import claims
from zcipc.lab.verdicts.criteria import Region
from zcipc.lab.verdicts.evidence import RUNTIMES, Effect, format_level

PAIRS = (("pipe", "paper"), ("pipe", "zcipc"), ("paper", "zcipc"), ("zcipc", "zcipc_loan"), ("zcipc", "limit"))
"""What is divided by what, in each of `_MEASURED`."""

_MEASURED = {
    "pingpong": ("round_trip_ns", "message_bytes"),
    "latency": ("p50_ns", "message_bytes"),
    "injection": ("messages_per_s", "volume_messages"),
}
_TAILS = {"pingpong": "round trip", "latency": "latency"}

SAME = Region(0.8, 1.25, closed=True)

AGREE, DIFFER, OPEN = "agree", "differ", "open"

_JUDGED = {"reproduced": AGREE, "not reproduced": DIFFER, "undecided": OPEN}


def verdicts(runs: Sequence[Run]) -> pd.DataFrame:
    """The verdict on each claim in each runtime and library against the pipe: a row each, and a column for each run."""
    found = {run.name: run.load("claims") for run in runs}
    return pd.DataFrame(
        [
            {"claim": claim.id, "runtime": runtime, "library": library}
            | {
                name: claims.by_combination(frame, claim)[runtime, library, claims.HEADLINE[-1]][0]
                for name, frame in found.items()
            }
            for claim in claims.load()
            for runtime, library in product(RUNTIMES, claims.LIBRARIES)
        ]
    )


def ratios(runs: Sequence[Run]) -> pd.DataFrame:
    """Each ratio that all `runs` measured, at its first and its last level, and whether they agree with that of the last run.

    Columns: what, and for each run its `Estimate`; `judgement`, the worst of them.
    """
    return _side_by_side([dict(_ratios(run)) for run in runs], runs)


def tails(runs: Sequence[Run]) -> pd.DataFrame:
    """The shape of each distribution that all `runs` measured: its 99th percentile in times of its median; like `ratios`."""
    return _side_by_side([dict(_tails(run)) for run in runs], runs)


def agreement(one: Estimate, other: Estimate) -> str:
    """Whether two ratios, measured independently, are the same within a quarter: `AGREE`, `DIFFER` or `OPEN`.

    The interval of their quotient adds the half-widths of both in quadrature, on logarithms.
    """
    logs = np.log([[value.value, value.low, value.high] for value in (one, other)])
    centre = logs[0, 0] - logs[1, 0]
    down = np.hypot(logs[0, 0] - logs[0, 1], logs[1, 2] - logs[1, 0])
    up = np.hypot(logs[0, 2] - logs[0, 0], logs[1, 0] - logs[1, 1])
    low, high = np.exp([centre - down, centre + up])
    quotient = Estimate(float(np.exp(centre)), float(low), float(high), min(one.launches, other.launches))
    return _JUDGED[SAME.decide([Effect(quotient, "")])[0]]


def machines(runs: Sequence[Run]) -> pd.DataFrame:
    """The recorded properties in which the machines of `runs` differ, and what `zcipc doctor` finds on one and not on all."""
    facts = {run.name: run.machine() or {} for run in runs}
    rows = [
        {"property": key} | {name: str(fact.get(key)) for name, fact in facts.items()}
        for key in dict.fromkeys(key for fact in facts.values() for key in fact)
        if len({str(fact.get(key)) for fact in facts.values()}) > 1
    ]
    found = {
        name: {finding.what: finding.why for finding in machine.doctor(fact) if finding.level in ("warn", "bad")}
        for name, fact in facts.items()
        if fact
    }
    rows += [
        {"property": f"{what}: {why}"} | {name: "yes" if what in each else "no" for name, each in found.items()}
        for what, why in {what: why for each in found.values() for what, why in each.items()}.items()
        if len([each for each in found.values() if what in each]) < len(found)
    ]
    return pd.DataFrame(rows, columns=["property", *facts])


def render(runs: Sequence[Run]) -> RenderableType:
    """All of it, for the terminal."""
    return Group(
        _table("Verdicts, against the pipe", verdicts(runs)),
        _table("Ratios of medians, 95 % intervals", ratios(runs)),
        _table("99th percentile in times of the median", tails(runs)),
        _table("Where the machines differ", machines(runs)),
    )


def _ratios(run: Run) -> Iterator[tuple[str, Estimate]]:
    for table, (value, at) in _MEASURED.items():
        if not run.has(table):
            continue
        frame = run.load(table)
        if table == "injection":
            frame = frame[~frame["warmup"] & (frame["message_bytes"] == 64)]
        per_launch = frame.groupby(["runtime", at, "transport", "launch"])[value].median()
        for (runtime, level), group in per_launch.groupby(["runtime", at]):
            if level not in (frame[at].min(), frame[at].max()):
                continue
            present = group.droplevel([0, 1])
            for over, under in PAIRS:
                if {over, under} <= set(present.index.get_level_values("transport")):
                    what = f"{table}, {runtime}, {format_level(at, level)}: {over} / {under}"
                    yield what, stats.ratio_ci(present[over], present[under])


def _tails(run: Run) -> Iterator[tuple[str, Estimate]]:
    for table, name in _TAILS.items():
        if run.has(table):
            frame = run.load(table)
            ends = frame["message_bytes"].isin([frame["message_bytes"].min(), frame["message_bytes"].max()])
            shape = frame[ends].assign(shape=frame["p99_ns"] / frame["p50_ns"])
            for row in stats.summarise(shape, ["runtime", "transport", "message_bytes"], "shape").itertuples():
                what = f"{name}, {row.runtime}, {row.transport}, {format_level('message_bytes', row.message_bytes)}"
                yield what, Estimate(row.value, row.low, row.high, row.launches)


def _side_by_side(measured: Sequence[dict[str, Estimate]], runs: Sequence[Run]) -> pd.DataFrame:
    last = measured[-1]
    rows = []
    for what in last:
        if all(what in each for each in measured):
            judged = {agreement(each[what], last[what]) for each in measured[:-1]}
            worst = next((state for state in (DIFFER, OPEN) if state in judged), AGREE)
            rows.append({"what": what} | {run.name: each[what] for run, each in zip(runs, measured, strict=True)})
            rows[-1]["judgement"] = worst
    return pd.DataFrame(rows, columns=["what", *(run.name for run in runs), "judgement"])


def _table(title: str, frame: pd.DataFrame) -> Table:
    table = Table(title=title, title_justify="left")
    for column in frame:
        table.add_column(str(column))
    for row in frame.itertuples(index=False):
        table.add_row(*map(_cell, row))
    return table


def _cell(value: Any) -> Text:
    if isinstance(value, Estimate):
        return Text(f"{value.value:.3g} [{value.low:.3g}, {value.high:.3g}]")
    return Text(str(value))
