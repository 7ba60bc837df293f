"""The whole reproduction: each step that has to be done, in order, stoppable and resumable at any moment."""

import fcntl
import json
import os
import shlex
import shutil
import signal
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import yaml
from rich.console import Console

from zcipc.lab.errors import LabError, UsageError
from zcipc.lab.harness import progress
from zcipc.lab.harness.display import Display, Timeline, clock, display, watching
from zcipc.lab.runs import notebook, profiles, provenance, records
from zcipc.lab.runs.records import State, notebook_path
from zcipc.lab.runs.results import ROOT, Run, check_name
from zcipc.lab.runs.steps import STEPS, Step

_GIVEN_OTHERWISE = {"run": "--run", "profile": "--profile", "measure": "`zcipc figures`"}


class Stopped(LabError):
    """The run was interrupted; what was finished is kept."""

    def __init__(self, message: str, signum: int) -> None:
        super().__init__(message)
        self.exit_status = 128 + signum


class _Signal(KeyboardInterrupt):
    def __init__(self, signum: int) -> None:
        super().__init__()
        self.signum = signum


@dataclass(frozen=True)
class StepStatus:
    """One line of `zcipc status`."""

    step: Step
    state: State
    finished: str | None
    seconds: float | None


@dataclass
class _Job:
    """What `reproduce` and `redraw` share: the run, its steps and where to report."""

    run: Run
    steps: tuple[Step, ...]
    console: Console
    measure: bool
    overrides: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def settings(self, step: Step) -> dict[str, Any]:
        """The parameters that were set by hand for `step`."""
        return dict(self.overrides.get(step.name, {}))


def reproduce(
    name: str,
    profile: str,
    *,
    only: Sequence[str] = (),
    settings: Sequence[str] = (),
    force: bool = False,
    root: Path = ROOT,
    steps: tuple[Step, ...] = STEPS,
    console: Console | None = None,
) -> None:
    """Bring the run `name` up to date: measure, draw, judge and typeset whatever is not done yet.

    `only` names steps, notebooks, tables or figures: these alone are done, after whatever they need that is
    missing. `settings` are `key=value`, the value in YAML, for the notebooks that declare `key`. `force` does
    again what is done already, and lets a run of another profile or machine begin anew.

    Raises `UsageError` for what does not exist, `StepFailed` when a notebook fails, `Stopped` on a signal.
    """
    profiles.profile(profile)  # raises for an unknown one
    check_home(root)
    wanted = select(only, steps)
    if force:
        _discard_other(root, name, profile)
    run = Run.open(name, profile, root)
    needed = _with_missing_needs(run, wanted, steps) if only else wanted
    job = _Job(run, needed, console or Console(), True, parse_settings(settings, needed, root))
    forced = {step.name for step in wanted} if force else set()
    resume = ["zcipc", "reproduce", "--profile", profile, "--run", name]
    resume += [word for item in only for word in ("--only", item)]
    resume += [word for item in settings for word in ("--set", item)]
    with _alone(root), _interruptible(job, shlex.join(resume)):
        _work_through(job, forced)


def redraw(
    name: str,
    *,
    only: Sequence[str] = (),
    root: Path = ROOT,
    steps: tuple[Step, ...] = STEPS,
    console: Console | None = None,
) -> None:
    """Draw the figures of the run `name` again, and typeset its article, from its saved tables.

    Raises what `reproduce` does, and `UsageError` when the run does not exist or lacks a measured table.
    """
    check_home(root)
    run = Run.open(name, None, root)
    chosen = select(only, steps)
    missing = [table for step in chosen if step.measures for table in step.tables if not run.has(table)]
    if missing:
        raise UsageError(
            f"run {name!r} cannot be redrawn: it lacks {', '.join(missing)}. Measure first: "
            f"zcipc reproduce --profile {run.profile} --run {name}"
        )
    job = _Job(run, chosen, console or Console(), False)
    with _alone(root), _interruptible(job, f"zcipc figures {name}"):
        _work_through(job, {step.name for step in chosen})


