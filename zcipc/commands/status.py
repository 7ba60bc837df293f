"""What of a run is done, what is stale and why, and what is missing."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from zcipc.commands.console import console

if TYPE_CHECKING:
    from zcipc.lab.runner import StepStatus

HELP = "what of a run is done, stale or missing"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", nargs="?", help="default: every run")


def run(options: argparse.Namespace) -> int:
    from zcipc.lab import runner
    from zcipc.lab.runs import results

    names = [options.run] if options.run else results.run_names()
    if not names:
        print("no run yet: zcipc reproduce")
    for name in names:
        _print(name, runner.status(name), results.Run.open(name).profile)
    return 0


def _print(name: str, lines: "Sequence[StepStatus]", profile: str) -> None:
    from rich.table import Table

    from zcipc.lab.harness.display import clock

    table = Table(title=f"{name} ({profile})", title_justify="left", box=None, pad_edge=False)
    for heading in ("step", "state", "finished (UTC)", "took", ""):
        table.add_column(heading)
    for line in lines:
        finished = (line.finished or "").replace("T", " ").removesuffix("+00:00")
        took = clock(line.seconds) if line.seconds is not None else ""
        table.add_row(line.step.name, line.state.state, finished, took, line.state.reason)
    console().print(table)
