"""Runs side by side: verdicts, ratios and distributions, never absolute times; and in what their machines differ."""

import argparse

from zcipc.commands.console import console

HELP = "runs side by side, by ratio and never by absolute time"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", metavar="RUN", nargs="+", help="each is judged against the last; one alone: against reference")


def run(options: argparse.Namespace) -> int:
    from zcipc.lab.publishing import compare
    from zcipc.lab.runs import results

    names = options.runs if len(options.runs) > 1 else [*options.runs, "reference"]
    console().print(compare.render([results.Run.open(name) for name in names]))
    return 0
