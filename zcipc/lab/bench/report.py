"""The command `zcipc bench`: run, print the rows and the bars, write them as JSON."""

import os
import sys
from collections.abc import Sequence
from itertools import groupby
from operator import attrgetter
from pathlib import Path

from rich.console import Console

from zcipc.lab.bench import SCENARIOS, bars, rows, tables
from zcipc.lab.bench.bars import BARS
from zcipc.lab.bench.run import run
from zcipc.lab.bench.scenario import Scenario, effort
from zcipc.lab.errors import LabError, UsageError
from zcipc.lab.runs import machine

ONLY_BARS = "bars"  # in place of a scenario: all are run, the bars alone are printed
STANDARD_OUTPUT = "-"


class OneCore(LabError):
    """The two processes of a pair would have to take turns on one core."""


def bench(only: Sequence[str], profile: str, peers: bool, json_file: str | None, console: Console) -> None:
    """Measure the scenarios named in `only`, or all.

    Raises:
        UsageError: there is no such scenario or profile; lists those that are.
        OneCore: there is no second core to answer while a process polls.
        LaunchFailed: a measuring process failed.
    """
    thorough = effort(profile)
    scenarios = chosen([name for name in only if name != ONLY_BARS])
    if len(os.sched_getaffinity(0)) < 2:
        raise OneCore("the bench needs two cores, one for each process of a pair; this process may use only one")
    samples = run(scenarios, thorough, peers, console)
    lines = rows.rows(samples)
    judged = bars.judge(BARS, samples)
    measured = [entry for entry in judged if entry.estimate or len(scenarios) == len(SCENARIOS)]
    if ONLY_BARS not in only:
        for name, own in groupby(lines, key=attrgetter("scenario")):
            console.print(tables.rows_table(f"{name}: {SCENARIOS[name].what}", own), "")
    console.print(tables.bars_table(measured))
    if json_file is not None:
        text = rows.to_json(machine.describe(), lines, [entry.record() for entry in measured])
        _write(json_file, text)


def chosen(names: Sequence[str]) -> list[Scenario]:
    """The scenarios of these names, all if there are none, in their own order.

    Raises:
        UsageError: there is none of some name; lists those that are.
    """
    if unknown := [name for name in names if name not in SCENARIOS]:
        known = ", ".join([*SCENARIOS, ONLY_BARS])
        raise UsageError(f"there is no scenario {', '.join(map(repr, unknown))}; scenarios: {known}")
    return [scenario for name, scenario in SCENARIOS.items() if not names or name in names]


def _write(file: str, text: str) -> None:
    if file == STANDARD_OUTPUT:
        sys.stdout.write(text + "\n")
    else:
        Path(file).write_text(text + "\n", encoding="utf-8")
