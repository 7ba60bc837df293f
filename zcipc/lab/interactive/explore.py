"""What can be asked of a run: which experiment, which of its statistics, for whom; and the answer as a figure and as data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from zcipc.lab.errors import UsageError
from zcipc.lab.plots import explore as views
from zcipc.lab.plots.style import LIMIT, ThemedFigure
from zcipc.lab.runs.results import ROOT, Run


@dataclass(frozen=True)
class Experiment:
    """A table of a run, the statistics in its columns (ns), and the table of whole distributions."""

    title: str
    table: str
    statistics: Mapping[str, str]
    quantiles: str
    quantile_column: str


_TAIL = {"90th percentile": "p90_ns", "99th percentile": "p99_ns", "99.9th percentile": "p999_ns", "slowest": "max_ns"}

EXPERIMENTS: Mapping[str, Experiment] = {
    "ping-pong": Experiment(
        "round trip",
        "pingpong",
        {"median": "round_trip_ns", "fastest block": "round_trip_min_ns", **_TAIL},
        "pingpong_quantiles",
        "round_trip_ns",
    ),
    "latency": Experiment(
        "one way",
        "latency",
        {"median": "p50_ns", "mean": "mean_ns", **_TAIL},
        "latency_quantiles",
        "latency_ns",
    ),
}


def runs_with(experiment: str) -> list[str]:
    """The runs that hold an experiment's table."""
    table = EXPERIMENTS[experiment].table
    return sorted(path.parent.name for path in (ROOT / "data").glob(f"*/{table}.parquet"))


@dataclass(frozen=True)
class Question:
    """What to show.

    Attributes:
        run: name of a run.
        experiment: one of `EXPERIMENTS`.
        view: one of `zcipc.lab.plots.explore.VIEWS`.
        statistic: one of the experiment's.
        runtime: compiled or python.
        transports: which series; the limit is always there.
        sizes: message sizes in bytes; a view of one size takes the first.
    """

    run: str
    experiment: str
    view: str
    statistic: str
    runtime: str
    transports: Sequence[str]
    sizes: Sequence[int]

    def answer(self) -> tuple[ThemedFigure, pd.DataFrame]:
        """The figure, and the rows that are in it.

        Raises:
            UsageError: nothing in the run fits; says what does not.
        """
        experiment, single = EXPERIMENTS[self.experiment], self.view in ("launch by launch", "distribution")
        distribution = self.view == "distribution"
        table = Run.open(self.run).load(experiment.quantiles if distribution else experiment.table)
        sizes = list(self.sizes)[:1] if single else list(self.sizes)
        if distribution and sizes and sizes[0] not in set(table["message_bytes"]):
            kept = ", ".join(f"{size:,}" for size in sorted(table["message_bytes"].unique()))
            raise UsageError(f"whole distributions are kept for messages of {kept} bytes only: choose one of them")
        chosen = table["transport"].isin([*self.transports, LIMIT]) & table["message_bytes"].isin(sizes)
        bounded = (table["runtime"] == self.runtime) | (table["transport"] == LIMIT)  # the limit bounds every runtime
        rows = table[chosen & bounded]
        if set(rows["transport"]) <= {LIMIT}:
            raise UsageError(f"run {self.run!r} has no such messages: choose other transports, sizes or another run")
        column = experiment.quantile_column if distribution else experiment.statistics[self.statistic]
        statistic = "distribution" if distribution else self.statistic
        title = views.title_of(experiment.title, self.runtime, statistic, sizes)
        return views.VIEWS[self.view](rows, column, title), rows