def status(name: str, root: Path = ROOT, steps: tuple[Step, ...] = STEPS) -> list[StepStatus]:
    """How each step of the run `name` stands, with the parameters it was last given."""
    run = Run.open(name, None, root)
    lines = []
    for step in steps:
        record = records.read(run, step)
        state = records.state(run, step, record.get("parameters", {}))
        lines.append(StepStatus(step, state, record.get("finished"), record.get("duration_s")))
    return lines


def check_home(root: Path) -> None:
    """Raise `UsageError` when `root` holds no notebooks."""
    if not (root / "notebooks").is_dir():
        raise UsageError(f"there are no notebooks in {root}: go to a clone of the repository, or let ZCIPC_HOME name one")


def select(names: Sequence[str], steps: tuple[Step, ...] = STEPS) -> tuple[Step, ...]:
    """The steps that answer to `names`, in their order; all of them for no names."""
    for name in names:
        if not any(name in step.names() for step in steps):
            valid = "\n".join(f"  {', '.join(step.names())}" for step in steps)
            raise UsageError(f"there is no step, notebook, table or figure {name!r}; there are:\n{valid}")
    return tuple(step for step in steps if not names or set(names) & set(step.names()))


def parse_settings(settings: Iterable[str], steps: Iterable[Step], root: Path = ROOT) -> dict[str, dict[str, Any]]:
    """`["launches=3"]` as `{step: {"launches": 3}}`, for each step whose notebook declares the parameter."""
    given = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise UsageError(f"--set {setting}: expected key=value")
        if key in _GIVEN_OTHERWISE:
            raise UsageError(f"--set {setting}: {key} is given by {_GIVEN_OTHERWISE[key]}")
        given[key] = _parse_value(setting, text)
    if not given:
        return {}
    declared = {step.name: _declared(step, root) for step in steps}
    for key in given:
        if not any(key in names for names in declared.values()):
            valid = "\n".join(f"  {step}: {', '.join(names)}" for step, names in declared.items() if names)
            raise UsageError(f"--set {key}: no notebook of this run has that parameter; there are:\n{valid or '  none'}")
    return {step: {key: given[key] for key in names if key in given} for step, names in declared.items()}


def _parse_value(setting: str, text: str) -> Any:
    """YAML, in which a plain comma makes a list: `sizes=64,128`."""
    try:
        value = yaml.safe_load(text)
        return yaml.safe_load(f"[{text}]") if isinstance(value, str) and "," in text else value
    except yaml.YAMLError as error:
        raise UsageError(f"--set {setting}: the value is not YAML: {error}") from error


def _declared(step: Step, root: Path) -> list[str]:
    path = notebook_path(root, step)
    names = notebook.parameters_of(path) if step.notebook and path.exists() else ()
    return [name for name in names if name not in _GIVEN_OTHERWISE]


