"""The pipeline, on tiny notebooks: what is done, what is kept, how it stops and how it goes on."""

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from rich.console import Console

from zcipc.lab import runner
from zcipc.lab.errors import LabError, StepFailed, UsageError
from zcipc.lab.harness import progress
from zcipc.lab.harness.display import Timeline, clock
from zcipc.lab.harness.progress import Progress
from zcipc.lab.runs import notebook, records
from zcipc.lab.runs.results import Run
from zcipc.lab.runs.steps import STEPS, Step, maker

STEP_A = Step("00_first", "makes a table", measures=True, tables=("first",))
STEP_B = Step("01_second", "draws it", needs=("first",), figures=("fig1_second",))
PIPELINE = (STEP_A, STEP_B)

PARAMETERS = 'run = "interactive"\nprofile = "quick"\nmeasure = True\nrows = None'
# Like the real notebooks, but without the seconds that importing pandas and matplotlib takes.
OPEN = """
import os
from pathlib import Path
ROOT = Path(os.environ["ZCIPC_HOME"])
with (ROOT / "log").open("a") as log:
    print(run, profile, measure, rows, file=log)
"""
MAKE_TABLE = """
if measure:
    for suffix in ("csv", "parquet", "provenance.json"):
        (ROOT / "data" / run / f"first.{suffix}").write_text("x" * (rows or 3))
"""
DRAW = """
(ROOT / "figures" / run).mkdir(parents=True, exist_ok=True)
for suffix in ("svg", "pdf", "png", "pt.svg"):
    table = (ROOT / "data" / run / "first.csv").read_text()
    (ROOT / "figures" / run / f"fig1_second.{suffix}").write_text(table)
"""


def write_notebook(root, name, *cells, parameters=PARAMETERS):
    first = new_code_cell(parameters, metadata={"tags": ["parameters"]})
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    (root / "notebooks").mkdir(exist_ok=True)
    content = new_notebook(cells=[first, *map(new_code_cell, cells)], metadata=kernel)
    nbformat.write(content, root / "notebooks" / f"{name}.ipynb")


@pytest.fixture
def root(tmp_path):
    write_notebook(tmp_path, "00_first", OPEN, MAKE_TABLE)
    write_notebook(tmp_path, "01_second", OPEN, DRAW, parameters=PARAMETERS + "\ncolour = 'red'")
    return tmp_path


def reproduce(root, **options):
    """One run of the pipeline; what it printed."""
    said = io.StringIO()
    options = {"steps": PIPELINE, "root": root, "console": Console(file=said, width=200)} | options
    runner.reproduce("trial", options.pop("profile", "smoke"), **options)
    return said.getvalue()


def executions(root):
    """The lines that the notebooks logged since the last call."""
    log = root / "log"
    lines = log.read_text().splitlines() if log.exists() else []
    log.unlink(missing_ok=True)
    return lines


def states(root):
    return [line.state.state for line in runner.status("trial", root, PIPELINE)]


@pytest.mark.slow
def test_steps_are_done_once_and_again_only_when_something_changed(root):
    said = reproduce(root)
    assert executions(root) == ["trial smoke True None"] * 2
    assert "00_first: makes a table" in said
    assert "finished after" in said
    assert states(root) == ["done", "done"]
    assert not records.missing_outputs(Run.open("trial", None, root), STEP_B)
    assert (root / "data/trial/notebooks/01_second.ipynb").exists()

    assert "00_first: up to date" in reproduce(root)
    assert executions(root) == []

    write_notebook(root, "01_second", OPEN, DRAW, "1 + 1", parameters=PARAMETERS + "\ncolour = 'red'")
    assert states(root) == ["done", "stale"]
    assert "01_second: draws it (its notebook changed)" in reproduce(root)
    assert len(executions(root)) == 1

    (root / "figures/trial/fig1_second.svg").write_text("scribble")
    assert states(root) == ["done", "stale"]
    (root / "figures/trial/fig1_second.png").unlink()
    assert states(root) == ["done", "missing"]

    said = reproduce(root, settings=["rows=5"])
    assert "00_first: makes a table (its parameters changed)" in said
    assert executions(root) == ["trial smoke True 5"] * 2
    assert (root / "data/trial/first.csv").read_text() == "xxxxx"
    assert states(root) == ["done", "done"], "status remembers the parameters that were set"

    runner.redraw("trial", root=root, steps=PIPELINE, console=Console(file=io.StringIO()))
    assert [line.split()[2] for line in executions(root)] == ["False", "False"]
    assert (root / "data/trial/first.csv").read_text() == "xxxxx"
    assert states(root)[0] == "done", "drawing again leaves the measurement valid"


