"""One page with everything a run says, which opens offline: data/RUN/report.html; and its description as an RO-Crate."""

import argparse

HELP = "one self-contained page with everything a run says"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", nargs="?", default="reference", help="default: reference")


def run(options: argparse.Namespace) -> int:
    from zcipc.lab.publishing import report
    from zcipc.lab.runs import results

    print(report.build(results.Run.open(options.run)))
    return 0
