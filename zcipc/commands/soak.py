"""Traffic between two processes for as long as you like, in every size and way, every byte checked.

Memory, what is open and latency must stay flat. The docstring of zcipc.lab.soak.judge has the rule that decides.
"""

import argparse

from zcipc.commands.console import console

HELP = "hours of checked traffic; memory and latency must stay flat"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=60.0, help="how long (default: 60)")
    parser.add_argument("--json", metavar="FILE", help="write the verdicts and every interval there")


def run(options: argparse.Namespace) -> int:
    from zcipc.lab.soak import run as soak

    soak.soak(options.seconds, options.json, console())
    return 0
