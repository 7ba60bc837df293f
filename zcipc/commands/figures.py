"""Draw figures and article of a run again from saved data; measure nothing."""

import argparse

from zcipc.commands.console import console

HELP = "draw figures and article again from saved data"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", nargs="?", default="reference", help="default: reference")
    parser.add_argument("--only", metavar="NAME", action="append", default=[], help="as for reproduce")


def run(options: argparse.Namespace) -> int:
    from zcipc.lab import runner

    runner.redraw(options.run, only=options.only, console=console())
    return 0
