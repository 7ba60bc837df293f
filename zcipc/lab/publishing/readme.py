"""The table of claims in the README, made from `paper/claims.yml` and the verdicts of a run."""

import re
from itertools import product
from pathlib import Path

from zcipc.lab.errors import UsageError
from zcipc.lab.runs.provenance import write_bytes
from zcipc.lab.runs.results import Run
from zcipc.lab.verdicts import claims
from zcipc.lab.verdicts.evidence import RUNTIMES

_SHORT = {"paper": "paper's design", "zcipc": "zcipc"}
_BETWEEN = re.compile(r"(?<=<!-- claims -->\n).*?(?=<!-- /claims -->)", re.DOTALL)


def table(run: Run) -> str:
    """The verdict on each claim against the pipe, in either runtime and for either library, as a table in Markdown."""
    verdicts = run.load("claims")
    columns = list(product(RUNTIMES, claims.LIBRARIES))
    heads = [f"{_SHORT[library]}, {runtime}" for runtime, library in columns]
    lines = [f"| | claim | from | {' | '.join(heads)} |", "|---" * (3 + len(columns)) + "|"]
    for claim in claims.load():
        found = claims.by_combination(verdicts, claim)
        cells = [found[*column, claims.HEADLINE[-1]][0] for column in columns]
        lines.append(f"| {' | '.join([claim.id, claim.title, claim.source, *cells])} |")
    return "\n".join(lines) + "\n"


def between_markers(text: str) -> str:
    """What stands between the markers in `text`; `UsageError` when it has none."""
    found = _BETWEEN.search(text)
    if found is None:
        raise UsageError("there is no place for the table of claims: a line <!-- claims --> and, below, <!-- /claims -->")
    return found[0]


def update(path: Path, run: Run) -> None:
    """Put the table of `run` between the markers of the file at `path`."""
    text = path.read_text(encoding="utf-8")
    between_markers(text)
    write_bytes(path, _BETWEEN.sub(lambda _: table(run), text).encode())
