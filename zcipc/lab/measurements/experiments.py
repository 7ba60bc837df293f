"""The three experiments of the paper, each over its whole grid.

Each takes a run, measures, saves its tables in the run and returns the main one. Launches of all series are interleaved in
random order, so that whatever drifts on the machine meets all of them alike. Payloads are written and read in full on both
sides and checked. Warm-up is measured, marked and left out of the statistics.
"""

import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from datetime import UTC, datetime
from itertools import product
from multiprocessing.connection import Connection
from typing import Any

import pandas as pd

from zcipc.lab.harness.launch import answer, launched, measure
from zcipc.lab.harness.progress import report
from zcipc.lab.measurements import tasks
from zcipc.lab.measurements.tasks import Floats
from zcipc.lab.runs import profiles
from zcipc.lab.runs.results import Run
from zcipc.lab.transports import COMPILED, INTERPRETED

SEED = 20240
RUNTIMES = ("compiled", "python")


def ping_pong(
    run: Run,
    *,
    sizes: Sequence[int] | None = None,
    launches: int | None = None,
    transports: Iterable[str] | None = None,
    runtimes: Iterable[str] | None = None,
) -> pd.DataFrame:
    """Experiment 1: a message goes over and comes back. Tables `pingpong` and `pingpong_quantiles`; None: as the profile says.

    Returns `pingpong`, one row for each runtime, transport, launch and message size.
    """
    profile = profiles.profile(run.profile)
    sizes, effort = sizes or profile.sizes, {"blocks": profile.blocks, "samples": profile.samples}
    schedule = _schedule(launches or profile.launches, runtimes, transports)
    return _swept(run, "pingpong", "round_trip_ns", tasks.ping_pong, schedule, sizes, effort)


def latency(
    run: Run,
    *,
    sizes: Sequence[int] | None = None,
    launches: int | None = None,
    transports: Iterable[str] | None = None,
    runtimes: Iterable[str] | None = None,
) -> pd.DataFrame:
    """Experiment 3: one way, from the time a message is meant to be sent until the receiver has read it.

    One message every 40 µs. Tables `latency` and `latency_quantiles`; None: as the profile says.
    """
    profile = profiles.profile(run.profile)
    sizes, effort = sizes or profile.sizes, {"samples": profile.samples}
    schedule = _schedule(launches or profile.launches, runtimes, transports)
    return _swept(run, "latency", "latency_ns", tasks.latency, schedule, sizes, effort, period_ns=tasks.PERIOD_NS)


def _swept(
    run: Run,
    table: str,
    column: str,
    task: Callable[..., Any],
    schedule: Sequence[tuple[int, str, str]],
    sizes: Sequence[int],
    effort: Mapping[str, int],
    **fixed: int,
) -> pd.DataFrame:
    """The table, and that of its quantiles: `task` over all sizes, in each launch of the schedule.

    `column` is what it samples, `effort` its last arguments, and `fixed` what it does not have to be told.
    """
    started = datetime.now(UTC)
    rows, quantiles = [], []
    for sequence, (launch, runtime, transport) in enumerate(schedule):
        report(sequence, len(schedule), f"{table}, {transport} in {runtime}")
        for result, samples in measure(task, runtime, transport, sizes, *effort.values()):
            key = _key(runtime, transport, launch, sequence)
            rows.append(key | result)
            if result["message_bytes"] in _quantile_sizes(sizes):
                quantiles += _quantile_rows(key, result["message_bytes"], samples, column)
    report(len(schedule), len(schedule), table)
    launches = 1 + max(launch for launch, _, _ in schedule)
    parameters = {"sizes": list(sizes), "launches": launches, **effort, **fixed}
    run.save(f"{table}_quantiles", pd.DataFrame(quantiles), parameters=parameters, seed=SEED, started=started)
    return run.save(table, pd.DataFrame(rows), parameters=parameters, seed=SEED, started=started)


