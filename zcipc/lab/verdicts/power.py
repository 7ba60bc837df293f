"""What an undecided verdict could have seen, and how many launches would decide it.

An interval narrows with the root of the number of launches. From the one at hand follow the distance from a threshold that
a run of the same size would decide in four of five repetitions, and the launches after which the effect as estimated would
be decided as often (Cohen 1988, "Statistical power analysis", chapter 2, with the interval's own width for the noise).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from scipy.special import ndtri

from zcipc.lab.harness.stats import CONFIDENCE, Estimate

POWER = 0.8

_STRETCH = 1 + float(ndtri(POWER) / ndtri((1 + CONFIDENCE) / 2))
"""An effect as far from a threshold as half its interval is decided every second time; this much farther, with `POWER`."""


@dataclass(frozen=True)
class Power:
    """`detectable`: a distance from `threshold`, in the unit of the effect; `launches`: how many would decide, or infinity."""

    threshold: float
    detectable: float
    launches: float


def power(estimate: Estimate, thresholds: Iterable[float]) -> Power | None:
    """The power against the threshold hardest to tell from `estimate`; None if its interval holds none, or is none."""
    held = [threshold for threshold in thresholds if estimate.low <= threshold <= estimate.high]
    return max((_against(estimate, threshold) for threshold in held), key=lambda power: power.launches, default=None)


def _against(estimate: Estimate, threshold: float) -> Power:
    distance = abs(estimate.value - threshold)
    towards = estimate.value - estimate.low if threshold <= estimate.value else estimate.high - estimate.value
    detectable = _STRETCH * towards
    launches = math.ceil(estimate.launches * max(detectable / distance, 1) ** 2) if distance else math.inf
    return Power(threshold, detectable, max(launches, estimate.launches + 1))
