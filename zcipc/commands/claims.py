"""The verdict on each claim of the paper, as a run decided it."""

import argparse

from zcipc.commands.console import console

HELP = "the verdict on each claim of the paper"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", nargs="?", default="reference", help="default: reference")


def run(options: argparse.Namespace) -> int:
    from zcipc.lab import claims, results

    console().print(claims.render(results.Run.open(options.run).load("claims")))
    return 0
