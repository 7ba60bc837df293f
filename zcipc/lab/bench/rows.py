"""The result of a bench: samples of launches, and the rows made of them, with the ratio of each to the limit and to the pipe.

A row's value is the median over launches, with a 95 % interval; a ratio is the median of those in each launch. What is better,
more or less, depends on the metric: times should be low, rates high.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from zcipc.lab.bench.scenario import LIMIT, PIPE, Measured, Series
from zcipc.lab.harness import stats

KEY = ["scenario", "system", "runtime", "mode", "bytes", "metric", "unit"]
COMPARED = ["scenario", "runtime", "bytes", "metric"]  # what a row has in common with the one it is a ratio to


@dataclass(frozen=True)
class Row:
    """One line of the table; `value`, `low` and `high` in `unit`, NaN where there is none."""

    scenario: str
    system: str
    runtime: str
    mode: str
    bytes: int
    metric: str
    unit: str
    value: float
    low: float
    high: float
    launches: int
    vs_limit: float
    vs_pipe: float


def sample(scenario: str, series: Series, launch: int, measured: Measured) -> dict[str, Any]:
    """What one launch says of one metric, as a record of the table of samples."""
    return {
        "scenario": scenario,
        "system": series.system,
        "runtime": series.runtime,
        "mode": series.mode,
        **measured._asdict(),
        "launch": launch,
    }


def rows(samples: pd.DataFrame) -> list[Row]:
    """One row for each scenario, system, runtime, mode, size and metric of `samples` (columns KEY, `launch`, `value`)."""
    table = stats.summarise(samples, KEY, "value")
    order = {key: place for place, key in enumerate(samples[KEY].drop_duplicates().itertuples(index=False, name=None))}
    keys = table[KEY].itertuples(index=False, name=None)
    table = table.iloc[sorted(range(len(table)), key=[order[key] for key in keys].__getitem__)]
    for column, system in (("vs_limit", LIMIT), ("vs_pipe", PIPE)):
        table[column] = _ratios(samples, system).reindex(pd.MultiIndex.from_frame(table[KEY])).to_numpy()
    return [Row(**record) for record in table.to_dict("records")]


def _ratios(samples: pd.DataFrame, system: str) -> pd.Series:
    """The ratio of each row to that of `system`, indexed by KEY, where there is just one of those."""
    reference = samples[samples["system"] == system]
    reference = reference[reference.groupby(COMPARED)["mode"].transform("nunique") == 1]
    pairs = samples.merge(reference, on=[*COMPARED, "launch"], suffixes=("", "_of_reference"))
    return (pairs["value"] / pairs["value_of_reference"]).groupby([pairs[column] for column in KEY]).median()


def to_json(machine: dict[str, Any], lines: Iterable[Row], bars: Iterable[dict[str, Any]]) -> str:
    """`{"machine": {...}, "rows": [...], "bars": [...]}`; what is not known is null."""
    content = {"machine": machine, "rows": [asdict(row) for row in lines], "bars": list(bars)}
    return json.dumps(_without_nan(content), indent=1, allow_nan=False)


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not abs(value) < float("inf") else value
