"""The verdict on each claim of the paper, as a run decided it."""

import argparse
from pathlib import Path

from zcipc.commands.console import console

HELP = "the verdict on each claim of the paper"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", nargs="?", default="reference", help="default: reference")
    parser.add_argument("--into", metavar="FILE", type=Path, help="put them between the markers of this file: README.md")


def run(options: argparse.Namespace) -> int:
    from zcipc.lab.publishing import readme
    from zcipc.lab.runs import results
    from zcipc.lab.verdicts import claims

    found = results.Run.open(options.run)
    if options.into:
        readme.update(options.into, found)
    else:
        console().print(claims.render(found.load("claims")))
    return 0
