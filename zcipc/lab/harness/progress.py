"""How far a long experiment is, from the notebook that runs it to whoever waits.

An experiment calls `report(done, total, label)` between launches, never while it measures. Below the runner
it is a line in the file that ZCIPC_PROGRESS names, which the runner shows with the time left; in a terminal
or a notebook, a line that overwrites itself. No thread is started: it would take time from what is measured.
"""

import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

VARIABLE = "ZCIPC_PROGRESS"


@dataclass(frozen=True)
class Progress:
    """`done` of `total` parts of what `label` names."""

    done: int
    total: int
    label: str = ""

    @property
    def fraction(self) -> float:
        """Between 0 and 1."""
        return min(max(self.done / self.total, 0.0), 1.0) if self.total else 0.0

    def __str__(self) -> str:
        return f"{self.label} {self.done}/{self.total}".strip()


def report(done: int, total: int, label: str = "") -> None:
    """Say that `done` of `total` parts are finished and `label` is what comes next or was last."""
    progress = Progress(done, total, label)
    if path := os.environ.get(VARIABLE):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(progress)) + "\n")
    elif (kernel := _kernel_shell()) is not None:
        _show_in_notebook(progress, kernel.execution_count)
    elif sys.stderr.isatty():
        end = "\n" if done >= total else ""
        print(f"\r\x1b[K{progress}", end=end, file=sys.stderr, flush=True)


def latest(path: Path) -> Progress | None:
    """The last report in the file at `path`; None before the first. A line half written does not count."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    lines = text[: text.rfind("\n") + 1].splitlines()
    return Progress(**json.loads(lines[-1])) if lines else None


_handles: dict[int, Any] = {}
"""The display of each notebook cell that reports, by the number of its execution."""


def _kernel_shell() -> Any:
    """The shell of the notebook kernel that this runs in; None anywhere else, whatever has been imported there."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell if hasattr(shell, "kernel") else None


def _show_in_notebook(progress: Progress, cell: int) -> None:
    from IPython.display import display

    content = {"text/plain": str(progress)}
    if cell in _handles:
        _handles[cell].update(content, raw=True)
    else:
        _handles[cell] = display(content, raw=True, display_id=True)
