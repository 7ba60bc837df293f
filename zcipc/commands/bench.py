"""Measure every scenario, interleaved, and judge each bar by what was measured in this run."""

import argparse

from zcipc.commands.console import console

HELP = "zcipc against what the hardware allows, the kernel and its peers"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--only", metavar="SCENARIO", action="append", default=[], help="may be repeated; bars: the table of bars alone"
    )
    parser.add_argument("--profile", default="quick", help="how thorough: smoke, quick (default) or full")
    parser.add_argument(
        "--peers", action=argparse.BooleanOptionalAction, default=True, help="the other libraries that are installed (default)"
    )
    parser.add_argument("--json", metavar="FILE", help="write rows and bars there; -: to standard output, and nothing else")


def run(options: argparse.Namespace) -> int:
    from zcipc.lab.bench import report

    report.bench(options.only, options.profile, options.peers, options.json, console(stderr=options.json == "-"))
    return 0
