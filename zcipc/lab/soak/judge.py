"""Whether what should stay flat did.

Each series, one value an interval, is judged after its warm-up by its Theil-Sen slope, the median of the slopes between all
pairs of intervals, which a few disturbed ones do not move (Sen 1968, "Estimates of the regression coefficient based on
Kendall's tau"). It *grows* if it gained more than is allowed over the judged time even by the lower end of the slope's 95 %
interval; it is *flat* if it gained no more even by the upper end; else it is *undecided*: the soak was too short, or the
machine too restless, to tell.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import theilslopes

WARM_UP = 0.2  # of the intervals: code is loaded, the allocator has found its size
FEWEST = 8  # intervals that are judged
CONFIDENCE = 0.95
FLAT, GROWS, UNDECIDED = "flat", "grows", "undecided"

_ALLOWED = {"rss": 0.02, "descriptors": 0.0, "segments": 0.0, "p50": 0.2, "p99": 0.5}
"""By the first word of a series' name: how much it may gain, as a share of its median."""


@dataclass(frozen=True)
class Verdict:
    """On one series, in its own unit.

    Attributes:
        median: of the judged intervals.
        gain, low, high: over the judged time, by the slope and by the ends of its interval.
        allowed: gain.
    """

    series: str
    median: float
    gain: float
    low: float
    high: float
    allowed: float
    verdict: str


def judge(records: Sequence[dict[str, Any]]) -> list[Verdict]:
    """A verdict on each series of `records`, which have the time of their end in `end_s`; none while they are too few."""
    judged = records[int(len(records) * WARM_UP) :]
    return list(_verdicts(judged)) if len(judged) >= FEWEST else []


def _verdicts(records: Sequence[dict[str, Any]]) -> Iterator[Verdict]:
    times = np.array([record["end_s"] for record in records])
    duration = times[-1] - times[0]
    for series in records[0]:
        share = _ALLOWED.get(series.split("_")[0])
        if share is None:
            continue
        values = np.array([record[series] for record in records], float)
        slope, _, low, high = theilslopes(values, times, CONFIDENCE)
        gain, low, high = (float(slope * duration) for slope in (slope, low, high))
        median = float(np.median(values))
        allowed = share * median
        verdict = GROWS if low > allowed else FLAT if high <= allowed else UNDECIDED
        yield Verdict(series, median, gain, low, high, allowed, verdict)
