"""The limits of this machine: what no transport can beat, measured in the same run as the transports.

Tables `limits` (one row a measurement) and `machine` (one row a property, with its interval).
"""

import mmap
import os
import time
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd

from zcipc.lab.harness import stats
from zcipc.lab.harness.launch import measure
from zcipc.lab.harness.progress import report
from zcipc.lab.measurements import tasks
from zcipc.lab.runs import profiles
from zcipc.lab.runs.results import Run
from zcipc.memory.segment import mapping_address
from zcipc.native.atomics import clock, memcpy
from zcipc.native.compiled import jit

LINE_BYTES = 8  # payload of the bare exchange: flag and payload share a cache line
COPY_SIZES = tuple(4096 << 2 * doubling for doubling in range(8))  # bytes, 4 KiB to 64 MiB: each cache level and memory
COPY_NS = 20_000_000  # one memcpy measurement takes about this long
CLOCK_READS = 100_000


def measure_limits(run: Run, *, launches: int | None = None) -> pd.DataFrame:
    """Bare cache-line exchange, memcpy and timer cost, in fresh processes. Tables `limits`, returned, and `machine`."""
    started = datetime.now(UTC)
    launches = launches or profiles.profile(run.profile).launches
    rows: list[dict[str, Any]] = []
    for launch in range(launches):
        report(launch, launches, "limits of the machine")
        ((exchange, _),) = measure(tasks.ping_pong, "compiled", "limit", (LINE_BYTES,), 21, 1000)
        rows.append(_row("cache_line_round_trip", LINE_BYTES, launch, exchange["round_trip_ns"], "ns"))
        rows += [_row("memcpy", size, launch, rate, "bytes/s") for size, rate in measure(_copy_rates)]
        rows += [_row(name, 0, launch, cost, "ns") for name, cost in measure(_timer_costs).items()]
    report(launches, launches, "limits of the machine")
    frame = pd.DataFrame(rows)
    run.save("machine", _machine(frame), started=started)
    return run.save("limits", frame, parameters={"launches": launches}, started=started)


def _row(limit: str, size: int, launch: int, value: float, unit: str) -> dict[str, Any]:
    return {"limit": limit, "message_bytes": size, "launch": launch, "value": value, "unit": unit}


def _machine(limits: pd.DataFrame) -> pd.DataFrame:
    """Name, value, unit and 95 % interval of each property of the machine that a figure or the article states."""
    rows: list[dict[str, Any]] = []
    for (name, size), group in limits.groupby(["limit", "message_bytes"]):
        estimate = stats.median_ci(group["value"])
        unit = group["unit"].iloc[0]
        label = f"memcpy_{size}_B" if name == "memcpy" else f"{name}_ns"
        rows.append({"name": label, "value": estimate.value, "unit": unit, "low": estimate.low, "high": estimate.high})
    for name, value, unit in (
        ("cores", len(os.sched_getaffinity(0)), "cores"),
        ("memory", os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), "bytes"),
    ):
        rows.append({"name": name, "value": float(value), "unit": unit, "low": float("nan"), "high": float("nan")})
    return pd.DataFrame(rows)


@jit
def _copy(destination, source, size, rounds):
    start = clock()
    for _ in range(rounds):
        memcpy(destination, source, size)
    return clock() - start


def _copy_rates() -> list[tuple[int, float]]:
    """Bytes per second that one core copies, by size of the block."""
    source, destination = (mmap.mmap(-1, COPY_SIZES[-1]) for _ in range(2))
    addresses = mapping_address(destination), mapping_address(source)
    rates = []
    for size in COPY_SIZES:
        once = _copy(*addresses, size, 3) / 3  # touches the pages, too
        rounds = max(int(COPY_NS / max(once, 1)), 2)
        rates.append((size, size * rounds / _copy(*addresses, size, rounds) * 1e9))
    return rates


@jit
def _read_clock(count):
    start = clock()
    for _ in range(count):
        clock()
    return (clock() - start) / count


def _timer_costs() -> dict[str, float]:
    """Ns that one reading of the clock takes, compiled and interpreted."""
    _read_clock(1)
    compiled = _read_clock(CLOCK_READS)
    now = time.monotonic_ns
    readings = np.array([now() for _ in range(CLOCK_READS)])
    return {"timer_cost": compiled, "timer_cost_python": float(readings[-1] - readings[0]) / (CLOCK_READS - 1)}
