"""Medians, ratios, differences and slopes over launches, each with a confidence interval.

A launch, one fresh pair of processes, is the unit of replication: what is measured inside it shares one
placement in memory and one history of the scheduler, so it is first reduced to one number (Kalibera & Jones
2013, "Rigorous benchmarking in reasonable time"). The centre is the median, because the noise of a computer
is one-sided and heavy-tailed (Hoefler & Belli 2015, "Scientific benchmarking of parallel computing systems",
rules 5 to 8).

How an interval is made depends on how many launches there are, here for 95 %:

- 1: no interval; `low` and `high` are NaN.
- 2 to 5: Student's t. No two observed values can hold a median between them with 95 % before there are 6
  (the range of 5 does with 93.75 %, that of 3 with 75 %), and a bootstrap of so few is narrower still. The t
  interval pays for its coverage with an assumption, rough normality, and is as wide as our ignorance.
- 6 or more: between two order statistics for one group, exact for every distribution; a percentile bootstrap
  over launches for two groups.
"""

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import bdtr, stdtrit
from scipy.stats import bootstrap

CONFIDENCE = 0.95
SEED = 20240
RESAMPLES = 1999

Floats = NDArray[np.float64]

_ESTIMATE_TYPES = {"value": "float64", "low": "float64", "high": "float64", "launches": "int64"}


@dataclass(frozen=True)
class Estimate:
    """A value and its confidence interval, in the unit of the data; NaN bounds where none can be given."""

    value: float
    low: float
    high: float
    launches: int


def median_ci(values: ArrayLike, confidence: float = CONFIDENCE) -> Estimate:
    """The median of one value per launch.

    From 6 launches on (at 95 %) the interval lies between the k-th smallest and the k-th largest value, for
    the greatest k whose binomial coverage still reaches `confidence`: distribution-free, never less than
    nominal (Hahn & Meeker 1991, "Statistical intervals", chapter 5; David & Nagaraja 2003, "Order
    statistics", chapter 7). With fewer it is Student's t, on logarithms when every value is positive, as
    times and rates are.
    """
    sample = _sample(values)
    return _median(sample, confidence, "log" if (sample > 0).all() else "linear")


def ratio_ci(a: ArrayLike, b: ArrayLike, confidence: float = CONFIDENCE, seed: int = SEED) -> Estimate:
    """median(a) / median(b) of two independent groups of launches, all positive; above 1 when `a` is greater.

    The interval is a percentile bootstrap that resamples the launches of each group (Efron & Tibshirani 1993,
    "An introduction to the bootstrap", chapter 13). Not BCa: its acceleration comes from a jackknife, which
    fails for medians (the same book, chapter 11). With fewer than 6 launches in a group (at 95 %) it is
    Welch's t on logarithms. `launches` is the size of the smaller group.
    """
    first, second = _positive(a), _positive(b)
    value = float(np.median(first) / np.median(second))
    if _few(first, second, confidence):
        low, high = np.exp(_welch(np.log(first), np.log(second), confidence))
    else:
        low, high = _resampled(first, second, np.divide, confidence, seed)
    return _estimate(value, low, high, min(first.size, second.size))


def paired_ratio_ci(a: pd.Series, b: pd.Series, confidence: float = CONFIDENCE) -> Estimate:
    """The median over launches of `a` / `b`, both indexed by launch and positive, with the interval of `median_ci`.

    For what is measured in turns: a machine whose speed changes for seconds at a time changes both values of a launch, and
    their ratio stays, while the medians of the two groups may come from different times. A launch that lacks one is left out.
    """
    _positive(a), _positive(b)
    return median_ci((a / b).dropna(), confidence)


def difference_ci(a: ArrayLike, b: ArrayLike, confidence: float = CONFIDENCE, seed: int = SEED) -> Estimate:
    """median(a) - median(b) of two independent groups of launches, in their unit; the method of `ratio_ci`.

    With few launches Welch's t is taken on the values as they are, which may be negative.
    """
    first, second = _sample(a), _sample(b)
    value = float(np.median(first) - np.median(second))
    if _few(first, second, confidence):
        low, high = _welch(first, second, confidence)
    else:
        low, high = _resampled(first, second, np.subtract, confidence, seed)
    return _estimate(value, low, high, min(first.size, second.size))


def slopes(frame: pd.DataFrame, x: str, y: str) -> pd.Series:
    """The least-squares slope of log `y` against log `x` in each launch: 1 = proportional, 0 = independent.

    `frame` has the columns `launch`, `x` and `y`, both positive. The result is indexed by launch; a launch
    with fewer than two different `x` has no slope and is left out.
    """
    points = pd.DataFrame({"launch": frame["launch"], "x": np.log(frame[x]), "y": np.log(frame[y])})
    centred = points[["x", "y"]] - points.groupby("launch")[["x", "y"]].transform("mean")
    products = pd.DataFrame({"xy": centred["x"] * centred["y"], "xx": centred["x"] ** 2})
    products = products.groupby(points["launch"]).sum()
    products = products[products["xx"] > 1e-12]
    return (products["xy"] / products["xx"]).rename("slope")