@pytest.mark.slow
def test_only_does_what_is_named_after_what_it_lacks(root):
    reproduce(root, only=["fig1"])
    assert len(executions(root)) == 2
    write_notebook(root, "00_first", OPEN, MAKE_TABLE, "2")
    reproduce(root, only=["01_second.ipynb"], force=True)
    assert len(executions(root)) == 1, "a table that is there is not made again for the sake of a figure"


@pytest.mark.slow
def test_drawing_again_changes_no_file(root):
    reproduce(root)
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file() and "redrawn" not in str(path)}
    runner.redraw("trial", root=root, steps=PIPELINE, console=Console(file=io.StringIO()))
    after = {path: path.read_bytes() for path in before}
    changed = [str(path.relative_to(root)) for path in before if before[path] != after[path]]
    assert set(changed) <= {"log", "data/.lock"}


@pytest.mark.slow
def test_a_failing_cell_stops_the_run_and_is_shown(root):
    write_notebook(root, "00_first", OPEN, "answer = 42", "assert answer == 43, 'not quite'\nlater = 1")
    with pytest.raises(StepFailed) as failure:
        reproduce(root)
    message = str(failure.value)
    assert "00_first failed in cell 4" in message
    assert "    assert answer == 43, 'not quite'\n    later = 1" in message
    assert "AssertionError: not quite" in message
    copy = root / "data/trial/notebooks/00_first.ipynb"
    assert str(copy) in message
    assert "not quite" in copy.read_text()
    assert states(root) == ["missing", "missing"]
    assert len(executions(root)) == 1, "the steps after it are not begun"


@pytest.mark.slow
def test_a_step_that_breaks_its_promise_is_an_error(root):
    write_notebook(root, "00_first", OPEN)
    with pytest.raises(LabError, match=r"did not make data/trial/first\.csv"):
        reproduce(root)


@pytest.mark.slow
def test_a_crashed_kernel_is_reported(root):
    write_notebook(root, "00_first", OPEN, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(StepFailed, match="its kernel died"):
        reproduce(root)


STUBBORN = """
import os, signal, time
if (ROOT / "stubborn").exists():
    if os.fork() == 0:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        (ROOT / "worker").write_text(str(os.getpid()))
        time.sleep(600)
    (ROOT / "kernel").write_text(str(os.getpid()))
    time.sleep(600)
"""
PROGRAM = """
import sys
from pathlib import Path
from zcipc.lab import runner
from zcipc.lab.errors import LabError
sys.path.insert(0, {tests!r})
from test_runner import PIPELINE
try:
    runner.reproduce("trial", "smoke", root=Path({root!r}), steps=PIPELINE)
except LabError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_status)
"""


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_run_leaves_no_process_and_goes_on_where_it_was(root, signum, status):
    write_notebook(root, "01_second", OPEN, STUBBORN, DRAW)
    (root / "stubborn").touch()
    program = PROGRAM.format(tests=str(Path(__file__).parent), root=str(root))
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True)
    pids = [root / "worker", root / "kernel"]
    wait_until(lambda: all(path.exists() and path.read_text() for path in pids))
    process.send_signal(signum)
    time.sleep(0.02)  # while the first one is at work: a little later the process may be past all this
    process.send_signal(signum)  # impatience changes nothing
    said = process.communicate(timeout=30)[1]
    assert process.returncode == status
    assert "To go on: zcipc reproduce --profile smoke --run trial" in said
    assert "Traceback" not in said
    for path in pids:
        wait_until(lambda path=path: not is_running(int(path.read_text())), 10)

    (root / "stubborn").unlink()
    executions(root)
    assert "00_first: up to date" in reproduce(root)
    assert len(executions(root)) == 1


def test_two_runs_at_once_are_refused(root):
    with runner._alone(root), pytest.raises(LabError, match=f"process {os.getpid()} is measuring"):
        reproduce(root)


