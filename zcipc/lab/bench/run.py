"""Runs scenarios: every series once in each launch, in an order drawn anew, and says how far it is in between."""

import random
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import pandas as pd
from rich.console import Console

from zcipc.lab.bench import rows
from zcipc.lab.bench.scenario import Effort, Scenario, Series
from zcipc.lab.display import Display, Timeline, display
from zcipc.lab.launch import LaunchFailed, answer, launched
from zcipc.lab.progress import Progress

SEED = 20240
_LAUNCH_S = 0.3  # what one takes, roughly; once a scenario has begun, it tells better itself


def run(scenarios: Sequence[Scenario], effort: Effort, peers: bool, console: Console) -> pd.DataFrame:
    """The samples of all series, one record for each launch and metric; progress goes to `console`.

    Raises:
        LaunchFailed: a measuring process raised, died or hung; of a peer it is told and no error.
    """
    plan = {scenario.name: list(scenario.series(effort, peers)) for scenario in scenarios}
    timeline = Timeline({scenario.name: _expected(scenario, len(plan[scenario.name]), effort) for scenario in scenarios})
    samples: list[dict[str, Any]] = []
    with display(console, timeline) as shown:
        for scenario in scenarios:
            began = time.monotonic()
            for sample, at in _measured(scenario, plan[scenario.name], effort, shown):
                samples += sample
                shown.update(scenario.name, time.monotonic() - began, at)
            timeline.finished.append(scenario.name)
    return pd.DataFrame(samples)


def _expected(scenario: Scenario, series: int, effort: Effort) -> float:
    return effort.idle_s if scenario.together else series * effort.launches * _LAUNCH_S


def _measured(
    scenario: Scenario, series: list[Series], effort: Effort, shown: Display
) -> Iterator[tuple[list[dict[str, Any]], Progress]]:
    """The samples of one launch after the other, and how far that is."""
    if scenario.together:
        everyone = [(launch, entry) for launch in range(effort.launches) for entry in series]
        yield _at_once(scenario, everyone), Progress(1, 1, scenario.what)
        return
    order = random.Random(SEED)
    total = effort.launches * len(series)
    for launch in range(effort.launches):
        for turn, entry in enumerate(order.sample(series, len(series))):
            try:
                samples = _at_once(scenario, [(launch, entry)])
            except LaunchFailed as failure:
                if not entry.optional:
                    raise
                shown.message(f"{scenario.name}: {entry.system} is left out: {str(failure).splitlines()[-1]}")
                series.remove(entry)
                samples = []
            yield samples, Progress(launch * len(series) + turn + 1, total, scenario.what)


def _at_once(scenario: Scenario, launches: Sequence[tuple[int, Series]]) -> list[dict[str, Any]]:
    with ExitStack() as stack:
        connections = [stack.enter_context(launched(entry.task, *entry.arguments)) for _, entry in launches]
        return [
            rows.sample(scenario.name, entry, launch, measured)
            for (launch, entry), connection in zip(launches, connections, strict=True)
            for measured in entry.read(answer(connection))
        ]