def slope_ci(frame: pd.DataFrame, x: str, y: str, confidence: float = CONFIDENCE) -> Estimate:
    """The log-log slope of one transport: the median of its launches' own `slopes`, with its interval.

    Fitting inside each launch keeps the correlation of its points where it belongs: pooled least squares
    would count the points of a launch as independent and give an interval that is too narrow. The interval is
    that of `median_ci`, but with few launches on the slopes as they are, for they can be negative. No launch
    with two different `x` is a ValueError.
    """
    return _median(_sample(slopes(frame, x, y)), confidence, "linear")


def summarise(frame: pd.DataFrame, by: Sequence[str], value: str, confidence: float = CONFIDENCE) -> pd.DataFrame:
    """One row for each combination of `by`, sorted: the columns `by`, then value, low, high, launches.

    `frame` has the columns `by`, `launch` and `value`; several rows of one launch are first reduced to their
    median. The interval is that of `median_ci`, in the unit of `value`. Rows without a `value` are left out.
    """
    keys = list(by)
    known = frame.dropna(subset=[value])
    per_launch = known.groupby([*keys, "launch"], observed=True, dropna=False)[value].median().reset_index()
    records = [
        (*key, *astuple(median_ci(group[value].to_numpy(), confidence)))
        for key, group in per_launch.groupby(keys, observed=True, dropna=False)
    ]
    types = {name: known[name].dtype for name in keys} | _ESTIMATE_TYPES
    return pd.DataFrame.from_records(records, columns=list(types)).astype(types)


@lru_cache
def order_rank(launches: int, confidence: float = CONFIDENCE) -> tuple[int, float]:
    """(k, coverage) of the narrowest symmetric interval between order statistics that reaches `confidence`.

    The interval runs from the k-th smallest to the k-th largest of `launches` values and holds the median
    with probability `coverage`, 1 - 2 P(Binomial(launches, 1/2) < k). k = 0: not even the range reaches it.
    """
    rank, coverage = 0, 1.0
    while 2 * (rank + 1) <= launches:
        narrower = float(1 - 2 * bdtr(rank, launches, 0.5))
        if narrower < confidence:
            break
        rank, coverage = rank + 1, narrower
    return rank, coverage


def _median(sample: Floats, confidence: float, scale: Literal["log", "linear"]) -> Estimate:
    value = float(np.median(sample))
    rank, _ = order_rank(sample.size, confidence)
    if rank:
        ordered = np.sort(sample)
        return Estimate(value, float(ordered[rank - 1]), float(ordered[-rank]), sample.size)
    if scale == "log":
        low, high = np.exp(_student(np.log(sample), confidence))
    else:
        low, high = _student(sample, confidence)
    return _estimate(value, low, high, sample.size)


def _student(sample: Floats, confidence: float) -> Floats:
    """Student's interval for the mean, which is the median of a symmetric distribution; NaN for one value."""
    if sample.size < 2:
        return np.array([np.nan, np.nan])
    error = float(sample.std(ddof=1)) / sample.size**0.5
    return _around(float(sample.mean()), _t(confidence, sample.size - 1) * error)


def _welch(first: Floats, second: Floats, confidence: float) -> Floats:
    """Welch's interval for the difference of two means (Welch 1947); NaN when a group has a single value."""
    if min(first.size, second.size) < 2:
        return np.array([np.nan, np.nan])
    errors = np.array([group.var(ddof=1) / group.size for group in (first, second)])
    difference, error = float(first.mean() - second.mean()), float(errors.sum())
    if error == 0:
        return _around(difference, 0.0)
    freedom = 1 / float(((errors / error) ** 2 / np.array([first.size - 1, second.size - 1])).sum())
    return _around(difference, _t(confidence, freedom) * error**0.5)


def _around(centre: float, half_width: float) -> Floats:
    return np.array([centre - half_width, centre + half_width])


def _t(confidence: float, freedom: float) -> float:
    return float(stdtrit(freedom, (1 + confidence) / 2))


def _resampled(
    first: Floats, second: Floats, combine: Callable[[Floats, Floats], Floats], confidence: float, seed: int
) -> tuple[float, float]:
    result = bootstrap(
        (first, second),
        lambda a, b, axis: combine(np.median(a, axis=axis), np.median(b, axis=axis)),
        n_resamples=RESAMPLES,
        confidence_level=confidence,
        method="percentile",
        vectorized=True,
        rng=np.random.default_rng(seed),
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def _few(first: Floats, second: Floats, confidence: float) -> bool:
    return order_rank(min(first.size, second.size), confidence)[0] == 0


def _estimate(value: float, low: float, high: float, launches: int) -> Estimate:
    """The few-launch intervals lie around a mean and the value is a median: widen until it is inside."""
    return Estimate(value, float(np.minimum(low, value)), float(np.maximum(high, value)), launches)


def _sample(values: ArrayLike) -> Floats:
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or sample.size == 0 or not np.isfinite(sample).all():
        raise ValueError("need a one-dimensional, non-empty sequence of finite values, one per launch")
    return sample


def _positive(values: ArrayLike) -> Floats:
    sample = _sample(values)
    if not (sample > 0).all():
        raise ValueError("a ratio needs positive values")
    return sample
