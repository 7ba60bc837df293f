"""Kill, stop, corrupt and starve real processes for as long as you like, and count what that did to the others."""

import argparse

from zcipc.commands.console import console

HELP = "kill, stop, corrupt and starve; count what is lost, torn, hung or leaked"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="how long (default: 60); a round that has begun is finished"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the first round; each later one has the next number")
    parser.add_argument("--only", metavar="ROUND", action="append", default=[], help="kind of round; may be repeated")
    parser.add_argument("--rounds", type=int, metavar="N", help="no more than these")
    parser.add_argument("--json", metavar="FILE", help="write the counts there; -: to standard output, and nothing else")


def run(options: argparse.Namespace) -> int:
    from zcipc.lab.torture.run import torture

    out = console(stderr=options.json == "-")
    torture(options.seconds, options.seed, options.only, options.rounds, options.json, out)
    return 0
