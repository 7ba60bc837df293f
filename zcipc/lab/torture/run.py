"""Rounds in turn, until the time is over or there have been enough, and the table of what they did."""

import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from itertools import count, islice
from multiprocessing import forkserver
from pathlib import Path
from random import Random

from rich.console import Console
from rich.table import Table

from zcipc.lab.errors import LabError, UsageError
from zcipc.lab.harness.progress import report
from zcipc.lab.torture import (
    broadcasts,
    calls,
    corruption,
    crowds,
    exhaustion,
    kills,
    objects,
    sabotage,
    stops,
    sweep,
    takeover,
)
from zcipc.lab.torture.tally import FAULTS, Tally

ROUNDS: Mapping[str, Callable[[Random], Tally]] = {
    "sweep": sweep.sweep,
    "kills": kills.channels,
    "pairs": kills.pairs,
    "objects": objects.objects,
    "takeovers": takeover.takeovers,
    "crowds": crowds.crowds,
    "broadcasts": broadcasts.broadcasts,
    "calls": calls.calls,
    "semaphores": kills.semaphores,
    "stops": stops.stops,
    "corruption": corruption.corruption,
    "sabotage": sabotage.sabotage,
    "exhaustion": exhaustion.exhaustion,
}
STANDARD_OUTPUT = "-"


class Suffered(LabError):
    """A survivor lost something, hung or leaked."""


def torture(
    seconds: float, seed: int, only: Sequence[str], rounds: int | None, json_file: str | None, console: Console
) -> None:
    """Round after round with the seeds from `seed` on, for `seconds` or until there were `rounds`; then the table.

    As many rounds run at a time as there are cores, each in a process of its own kind: survivors mostly wait.

    Raises:
        UsageError: there is no such round.
        Suffered: not everything from `lost` on is zero; says how to see it again.
        KeyboardInterrupt: after the table of the rounds so far.
    """
    if unknown := set(only) - set(ROUNDS):
        raise UsageError(f"there is no round {', '.join(sorted(unknown))}; rounds: {', '.join(ROUNDS)}")
    names = [name for name in ROUNDS if not only or name in only]
    total, failures = Tally(), []
    start = time.monotonic()
    stopped = None
    try:
        for own_seed, name, done in _finished(islice(_turns(names, seed), rounds), start + seconds):
            report(int(min(time.monotonic() - start, seconds)), int(seconds), f"torture, {total.kills:,} kills so far,")
            total.add(done)
            failures += [
                f"{line}\n    again: zcipc torture --only {name} --seed {own_seed} --rounds 1" for line in done.failures
            ]
    except KeyboardInterrupt as interrupt:
        stopped = interrupt
    result = {"seconds": round(time.monotonic() - start, 1), **total.counts()}
    if json_file is not None:
        _write(json_file, json.dumps({"seed": seed, **result}, indent=2))
    console.print(_table(result))
    if failures:
        raise Suffered("\n".join([f"{total.faults} faults", *failures]))
    if stopped:
        raise stopped


def _finished(turns: Iterator[tuple[int, str]], deadline: float) -> Iterator[tuple[int, str, Tally]]:
    """Run the rounds, none begun after the deadline; each with its tally as it ends."""
    at_a_time = len(os.sched_getaffinity(0))
    _start_server()
    with ProcessPoolExecutor(at_a_time, multiprocessing.get_context("forkserver")) as pool:
        running: dict[Future[Tally], tuple[int, str]] = {}
        while True:
            while len(running) < at_a_time and time.monotonic() < deadline and (turn := next(turns, None)):
                running[pool.submit(_round, *turn)] = turn
            if not running:
                return
            ended, _ = wait(running, return_when=FIRST_COMPLETED)
            for one in ended:
                yield *running.pop(one), one.result()


def _start_server() -> None:
    """Start the server that all rounds are forked from, none of which ever gets the terminal's Ctrl-C: it finishes."""
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _round(seed: int, name: str) -> Tally:
    return ROUNDS[name](Random(seed))


def _turns(names: Sequence[str], seed: int) -> Iterator[tuple[int, str]]:
    """Seed and name of each round."""
    for index in count():
        yield seed + index, names[index % len(names)]


def _table(result: Mapping[str, float]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("counted")
    table.add_column("", justify="right")
    for name, value in result.items():
        style = ("green" if value == 0 else "bold red") if name in FAULTS else None
        table.add_row(name.replace("_", " "), f"{value:,}", style=style)
    return table


def _write(file: str, text: str) -> None:
    if file == STANDARD_OUTPUT:
        sys.stdout.write(text + "\n")
    else:
        Path(file).write_text(text + "\n", encoding="utf-8")
