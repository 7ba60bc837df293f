"""What on this machine disturbs a measurement or limits the library, and what to do about it."""

import argparse

from zcipc.commands.console import console

HELP = "what on this machine disturbs a measurement or limits the library"
_COLOURS = {"ok": "green", "note": "cyan", "warn": "yellow", "bad": "bold red"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """It has none."""


def run(_: argparse.Namespace) -> int:
    from zcipc.lab.runs import machine

    out = console()
    for finding in machine.doctor():
        out.print(f"[{_COLOURS[finding.level]}]{finding.level:>4}[/]  ", end="")
        out.print(finding.what, markup=False, highlight=False)
        for detail in (finding.why, finding.remedy and f"-> {finding.remedy}"):
            if detail:
                out.print(f"      {detail}", markup=False, highlight=False)
    return 0