def test_a_run_keeps_its_profile_unless_forced(root):
    marker = root / "data/trial/marker"
    Run.open("trial", "smoke", root)
    marker.touch()
    with pytest.raises(UsageError, match="made with profile 'smoke'"):
        reproduce(root, profile="quick")
    assert marker.exists()
    write_notebook(root, "00_first", "raise SystemExit('begun')")
    with pytest.raises(StepFailed):
        reproduce(root, profile="quick", force=True)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"profile": "quickk"}, ["'quickk'", "smoke", "quick", "full"]),
        ({"only": ["fig9"]}, ["'fig9'", "fig1", "01_second", "first"]),
        ({"settings": ["colr=3"]}, ["colr", "00_first: rows", "01_second: rows, colour"]),
        ({"settings": ["colour=3"], "only": ["first"]}, ["colour", "00_first: rows"]),
        ({"settings": ["profile=full"]}, ["--profile"]),
        ({"settings": ["rows"]}, ["key=value"]),
        ({"settings": ["rows={"]}, ["not YAML"]),
    ],
)
def test_what_does_not_exist_is_an_error_that_lists_what_does(root, options, words):
    with pytest.raises(UsageError) as failure:
        reproduce(root, **options)
    assert all(word in str(failure.value) for word in words)
    assert executions(root) == []


def test_settings_are_yaml_and_go_to_the_notebooks_that_declare_them(root):
    settings = ["rows=64,128", "colour=[blue, 1]"]
    parsed = runner.parse_settings(settings, PIPELINE, root)
    assert parsed == {
        "00_first": {"rows": [64, 128]},
        "01_second": {"rows": [64, 128], "colour": ["blue", 1]},
    }
    assert runner.parse_settings(["rows=null"], [STEP_A], root) == {"00_first": {"rows": None}}


def test_a_run_without_its_measurements_cannot_be_redrawn(root):
    Run.open("trial", "smoke", root)
    with pytest.raises(UsageError, match="lacks first"):
        runner.redraw("trial", root=root, steps=PIPELINE)
    with pytest.raises(UsageError, match="no run 'gone'"):
        runner.redraw("gone", root=root, steps=PIPELINE)


def test_a_place_without_notebooks_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no notebooks"):
        reproduce(tmp_path)


def test_the_digest_of_a_notebook_ignores_outputs(root):
    path = root / "notebooks/00_first.ipynb"
    before = notebook.digest(path)
    content = nbformat.read(path, as_version=4)
    content.cells[1].outputs = [nbformat.v4.new_output("stream", text="hello")]
    nbformat.write(content, path)
    assert notebook.digest(path) == before


def test_each_thing_the_pipeline_makes_has_one_maker():
    made = [name for step in STEPS for name in (*step.tables, *step.figures, *step.papers)]
    assert len(made) == len(set(made))
    for position, step in enumerate(STEPS):
        earlier = {name for other in STEPS[:position] for name in (*other.tables, *other.figures)}
        assert {*step.needs, *step.needs_figures} <= earlier, "a step reads only what steps before it make"
    answers = [name for step in STEPS for name in step.names()]
    assert len(answers) == len(set(answers)), "each name means one step"
    assert maker("fig5").name == "03_pingpong"
    assert maker("nothing") is None


def test_the_time_left_follows_what_a_step_reports():
    timeline = Timeline({"a": 10.0, "b": 100.0, "c": 50.0}, finished=["a"])
    assert timeline.left("b", elapsed=20, fraction=0.0) == 80 + 50
    assert timeline.left("b", elapsed=20, fraction=0.1) == 180 + 50
    assert timeline.left("b", elapsed=500, fraction=0.0) == 50
    assert timeline.done("b", elapsed=70, fraction=0.0) == 0.5
    assert (clock(75), clock(3675), clock(0.2)) == ("1:15", "1:01:15", "0:00")


def test_reports_reach_whoever_waits(tmp_path, monkeypatch):
    path = tmp_path / "reports"
    monkeypatch.setenv(progress.VARIABLE, str(path))
    assert progress.latest(path) is None
    progress.report(1, 4, "pipe")
    progress.report(2, 4, "zcipc")
    with path.open("a") as file:
        file.write('{"done": 3, "to')
    assert progress.latest(path) == Progress(2, 4, "zcipc")
    assert progress.latest(path).fraction == 0.5
    assert str(progress.latest(path)) == "zcipc 2/4"


def test_progress_outside_a_notebook_needs_none_though_its_packages_are_imported(monkeypatch, capsys):
    import ipykernel.zmqshell  # noqa: F401

    monkeypatch.delenv(progress.VARIABLE, raising=False)
    progress.report(1, 2, "half")
    assert capsys.readouterr() == ("", "")