def _with_missing_needs(run: Run, wanted: tuple[Step, ...], steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """`wanted` and, before them, the steps that make what they read and is not there."""
    names = {step.name for step in wanted}
    for step in reversed(steps):  # a step's needs come before it, so one pass backwards reaches everything
        if step.name in names:
            read = {*step.needs, *step.needs_figures}
            made_by = [other for other in steps if read & {*other.tables, *other.figures}]
            names |= {other.name for other in made_by if records.missing_outputs(run, other)}
    return tuple(step for step in steps if step.name in names)


def _discard_other(root: Path, name: str, profile: str) -> None:
    """Remove the run `name` if it was made with another profile, or measured on another machine."""
    record = root / "data" / check_name(name) / "run.json"
    if not record.exists():
        return
    try:
        Run.open(name, profile, root).check_machine()
    except UsageError:
        for kind in ("data", "figures", "paper"):
            shutil.rmtree(root / kind / name, ignore_errors=True)


def _work_through(job: _Job, forced: set[str]) -> None:
    """Do the steps that are forced or not up to date; each is looked at when those before it are finished."""
    ahead = [step for step in job.steps if step.name in forced or _state(job, step).state != "done"]
    timeline = Timeline({step.name: _expected_seconds(job.run, step) for step in job.steps})
    timeline.finished += [step.name for step in job.steps if step not in ahead]
    began = time.monotonic()
    with display(job.console, timeline) as shown:
        verb = "" if job.measure else ", from saved data"
        expected = clock(sum(timeline.expected[step.name] for step in ahead))
        shown.message(f"run {job.run.name}, profile {job.run.profile}{verb}: about {expected} to go")
        for step in job.steps:
            state = _state(job, step)
            if step.name not in forced and state.state == "done":
                shown.message(f"  {step.name}: up to date")
            else:
                _do(job, step, state, shown)
            if step.name not in timeline.finished:
                timeline.finished.append(step.name)
        shown.message(f"finished after {clock(time.monotonic() - began)}")


def _state(job: _Job, step: Step) -> State:
    return records.state(job.run, step, job.settings(step))


def _do(job: _Job, step: Step, state: State, shown: Display) -> None:
    if job.measure and step.measures:
        job.run.check_machine()  # before it takes minutes, not after
    because = f" ({state.reason})" if state.reason and job.measure else ""
    shown.message(f"  {step.name}: {step.title}{because}")
    started, began = provenance.now(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="zcipc-") as scratch:
        reports = Path(scratch) / "progress"
        with watching(shown, step.name, reports):
            if step.notebook:
                _execute(job, step, {progress.VARIABLE: str(reports), "ZCIPC_HOME": str(job.run.root)})
            else:
                _assemble(job.run, step)
    _check_promises(job.run, step)
    record = records.write if job.measure else records.redrawn
    record(job.run, step, job.settings(step), started)
    shown.message(f"  {step.name}: done in {clock(time.monotonic() - began)}")


def _execute(job: _Job, step: Step, environment: Mapping[str, str]) -> None:
    kept = job.run.data / "notebooks" / ("" if job.measure else "redrawn")
    given = {"run": job.run.name, "profile": job.run.profile, "measure": job.measure}
    source = notebook_path(job.run.root, step)
    if not source.exists():
        raise UsageError(f"{source} does not exist")
    notebook.execute(source, kept / source.name, given | job.settings(step), environment)


def _assemble(run: Run, step: Step) -> None:
    if step.pages:
        from zcipc.lab.publishing import report

        report.build(run)
    else:
        from zcipc.lab.publishing import article  # brings a whole typesetter, which no other step needs

        article.build(run)


def _check_promises(run: Run, step: Step) -> None:
    if missing := records.missing_outputs(run, step):
        raise LabError(f"{step.name} ended without an error but did not make {', '.join(missing)}")


def _expected_seconds(run: Run, step: Step) -> float:
    """What the step took the last time: in this run, in another of its profile, or where it was written."""
    others = sorted((run.root / "data").glob(f"*/steps/{step.name}.json"), key=lambda path: path.stat().st_mtime)
    earlier = [json.loads(path.read_text(encoding="utf-8")) for path in reversed(others)]
    for record in (records.read(run, step), *earlier):
        if record.get("profile") == run.profile:
            return float(record["duration_s"])
    return step.seconds.get(run.profile, 10.0)


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """One run at a time: two would measure each other."""
    path = root / "data" / ".lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise LabError(f"process {file.read()} is measuring here: wait for it, or stop it") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


@contextmanager
def _interruptible(job: _Job, resume: str) -> Iterator[None]:
    """Ctrl-C and termination stop the step at work, once, and say how to go on."""
    caught = (signal.SIGINT, signal.SIGTERM)

    def stop(signum: int, _frame: FrameType | None) -> NoReturn:
        for each in caught:  # a second Ctrl-C would cut short the very work of leaving nothing behind
            signal.signal(each, signal.SIG_IGN)
        raise _Signal(signum)

    before = {each: signal.signal(each, stop) for each in caught}
    try:
        yield
    except _Signal as interrupt:
        message = f"stopped; what was finished is kept in {job.run.data}. To go on: {resume}"
        raise Stopped(message, interrupt.signum) from None
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
