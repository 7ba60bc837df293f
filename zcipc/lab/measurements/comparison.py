"""zcipc and other libraries side by side: echo and stream, interpreted, each peer in fresh processes, all of them interleaved.

A peer that is not installed, cannot do a size or fails is a row of `peers_failures` with the reason, and never stops a run.
"""

import random
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

import pandas as pd

from zcipc.lab.harness.launch import LaunchFailed, answer, launched, measure
from zcipc.lab.harness.progress import report
from zcipc.lab.measurements import tasks
from zcipc.lab.measurements.limits import LINE_BYTES
from zcipc.lab.peers import LOAN, PEERS, POLL, Series, series
from zcipc.lab.peers.exchange import exchange
from zcipc.lab.runs import profiles
from zcipc.lab.runs.results import Run

SEED = 20240
LIMIT = "limit"
PATIENCE_S = 20.0  # for one launch, of which the longest takes two seconds
FAILURE = {"system": str, "mode": str, "face": str, "message_bytes": int, "launch": int, "reason": str}

_Cell = tuple[Series, int]


def peers(
    run: Run,
    *,
    sizes: Sequence[int] | None = None,
    launches: int | None = None,
    systems: Iterable[str] | None = None,
) -> pd.DataFrame:
    """Round trips and bursts one way of every peer, mode and face. Tables `peers` and `peers_failures`.

    None: as the profile says. Returns `peers`, one row for each series, launch and message size, and one a launch for the
    limit, the bare exchange of a cache line.
    """
    started = datetime.now(UTC)
    plan = profiles.profile(run.profile).peers
    sizes, launches = sizes or plan.sizes, launches or plan.launches
    rows: list[dict[str, Any]] = []
    failures: list[dict[str, Any]] = []
    installed, missing = _versions(PEERS if systems is None else systems)
    cells = [(entry, size) for entry in series(systems) for size in sizes]
    given_up = {cell for cell in cells if cell[0].system in missing}
    failures += [_key(*cell, 0) | {"reason": missing[cell[0].system]} for cell in cells if cell in given_up]
    limit = Series(LIMIT, POLL, LOAN), LINE_BYTES
    schedule = _schedule(launches, [limit, *cells])
    for sequence, (launch, cell) in enumerate(schedule):
        if cell in given_up:
            continue
        report(sequence, len(schedule), f"peers, {cell[0].system} ({cell[0].mode})")
        key = _key(*cell, launch)
        try:
            measured = _limit() if cell is limit else _exchange(*cell, plan)
        except LaunchFailed as failure:  # whatever went wrong in a library, in its own processes
            given_up.add(cell)
            failures.append(key | {"reason": str(failure).strip().splitlines()[-1]})
        else:
            rows.append(key | {"sequence": sequence, "version": installed.get(cell[0].system, "")} | measured)
    report(len(schedule), len(schedule), "peers")
    parameters = {"sizes": list(sizes), "launches": launches, "blocks": plan.blocks, "block_ns": plan.block_ns}
    parameters |= {"samples": plan.samples, "bursts": plan.bursts}
    failed = pd.DataFrame(failures, columns=list(FAILURE)).astype(FAILURE)
    run.save("peers_failures", failed, parameters=parameters, seed=SEED, started=started)
    return run.save("peers", pd.DataFrame(rows), parameters=parameters, seed=SEED, started=started)


def _exchange(entry: Series, size: int, plan: profiles.PeerPlan) -> dict[str, Any]:
    with launched(exchange, *entry, size, plan.blocks, plan.block_ns, plan.samples, plan.bursts) as connection:
        row: dict[str, Any] = answer(connection, PATIENCE_S)
    return row


def _limit() -> dict[str, Any]:
    ((result, _),) = measure(tasks.ping_pong, "compiled", LIMIT, (LINE_BYTES,), 11, 1000)
    kept = ("rounds", "round_trip_ns", "round_trip_min_ns", "p50_ns", "p99_ns", "p999_ns", "verified")
    return {name: result[name] for name in kept}


def _versions(systems: Iterable[str]) -> tuple[dict[str, str], dict[str, str]]:
    """The version of each of `systems` that is installed, and the reason why another is not measured."""
    installed, missing = {}, {}
    for system in systems:
        try:
            installed[system] = PEERS[system].version()
        except metadata.PackageNotFoundError:
            missing[system] = f"{PEERS[system].distribution} is not installed: pip install 'zcipc[peers]'"
    return installed, missing


def _key(entry: Series, size: int, launch: int) -> dict[str, Any]:
    return {**entry._asdict(), "message_bytes": size, "launch": launch}


def _schedule(launches: int, cells: Sequence[_Cell]) -> list[tuple[int, _Cell]]:
    """Every cell once in each launch, in an order drawn anew for each."""
    order = random.Random(SEED)
    return [(launch, cell) for launch in range(launches) for cell in order.sample(cells, len(cells))]
