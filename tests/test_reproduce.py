"""The promise: all of it from one command, in a copy of the repository; one notebook by plain papermill."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from zcipc.lab.runs.results import figure_sources
from zcipc.lab.runs.steps import STEPS

ROOT = Path(__file__).resolve().parents[1]
TIMEOUT_S = 600

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """What a clone would hold, without the results."""
    target = tmp_path_factory.mktemp("copy")
    listing = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, capture_output=True, text=True, check=True).stdout.split("\0")
    results = ("data/", "figures/", "paper/reference/")
    for name in names:
        if name and not name.startswith(results) and (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    return target


def run(*command, cwd, home):
    """Run a program on the repository at `home`, for ten minutes at most. The package is the one that is compiled already."""
    environment = os.environ | {"ZCIPC_HOME": str(home)}
    return subprocess.run(
        [sys.executable, "-P", *map(str, command)],
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )


def contents(root):
    """Every result of the run `check` and when it was written."""
    return {
        path.relative_to(root).as_posix(): path.stat().st_mtime_ns
        for kind in ("data", "figures", "paper")
        for path in (root / kind / "check").rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def reproduced(copy):
    done = run("-m", "zcipc", "reproduce", "--profile", "smoke", "--run", "check", cwd=copy, home=copy)
    assert done.returncode == 0, done.stdout + done.stderr
    return copy


def test_every_promised_file_is_there(reproduced):
    for step in STEPS:
        for name in step.outputs("check"):
            assert (reproduced / name).stat().st_size > 0, name
        if step.notebook:
            assert (reproduced / f"data/check/notebooks/{step.name}.ipynb").exists()
        assert (reproduced / f"data/check/steps/{step.name}.json").exists()
    assert (reproduced / "paper/check/zcipc.pdf").read_bytes().startswith(b"%PDF-")


def test_every_measurement_was_verified(reproduced):
    for table in ("pingpong", "injection", "latency"):
        frame = pd.read_parquet(reproduced / f"data/check/{table}.parquet")
        assert frame["verified"].all(), table
        assert {"runtime", "transport", "launch", "sequence"} <= set(frame)


def test_every_claim_has_a_verdict(reproduced):
    verdicts = pd.read_csv(reproduced / "data/check/claims.csv")
    assert set(verdicts["claim"]) == {f"C{number}" for number in range(1, 11)}
    assert set(verdicts["verdict"]) <= {"reproduced", "not reproduced", "undecided"}


def test_figures_name_the_data_they_were_drawn_from(reproduced):
    assert set(figure_sources(reproduced / "figures/check/fig5_pingpong.svg")) >= {"pingpong"}


def test_nothing_is_done_twice(reproduced):
    before = contents(reproduced)
    done = run("-m", "zcipc", "reproduce", "--profile", "smoke", "--run", "check", cwd=reproduced, home=reproduced)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("up to date") == len(STEPS)
    assert contents(reproduced) == before


def test_no_shared_memory_is_left(reproduced):
    done = run("-m", "zcipc", "clean", cwd=reproduced, home=reproduced)
    assert done.stdout == "nothing to remove\n"


def test_plain_papermill_from_anywhere_with_parameters_of_its_own(copy, tmp_path):
    done = run(
        *("-m", "papermill", copy / "notebooks/03_pingpong.ipynb", "out.ipynb", "--no-progress-bar"),
        *("-p", "profile", "smoke", "-p", "run", "alone", "-p", "launches", 2, "-y", "sizes: [64, 256]"),
        cwd=tmp_path,
        home=copy,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "out.ipynb").exists()
    frame = pd.read_parquet(copy / "data/alone/pingpong.parquet")
    assert set(frame["message_bytes"]) == {64, 256}
    assert set(frame["launch"]) == {0, 1}
    assert (copy / "figures/alone/fig5_pingpong.svg").exists()
