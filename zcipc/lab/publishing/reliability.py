"""The last figures of torture, soak and faults: kept as data, shown in RELIABILITY.md and in the article.

`zcipc torture --json`, `zcipc soak --json` and `zcipc faults --json` write the data;
`python -m zcipc.lab.publishing.reliability` puts the tables into RELIABILITY.md, each between two comments. The article reads
the same files. What was not measured says so.
"""

import json
from pathlib import Path
from typing import Any

from zcipc.lab.faults import run as faults
from zcipc.lab.peers import PEERS
from zcipc.lab.publishing import markdown
from zcipc.lab.runs.results import ROOT

DOCUMENT = Path("RELIABILITY.md")
TORTURE, SOAK, FAULTS = Path("data/torture.json"), Path("data/soak.json"), faults.KEPT
NOT_MEASURED = "*Not measured yet.*"

Record = dict[str, Any]


def facts(root: Path = ROOT) -> Record:
    """What the data below `root` say, ready for JSON; None for what was not measured."""
    return {"torture": _read(root / TORTURE), "soak": _soak(root / SOAK), "faults": _faults(root / FAULTS)}


def filled(text: str, root: Path = ROOT) -> str:
    """RELIABILITY.md with the tables of the data below `root` in their places."""
    found = facts(root)
    tables = {"torture": _torture_table, "soak": _soak_table, "faults": _faults_table}
    return markdown.filled(text, {name: table(found[name]) if found[name] else NOT_MEASURED for name, table in tables.items()})


def _read(path: Path) -> Record | None:
    if not path.exists():
        return None
    content: Record = json.loads(path.read_text(encoding="utf-8"))
    return content


def _soak(path: Path) -> Record | None:
    content = _read(path)
    return content and {name: value for name, value in content.items() if name != "intervals"}


def _faults(path: Path) -> Record | None:
    content = _read(path)
    if content is None:
        return None
    rows = faults.load(path)
    cells = faults.summary(rows)
    versions = rows.groupby("system", sort=False)["version"].first()
    return {
        "repetitions": int(rows["repetition"].max()) + 1,
        "systems": list(cells.columns),
        "versions": {PEERS[system].title: version for system, version in versions.items()},
        "kernel": content["machine"]["kernel"],
        "faults": list(cells.index),
        "seen": cells.to_numpy().tolist(),
    }


def _torture_table(counts: Record) -> str:
    return markdown.table(["counted", ""], [[name.replace("_", " "), f"{value:,}"] for name, value in counts.items()], "lr")


def _soak_table(soak: Record) -> str:
    said = f"{soak['messages']:,} messages there and back in {soak['seconds']:,.0f} s, {soak['wrong']:,} of them wrong."
    numbers = ("median", "gain", "low", "high", "allowed")
    rows = [
        [one["series"].replace("_", " "), *(f"{one[name]:,.0f}" for name in numbers), one["verdict"]]
        for one in soak["verdicts"]
    ]
    return f"{said}\n\n{markdown.table(['series', 'median', 'gain', 'at least', 'at most', 'allowed', ''], rows, 'lrrrrrl')}"


def _faults_table(found: Record) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    said = f"{found['repetitions']} repetitions of each, Linux {found['kernel']}; {versions}."
    rows = [[fault, *seen] for fault, seen in zip(found["faults"], found["seen"], strict=True)]
    return f"{said}\n\n{markdown.table(['', *found['systems']], rows, 'l' * (1 + len(found['systems'])))}"


if __name__ == "__main__":
    document = ROOT / DOCUMENT
    document.write_text(filled(document.read_text(encoding="utf-8")), encoding="utf-8")
