"""Every fault on every peer, several times, as a table; kept as data, with versions and machine.

`data/faults.json` holds the last figures that were kept. The table in RELIABILITY.md and the article's are made of it.
"""

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd

from zcipc.lab.errors import UsageError
from zcipc.lab.faults import left
from zcipc.lab.faults.cases import FAULTS, Outcome
from zcipc.lab.faults.pair import Pair
from zcipc.lab.harness.progress import report
from zcipc.lab.peers import PEERS
from zcipc.lab.runs import machine, provenance
from zcipc.lab.torture.processes import Victim, eventually

SYSTEMS = ("zcipc", "mp_pipe", "mp_queue", "mp_simple_queue", "faster_fifo", "kickmsg", "iceoryx2")
KEPT = Path("data/faults.json")
"""Below the root of the repository."""
NOT_INSTALLED = "not installed"
_LIMIT_S = 20.0  # for one repetition; the longest takes five
_PAST_DEATH_S = 0.2  # until the kernel and helpers of a library have seen that their processes are gone

Record = dict[str, Any]


def table(systems: Iterable[str] | None = None, faults: Iterable[str] | None = None, repetitions: int = 5) -> pd.DataFrame:
    """One row for each repetition of each of `faults` on each of `systems`; None: all.

    Columns: `system`, `version`, `fault`, `repetition`, `seen` (what the survivor got to see), `lost`, `torn` (messages) and
    `left` (what stayed after the death of all, as patterns of file names; only of "both_killed").

    Raises:
        UsageError: there is no such system or fault.
    """
    systems, faults = _known(systems, SYSTEMS, "system"), _known(faults, FAULTS, "fault")
    rows: list[Record] = []
    for index, system in enumerate(systems):
        try:
            version = PEERS[system].version()
        except metadata.PackageNotFoundError:
            rows += [_row(system, "", fault, 0, Outcome(NOT_INSTALLED), []) for fault in faults]
            continue
        for number, fault in enumerate(faults):
            report(index * len(faults) + number, len(systems) * len(faults), f"{system}, {FAULTS[fault].title}")
            for repetition in range(repetitions):
                rows.append(_row(system, version, fault, repetition, *_repetition(system, fault)))
    report(1, 1, "faults")
    return pd.DataFrame(rows)


def _known(names: Iterable[str] | None, known: Iterable[str], what: str) -> Sequence[str]:
    chosen = list(known if names is None else names)
    if unknown := set(chosen) - set(known):
        raise UsageError(f"there is no {what} {', '.join(sorted(unknown))}; there are: {', '.join(known)}")
    return chosen


def _row(system: str, version: str, fault: str, repetition: int, outcome: Outcome, remains: list[str]) -> Record:
    key = {"system": system, "version": version, "fault": fault, "repetition": repetition}
    return key | outcome._asdict() | {"left": remains}


def _repetition(system: str, fault: str) -> tuple[Outcome, list[str]]:
    """What was seen, and what was left once all processes were killed."""
    before = left.files()
    source, sink = os.pipe()

    def inflict() -> None:
        os.setsid()  # so that all can be killed as one
        outcome = FAULTS[fault].inflict(Pair(system, FAULTS[fault].length))
        os.write(sink, json.dumps(outcome).encode())
        signal.pause()

    with Victim(inflict) as launch:
        os.set_blocking(source, False)
        answer = _answer(source)
        with suppress(ProcessLookupError):  # it did not get so far as to make its group
            os.killpg(launch.pid, signal.SIGKILL)
    os.close(source)
    os.close(sink)
    time.sleep(_PAST_DEATH_S)
    remains = left.abandoned(left.files() - before)
    names = left.patterns(remains)
    for path in remains:
        path.unlink(missing_ok=True)
    outcome = Outcome("the library ended its process") if answer is None else Outcome(*json.loads(answer))
    return (
        (outcome, []) if fault != "both_killed" else (outcome._replace(seen="leaves files" if names else "nothing left"), names)
    )


def _answer(source: int) -> bytes | None:
    found: list[bytes] = []

    def look() -> bool:
        try:
            found.append(os.read(source, 4096))
        except BlockingIOError:
            return False
        return True

    return found[0] if eventually(look, _LIMIT_S) else None


# --- keeping and showing


def keep(rows: pd.DataFrame, path: Path) -> None:
    """Write `rows` to `path`, in place of what it holds of the same systems; other systems stay."""
    old = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []
    measured = set(rows["system"])
    kept = [row for row in old if row["system"] not in measured] + rows.to_dict(orient="records")
    kept.sort(key=lambda row: (SYSTEMS.index(row["system"]), list(FAULTS).index(row["fault"]), row["repetition"]))
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"finished": provenance.now().isoformat(), "machine": machine.describe(), "rows": kept}
    provenance.write_json(path, content)


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """A line for each fault, a column for each system, by their titles: what was seen, and how often if not always."""
    cells = rows.groupby(["fault", "system"], sort=False).apply(_cell, include_groups=False).unstack("system")
    cells = cells.reindex(index=[name for name in FAULTS if name in cells.index])
    cells = cells.reindex(columns=[name for name in SYSTEMS if name in cells.columns])
    return cells.rename(index={name: FAULTS[name].title for name in FAULTS}, columns=lambda name: PEERS[name].title)


def _cell(repetitions: pd.DataFrame) -> str:
    times = len(repetitions)
    seen = [what + _share(count, times) for what, count in Counter(repetitions["seen"]).most_common()]
    losses = [
        f"{what} messages{_share(int((repetitions[what] > 0).sum()), times)}"
        for what in ("lost", "torn")
        if repetitions[what].any()
    ]
    return "; ".join(seen + losses)


def _share(count: int, times: int) -> str:
    return "" if count == times else f" {count}/{times}"


def load(path: Path) -> pd.DataFrame:
    """The rows that `keep` wrote."""
    return pd.DataFrame(json.loads(path.read_text(encoding="utf-8"))["rows"])
