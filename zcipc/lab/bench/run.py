"""Runs scenarios: every series once in each launch, in an order drawn anew, and says how far it is in between."""

import random
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from operator import itemgetter
from typing import Any

import pandas as pd
from rich.console import Console

from zcipc.lab.bench import rows
from zcipc.lab.bench.scenario import Effort, Scenario, Series
from zcipc.lab.harness.display import Display, Timeline, display
from zcipc.lab.harness.launch import LaunchFailed, answer, launched
from zcipc.lab.harness.progress import Progress

SEED = 20240
_LAUNCH_S = 0.3  # what one takes, roughly; once a scenario has begun, it tells better itself


_Found = list[tuple[int, dict[str, Any]]]  # samples, each with the place of its series


def run(scenarios: Sequence[Scenario], effort: Effort, peers: bool, console: Console) -> pd.DataFrame:
    """The samples of all series, one record for each launch and metric; progress goes to `console`.

    Raises:
        LaunchFailed: a measuring process raised, died or hung; of a peer it is told and no error.
    """
    plan = {scenario.name: list(scenario.series(effort, peers)) for scenario in scenarios}
    timeline = Timeline({scenario.name: _expected(scenario, len(plan[scenario.name]), effort) for scenario in scenarios})
    samples: list[dict[str, Any]] = []  # in the order of the series, in which they are not measured
    with display(console, timeline) as shown:
        for scenario in scenarios:
            began = time.monotonic()
            found: _Found = []
            for new, at in _measured(scenario, plan[scenario.name], effort, shown):
                found += new
                shown.update(scenario.name, time.monotonic() - began, at)
            samples += [sample for _, sample in sorted(found, key=itemgetter(0))]
            timeline.finished.append(scenario.name)
    return pd.DataFrame(samples)


def _expected(scenario: Scenario, series: int, effort: Effort) -> float:
    return effort.idle_s if scenario.together else series * effort.launches * _LAUNCH_S


def _measured(
    scenario: Scenario, series: Sequence[Series], effort: Effort, shown: Display
) -> Iterator[tuple[_Found, Progress]]:
    """The samples of one launch after the other, and how far that is."""
    launches = range(effort.launches)
    if scenario.together:
        everyone = [(launch, place, entry) for launch in launches for place, entry in enumerate(series)]
        yield _at_once(scenario, everyone), Progress(1, 1, scenario.what)
        return
    order = random.Random(SEED)
    places = list(range(len(series)))
    for launch in launches:
        for turn, place in enumerate(order.sample(places, len(places))):
            found: _Found = []
            try:
                found = _at_once(scenario, [(launch, place, series[place])])
            except LaunchFailed as failure:
                if not series[place].optional:
                    raise
                shown.message(f"{scenario.name}: without {series[place].system}: {str(failure).splitlines()[-1]}")
                places.remove(place)
            yield found, Progress(launch * len(series) + turn + 1, len(launches) * len(series), scenario.what)


def _at_once(scenario: Scenario, launches: Sequence[tuple[int, int, Series]]) -> _Found:
    with ExitStack() as stack:
        connections = [stack.enter_context(launched(entry.task, *entry.arguments)) for _, _, entry in launches]
        return [
            (place, rows.sample(scenario.name, entry, launch, measured))
            for (launch, place, entry), connection in zip(launches, connections, strict=True)
            for measured in entry.read(answer(connection))
        ]
