"""The command line: what it accepts, what it refuses and with which words and exit status."""

import subprocess
import sys

import pandas as pd
import pytest

from zcipc import cli
from zcipc._version import __version__
from zcipc.lab import runner
from zcipc.lab.errors import StepFailed
from zcipc.lab.runner import Stopped
from zcipc.lab.runs import machine, results
from zcipc.lab.runs.machine import Finding
from zcipc.lab.runs.results import Run
from zcipc.memory import segment


@pytest.fixture
def calls(monkeypatch):
    """The calls that reach the runner, which does nothing."""
    made = []

    def note(name):
        return lambda *given, **options: made.append((name, given, options | {"console": None}))

    monkeypatch.setattr(runner, "reproduce", note("reproduce"))
    monkeypatch.setattr(runner, "redraw", note("redraw"))
    return made


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A root of its own, for the functions that look below the default one."""
    for function in (Run.open.__func__, results.run_names, runner.status, runner.reproduce, runner.redraw):
        defaults = function.__defaults__ and tuple(
            tmp_path if value == results.ROOT else value for value in function.__defaults__
        )
        monkeypatch.setattr(function, "__defaults__", defaults)
        if function.__kwdefaults__:
            monkeypatch.setattr(function, "__kwdefaults__", function.__kwdefaults__ | {"root": tmp_path})
    return tmp_path


def test_version(capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"zcipc {__version__}\n"


def test_python_m_zcipc_is_the_same_program():
    done = subprocess.run([sys.executable, "-m", "zcipc", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"zcipc {__version__}\n"


COMMANDS = ("reproduce", "figures", "status", "claims", "doctor", "clean", "ls", "top", "soak", "faults")


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)])
def test_help(command, capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.main([*command, "--help"])
    assert "usage: zcipc" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["reproduse"], ["status", "a", "b"]])
def test_a_wrong_command_is_a_usage_error(arguments, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(arguments)
    assert "usage: zcipc" in capsys.readouterr().err


def test_reproduce_hands_everything_on(calls):
    options = [
        "--profile=smoke",
        "--run=r",
        "--only=fig5",
        "--only=fig6",
        "--set=a=1",
        "--set=b=2",
        "--force",
    ]
    assert cli.main(["reproduce", *options]) == 0
    expected = {"only": ["fig5", "fig6"], "settings": ["a=1", "b=2"], "force": True, "console": None}
    assert calls == [("reproduce", ("r", "smoke"), expected)]


def test_a_run_is_called_like_its_profile_unless_named(calls):
    cli.main(["reproduce", "--profile", "full"])
    assert calls[0][1] == ("full", "full")


@pytest.mark.parametrize("arguments", [["reproduce", "--no-measure", "--run", "r"], ["figures", "r"]])
def test_drawing_again(calls, arguments):
    assert cli.main(arguments) == 0
    assert calls == [("redraw", ("r",), {"only": [], "console": None})]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["reproduce", "--profile", "tiny"], ["tiny", "smoke, quick, full"]),
        (["reproduce", "--run", "../x"], ["cannot name a run"]),
        (["reproduce", "--run", ""], ["it is empty"]),
        (["reproduce", "--only", "fig99"], ["fig99", "fig5_pingpong", "table1", "zcipc.pdf"]),
        (["status", "gone"], ["gone", "runs: here"]),
        (["claims", "gone"], ["gone", "runs: here"]),
        (["figures", "gone"], ["gone", "runs: here"]),
    ],
)
def test_what_does_not_exist_lists_what_does(home, capsys, arguments, words):
    (home / "notebooks").mkdir()
    Run.open("here", "smoke", home)
    assert cli.main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("zcipc: ")
    assert all(word in said for word in words)
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("error", "status"), [(StepFailed("broke"), 1), (Stopped("stopped", 2), 130), (KeyboardInterrupt(), 130)]
)
def test_failures_have_their_exit_status(monkeypatch, error, status):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(runner, "reproduce", fail)
    assert cli.main(["reproduce"]) == status


def test_a_mistake_of_ours_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr(runner, "redraw", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli.main(["figures"])


def test_without_the_packages_of_the_lab(monkeypatch, capsys):
    def fail(*_, **__):
        raise ModuleNotFoundError("No module named 'papermill'", name="papermill")

    monkeypatch.setattr(runner, "reproduce", fail)
    assert cli.main(["reproduce"]) == 1
    assert "pip install 'zcipc[lab]'" in capsys.readouterr().err


def test_status_of_every_run(home, capsys):
    assert cli.main(["status"]) == 0
    assert "no run yet" in capsys.readouterr().out
    Run.open("one", "smoke", home)
    Run.open("two", "full", home)
    assert cli.main(["status"]) == 0
    said = capsys.readouterr().out
    assert "one (smoke)" in said
    assert "two (full)" in said
    assert said.count("missing") == 2 * len(runner.STEPS)


def test_claims_before_their_step(home, capsys):
    Run.open("one", "smoke", home)
    assert cli.main(["claims", "one"]) == 1
    assert "notebooks/06_claims.ipynb" in capsys.readouterr().err


def test_claims_are_printed(home, monkeypatch, capsys):
    claims = pytest.importorskip("zcipc.lab.verdicts.claims")
    Run.open("one", "smoke", home).save("claims", pd.DataFrame({"claim": ["C1"]}))
    monkeypatch.setattr(claims, "render", lambda table: f"{len(table)} claim")
    assert cli.main(["claims", "one"]) == 0
    assert "1 claim" in capsys.readouterr().out


def test_doctor_says_what_why_and_what_to_do(monkeypatch, capsys):
    monkeypatch.setattr(machine, "doctor", lambda: [Finding("warn", "x [is] bad", "it hurts", "stop it")])
    assert cli.main(["doctor"]) == 0
    assert capsys.readouterr().out.splitlines() == ["warn  x [is] bad", "      it hurts", "      -> stop it"]


def test_clean_names_what_it_removed(monkeypatch, capsys):
    monkeypatch.setattr(segment, "clean", lambda: ["zcipc-1"])
    assert cli.main(["clean"]) == 0
    assert capsys.readouterr().out == "removed /dev/shm/zcipc-1\n"
    monkeypatch.setattr(segment, "clean", list)
    cli.main(["clean"])
    assert capsys.readouterr().out == "nothing to remove\n"
