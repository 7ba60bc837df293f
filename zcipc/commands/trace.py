"""Where a number, a figure or a claim of a run comes from, down to rows, commit and machine; or what is made from a table."""

import argparse

HELP = "where a number, figure or claim comes from, and what is made from a table"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="reference, for one")
    parser.add_argument(
        "name", metavar="NAME", help="a number as the article prints it, a key of numbers.json, a table, a figure or a claim"
    )


def run(options: argparse.Namespace) -> int:
    from zcipc.lab.publishing import trace
    from zcipc.lab.runs import results

    blocks = trace.trace(results.Run.open(options.run), options.name)
    print("\n\n".join("\n".join(f"{heading:<13} {said}" for heading, said in facts.items()) for facts in blocks))
    return 0
