"""Real time, the paper's future work: a periodic task exchanges messages beside load, and how late they are.

A beat counts from the time it was meant to be at, so a late wake-up and a slow delivery both show. Launches of all series are
interleaved in random order. Every message is written and read in full and checked.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import pandas as pd

from zcipc.lab.errors import UsageError
from zcipc.lab.harness.launch import measure
from zcipc.lab.harness.progress import report
from zcipc.lab.measurements.realtime_tasks import LOADS, SERIES, beats, may_schedule
from zcipc.lab.runs.results import Run

SEED = 20240
FIFO_RATE_HZ = 1000  # where both schedulers are compared


@dataclass(frozen=True)
class Effort:
    """How much is measured: launches of each series, seconds of beats in each, beats per second."""

    launches: int
    seconds: float
    rates_hz: tuple[int, ...]
    loads: tuple[str, ...]


EFFORTS = {
    "smoke": Effort(1, 0.15, (1000,), ("idle", "cpu")),
    "quick": Effort(2, 0.3, (1000, 10_000), tuple(LOADS)),
    "full": Effort(3, 1.0, (100, 1000, 10_000), tuple(LOADS)),
}


def realtime(
    run: Run, *, rates_hz: Sequence[int] | None = None, launches: int | None = None, seconds: float | None = None
) -> pd.DataFrame:
    """Table `realtime`: one row for each scheduler, load, rate, series and launch; None: as the profile says.

    SCHED_FIFO is measured where this user may use it.
    """
    started = datetime.now(UTC)
    if run.profile not in EFFORTS:
        raise UsageError(f"there is no profile {run.profile!r}; profiles: {', '.join(EFFORTS)}")
    effort = EFFORTS[run.profile]
    rates, launches = tuple(rates_hz or effort.rates_hz), launches or effort.launches
    seconds = seconds or effort.seconds
    series = [("other", load, rate, name) for load in effort.loads for rate in rates for name in SERIES]
    if measure(may_schedule):
        series += [("fifo", load, FIFO_RATE_HZ, name) for load in effort.loads for name in SERIES]
    order = random.Random(SEED)
    schedule = [(launch, *one) for launch in range(launches) for one in order.sample(series, len(series))]
    rows = []
    for done, (launch, scheduler, load, rate, name) in enumerate(schedule):
        report(done, len(schedule), f"real time, {name} at {rate:,} Hz, load: {load}")
        key = {"scheduler": scheduler, "load": load, "rate_hz": rate, "transport": name, "launch": launch, "sequence": done}
        rows.append(key | measure(beats, name, load, rate, scheduler == "fifo", seconds))
    report(len(schedule), len(schedule), "real time")
    parameters = {"rates_hz": list(rates), "launches": launches, "seconds": seconds, "loads": list(effort.loads)}
    return run.save("realtime", pd.DataFrame(rows), parameters=parameters, seed=SEED, started=started)
