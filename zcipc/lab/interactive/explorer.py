"""The widgets of `explore.ipynb`: a question to a run, its answer at once, and new measurements in the background."""

import asyncio
import io
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from itertools import chain
from pathlib import Path

import ipywidgets as widgets
import pandas as pd

from zcipc.lab.errors import LabError
from zcipc.lab.harness import progress
from zcipc.lab.interactive import measure
from zcipc.lab.interactive.explore import EXPERIMENTS, Question, runs_with
from zcipc.lab.plots.explore import VIEWS
from zcipc.lab.plots.style import LIMIT, RUNTIMES, TRANSPORTS, ThemedFigure, format_bytes
from zcipc.lab.runs.profiles import SIZES

_LOOK_S = 0.2  # between two looks at how far a measurement is
_WIDE = widgets.Layout(width="26em")


class Explorer(widgets.VBox):
    """Choose, and the figure answers; measure, and the run it went to is there to choose.

    Args:
        run: what to show first; the first run there is, if that one is not.
        measured_run: where new measurements go, made with profile `quick`.
    """

    def __init__(self, run: str = "reference", measured_run: str = "interactive") -> None:
        self._measured_run = measured_run
        self._figure: ThemedFigure | None = None
        self._rows = pd.DataFrame()
        self._measuring: asyncio.Task[None] | None = None
        self.experiment = widgets.Dropdown(options=list(EXPERIMENTS), description="experiment")
        self.run = widgets.Dropdown(description="run")
        self.view = widgets.Dropdown(options=list(VIEWS), description="view")
        self.statistic = widgets.Dropdown(description="statistic")
        self.runtime = widgets.Dropdown(options=[(title, name) for name, title in RUNTIMES.items()], description="runtime")
        self.transports = widgets.SelectMultiple(
            options=[(look.label, name) for name, look in TRANSPORTS.items()],
            value=tuple(TRANSPORTS),
            rows=len(TRANSPORTS),
            description="series",
            layout=_WIDE,
        )
        self.sizes = widgets.SelectMultiple(
            options=[(format_bytes(size), size) for size in SIZES], value=SIZES, rows=len(SIZES), description="sizes"
        )
        self.image = widgets.Image(format="png", layout=widgets.Layout(width="800px", max_width="100%"))
        self.notice = widgets.HTML()
        self.launches = widgets.BoundedIntText(value=3, min=1, max=50, description="launches")
        self.measure = widgets.Button(description="measure", icon="play", tooltip="the series and sizes chosen, anew")
        self.stop = widgets.Button(description="stop", icon="stop", disabled=True)
        self.bar = widgets.FloatProgress(max=1.0, layout=widgets.Layout(visibility="hidden"))
        self.export = widgets.Button(description="export", icon="download", tooltip="figure and data, beside the notebook")
        self._offer_runs(run)
        self._offer_statistics()
        for control in (self.run, self.view, self.statistic, self.runtime, self.transports, self.sizes):
            control.observe(lambda _: self._answer(), names="value")
        self.experiment.observe(lambda _: self._change_experiment(), names="value")
        self.measure.on_click(lambda _: self.start())
        self.stop.on_click(lambda _: self._measuring and self._measuring.cancel())
        self.export.on_click(lambda _: self.save(Path.cwd()))
        choices = widgets.VBox([self.run, self.experiment, self.view, self.statistic, self.runtime])
        series = widgets.HBox([choices, self.transports, self.sizes])
        actions = widgets.HBox([self.launches, self.measure, self.stop, self.bar, self.export])
        super().__init__([series, actions, self.notice, self.image])
        self._answer()

    def question(self) -> Question:
        """What the widgets ask now."""
        return Question(
            self.run.value,
            self.experiment.value,
            self.view.value,
            self.statistic.value,
            self.runtime.value,
            self.transports.value,
            self.sizes.value,
        )

    def save(self, folder: Path) -> list[Path]:
        """Write figure (SVG, PDF, PNG) and data (CSV) of the present answer to `folder`; their paths."""
        if self._figure is None:
            return []
        name = f"explore_{self.run.value}_{self.experiment.value}_{self.view.value}".replace(" ", "-")
        paths = [folder / f"{name}.{suffix}" for suffix in ("svg", "pdf", "png")]
        for path in paths:
            self._figure.savefig(path)
        data = folder / f"{name}.csv"
        self._rows.to_csv(data, index=False)
        self._say("saved " + ", ".join(path.name for path in (*paths, data)))
        return [*paths, data]

    def start(self) -> "asyncio.Task[None]":
        """Measure the chosen series and sizes in the background, as a task of the notebook's own event loop."""
        self._measuring = asyncio.get_running_loop().create_task(self._measure())
        return self._measuring

    def _answer(self) -> None:
        try:
            self._figure, self._rows = self.question().answer()
        except LabError as error:
            self._figure, self._rows = None, pd.DataFrame()
            self.image.value = b""
            self._say(str(error))
            return
        picture = io.BytesIO()
        self._figure.savefig(picture, format="png", dpi=144)
        self.image.value = picture.getvalue()
        self._say(f"{len(self._rows):,} rows of run {self.run.value}")

    def _say(self, text: str) -> None:
        self.notice.value = text

    def _offer_runs(self, preferred: str) -> None:
        names = runs_with(self.experiment.value)
        self.run.options = names
        self.run.value = preferred if preferred in names else next(iter(names), None)

    def _offer_statistics(self) -> None:
        names = list(EXPERIMENTS[self.experiment.value].statistics)
        self.statistic.options = names
        self.statistic.value = names[0]

    def _change_experiment(self) -> None:
        self._offer_runs(self.run.value)
        self._offer_statistics()
        self._answer()

    async def _measure(self) -> None:
        """Until it is done, fails or the task is cancelled; what was measured is kept only when it is done."""
        self.measure.disabled, self.stop.disabled, self.bar.layout.visibility = True, False, "visible"
        self._say(f"measuring {self.experiment.value} for run {self._measured_run}")
        try:
            await self._measured()
        except asyncio.CancelledError:
            self._say("stopped: nothing was kept")
        except LabError as error:
            self._say(str(error))
        else:
            self._offer_runs(self._measured_run)
            self._answer()
        finally:
            self.measure.disabled, self.stop.disabled, self.bar.layout.visibility = False, True, "hidden"
            self.bar.value = 0.0

    async def _measured(self) -> None:
        """Measure in a process of its own, killed with all its own if this is cancelled.

        Raises:
            LabError: it failed.
        """
        options = {
            "--launches": str(self.launches.value),
            "--sizes": ",".join(map(str, self.sizes.value)),
            "--transports": ",".join([*self.transports.value, LIMIT]),
        }
        command = [sys.executable, "-m", measure.__name__, self._measured_run, self.experiment.value, *chain(*options.items())]
        with tempfile.TemporaryDirectory() as folder:
            reports = Path(folder) / "progress"
            process = subprocess.Popen(
                command,
                env=os.environ | {progress.VARIABLE: str(reports)},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
            try:
                while process.poll() is None:
                    at = progress.latest(reports)
                    self.bar.value = at.fraction if at else 0.0
                    await asyncio.sleep(_LOOK_S)
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                _, complaint = process.communicate()
        if process.returncode != 0:
            raise LabError(complaint.decode().strip() or f"measuring ended with status {process.returncode}")
