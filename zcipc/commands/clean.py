"""Remove the shared memory that dead processes left, and nothing else."""

import argparse

HELP = "remove the shared memory that dead processes left"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """It has none."""


def run(_: argparse.Namespace) -> int:
    from zcipc.memory import segment

    removed = segment.clean()
    for name in removed:
        print(f"removed /dev/shm/{name}")
    if not removed:
        print("nothing to remove")
    return 0
