"""Bring a run up to date. What is unchanged is kept; a stopped run goes on where it was."""

import argparse

from zcipc.commands.console import console

HELP = "measure, draw, judge and typeset whatever is not up to date"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--profile", default="quick", help="how thorough: smoke, quick (default) or full")
    parser.add_argument("--run", metavar="NAME", help="where results go: data/NAME, ... (default: the profile)")
    parser.add_argument(
        "--only",
        metavar="NAME",
        action="append",
        default=[],
        help="a figure, table, step or notebook; may be repeated",
    )
    parser.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="a notebook's parameter, in YAML: launches=3, sizes=64,4096; may be repeated",
    )
    parser.add_argument("--force", action="store_true", help="do again what is done; begin anew a run of another profile")
    parser.add_argument("--no-measure", action="store_true", help="draw again from saved data only")


def run(options: argparse.Namespace) -> int:
    from zcipc.lab import runner

    name = options.run if options.run is not None else options.profile
    if options.no_measure:
        runner.redraw(name, only=options.only, console=console())
    else:
        runner.reproduce(name, options.profile, only=options.only, settings=options.set, force=options.force, console=console())
    return 0
