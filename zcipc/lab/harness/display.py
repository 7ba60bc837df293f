"""Progress of a whole run: bars in a terminal, lines anywhere else.

Both are told once a second at most: whoever draws uses a core that something else may be measuring.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bars

from zcipc.lab.harness import progress
from zcipc.lab.harness.progress import Progress

INTERVAL_S = 1.0
_SECONDS_BETWEEN_LINES = 15.0


@dataclass
class Timeline:
    """The expected seconds of each step that will run, in order, and how many of them have passed."""

    expected: dict[str, float]
    finished: list[str] = field(default_factory=list)

    def left(self, step: str, elapsed: float, fraction: float) -> float:
        """Seconds until the end of the run, `elapsed` into `step` and with `fraction` of it done.

        What the step itself reports counts, once it says enough; before that, what it took the last time.
        """
        later = [name for name in self.expected if name != step and name not in self.finished]
        here = elapsed / fraction - elapsed if fraction > 0.05 else max(self.expected[step] - elapsed, 0.0)
        return here + sum(self.expected[name] for name in later)

    def done(self, step: str, elapsed: float, fraction: float) -> float:
        """The part of the whole run that is behind us, between 0 and 1."""
        behind = sum(self.expected[name] for name in self.finished) + elapsed
        return behind / (behind + self.left(step, elapsed, fraction) or 1.0)


def clock(seconds: float) -> str:
    """75 -> '1:15'; 3675 -> '1:01:15'."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Display(Protocol):
    """What the runner tells while it works."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...
    def message(self, text: str) -> None:
        """Say something that stays."""
        ...

    def update(self, step: str, elapsed: float, at: Progress | None) -> None:
        """`elapsed` seconds into `step`, which last reported `at`."""
        ...


class Lines:
    """For a log file: a line now and then."""

    def __init__(self, console: Console, timeline: Timeline) -> None:
        self._console, self._timeline = console, timeline
        self._last = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def message(self, text: str) -> None:
        self._last = time.monotonic()
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def update(self, step: str, elapsed: float, at: Progress | None) -> None:
        if time.monotonic() - self._last >= _SECONDS_BETWEEN_LINES:
            left = self._timeline.left(step, elapsed, at.fraction if at else 0.0)
            self.message(f"  {step}: {at or 'at work'}, {clock(left)} left")


class Terminal:
    """For a person: one bar for the run, one for the step."""

    def __init__(self, console: Console, timeline: Timeline) -> None:
        self._timeline = timeline
        self._bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            auto_refresh=False,
            transient=True,
        )
        self._run = self._bars.add_task("run", total=1.0, note="")
        self._step = self._bars.add_task("", total=1.0, note="")

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def message(self, text: str) -> None:
        self._bars.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def update(self, step: str, elapsed: float, at: Progress | None) -> None:
        fraction = at.fraction if at else 0.0
        left = self._timeline.left(step, elapsed, fraction)
        done = self._timeline.done(step, elapsed, fraction)
        self._bars.update(self._run, completed=done, note=f"{clock(left)} left")
        self._bars.update(self._step, description=step, completed=fraction, note=str(at or "at work"))
        self._bars.refresh()


def display(console: Console, timeline: Timeline) -> Display:
    """The display that suits where `console` writes to."""
    return Terminal(console, timeline) if console.is_terminal else Lines(console, timeline)


@contextmanager
def watching(shown: Display, step: str, reports: Path) -> Iterator[None]:
    """Show how far `step` is, from the file of its `reports`, for as long as the block lasts."""
    stopped = threading.Event()
    started = time.monotonic()

    def watch() -> None:
        while not stopped.wait(INTERVAL_S):
            shown.update(step, time.monotonic() - started, progress.latest(reports))

    watcher = threading.Thread(target=watch, name="zcipc-display", daemon=True)
    shown.update(step, 0.0, None)
    watcher.start()
    try:
        yield
    finally:
        stopped.set()
        watcher.join()