def injection(
    run: Run,
    *,
    sizes: Sequence[int] | None = None,
    volumes: Sequence[int] | None = None,
    intervals: Sequence[float] | None = None,
    launches: int | None = None,
    transports: Iterable[str] | None = None,
    runtimes: Iterable[str] | None = None,
) -> pd.DataFrame:
    """Experiment 2: bursts of messages, one after each interval; the rate within a burst. Table `injection`.

    The rate counts from the first message's send until the last one has been read. Series take turns within an interval and
    never overlap, so that the idle time of one is used by the others. The limit is the slower of writing and reading alone.
    """
    started = datetime.now(UTC)
    profile = profiles.profile(run.profile)
    sizes, volumes = sizes or profiles.INJECTION_SIZES, volumes or profile.volumes
    intervals, launches = intervals or profile.intervals, launches or profile.injection_launches
    series = [(runtime, name) for _, runtime, name in _schedule(1, runtimes, transports)]
    rows: list[dict[str, Any]] = []
    order = random.Random(SEED)
    for launch in range(launches):
        with ExitStack() as stack:
            injectors = {
                (runtime, name, size): stack.enter_context(_injector(runtime, name, size))
                for runtime, name in series
                for size in sizes
            }
            bursts = [(*key, volume) for key, volume in product(injectors, volumes)]
            for index, interval in enumerate(order.sample(list(intervals), len(intervals))):
                label = f"injection, launch {launch + 1} of {launches}, every {interval:g} s"
                report(launch * len(intervals) + index, launches * len(intervals), label)
                order.shuffle(bursts)
                rows += _inject_every(interval, bursts, injectors, profile.injections, launch, len(rows))
    report(1, 1, "injection")
    parameters = {"sizes": list(sizes), "volumes": list(volumes), "intervals": list(intervals), "launches": launches}
    parameters["injections"] = profile.injections
    return run.save("injection", pd.DataFrame(rows), parameters=parameters, seed=SEED, started=started)


def _injector(runtime: str, name: str, size: int) -> AbstractContextManager[Connection]:
    if name == "limit":
        return launched(tasks.injector_without_partner, size)
    return launched(tasks.injector, runtime, name, size)


_Burst = tuple[str, str, int, int]  # runtime, transport, message bytes, volume


def _inject_every(
    interval: float,
    bursts: list[_Burst],
    injectors: dict[tuple[str, str, int], Connection],
    injections: int,
    launch: int,
    first_sequence: int,
) -> list[dict[str, Any]]:
    """Every burst once to warm up and `injections` times to count, each `interval` seconds after its last one.

    The warm-up tells how long each burst takes; as many as fit into an interval then take turns in it.
    """
    rows: list[dict[str, Any]] = []

    def inject(burst: _Burst, injection: int) -> float:
        runtime, name, size, volume = burst
        connection = injectors[runtime, name, size]
        began = time.monotonic()
        connection.send(volume)
        elapsed = answer(connection)
        key = _key(runtime, name, launch, first_sequence + len(rows))
        rate = volume / elapsed * 1e9
        rows.append(
            key
            | {"message_bytes": size, "volume_messages": volume, "interval_s": interval, "injection": injection}
            | {"warmup": injection == 0, "elapsed_ns": elapsed, "messages_per_s": rate, "verified": True}
        )
        return time.monotonic() - began

    waiting = list(bursts)
    while waiting:
        group: list[tuple[_Burst, float]] = []  # with the offset of each within the interval
        began = time.monotonic()
        busy = 0.0
        while waiting and busy < interval / 2:
            burst = waiting.pop()
            group.append((burst, time.monotonic() - began))
            busy += inject(burst, 0)
        for injection in range(1, injections + 1):
            for burst, offset in group:
                time.sleep(max(began + injection * interval + offset - time.monotonic(), 0.0))
                inject(burst, injection)
    return rows


def _schedule(launches: int, runtimes: Iterable[str] | None, transports: Iterable[str] | None) -> list[tuple[int, str, str]]:
    """Every series once in each launch, in an order drawn anew for each."""
    available = {"compiled": COMPILED, "python": INTERPRETED}
    wanted = set(transports or COMPILED)
    series = [(runtime, name) for runtime in runtimes or RUNTIMES for name in available[runtime] if name in wanted]
    order = random.Random(SEED)
    return [(launch, *entry) for launch in range(launches) for entry in order.sample(series, len(series))]


def _key(runtime: str, transport: str, launch: int, sequence: int) -> dict[str, Any]:
    return {"runtime": runtime, "transport": transport, "launch": launch, "sequence": sequence}


def _quantile_sizes(sizes: Sequence[int]) -> set[int]:
    """The sizes whose whole distribution is kept: the smallest, the middle and the largest."""
    ordered = sorted(sizes)
    return {ordered[0], ordered[len(ordered) // 2], ordered[-1]}


def _quantile_rows(key: dict[str, Any], size: int, values: Floats, column: str) -> list[dict[str, Any]]:
    named = {name: key[name] for name in ("runtime", "transport", "launch")} | {"message_bytes": size}
    return [named | {"quantile": quantile, column: value} for quantile, value in zip(tasks.QUANTILES, values, strict=True)]
