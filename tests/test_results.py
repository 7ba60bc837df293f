"""Tables and figures are saved with their origin, and saved twice they are the same bytes."""

import json
import re

import pandas as pd
import pytest
from matplotlib.figure import Figure

from zcipc.lab.errors import TableMissing, UsageError
from zcipc.lab.runs import provenance
from zcipc.lab.runs.results import Run, check_name, figure_sources, run_names


@pytest.fixture
def run(tmp_path):
    return Run.open("trial", "smoke", tmp_path)


@pytest.fixture
def frame():
    return pd.DataFrame({"transport": ["pipe", "zcipc"], "round_trip_ns": [11_300.5, 0.1 + 0.2], "rounds": [3, 4]})


def draw(frame):
    figure = Figure(figsize=(2, 1))
    figure.subplots().plot(frame["rounds"], frame["round_trip_ns"], label="élan (β) \\ %")
    return figure


@pytest.mark.parametrize("name", ["reference", "a", "2024-05-01_x.y"])
def test_good_names(name):
    assert check_name(name) == name


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "is empty"),
        ("../data", "does not begin with a letter or a digit; it contains '/'"),
        ("a b", "contains ' '"),
        ("x\n", r"contains '\n'"),
        ("é", "does not begin"),
        ("x" * 65, "longer than 64"),
    ],
)
def test_bad_names_are_refused_with_the_reason(tmp_path, name, reason):
    with pytest.raises(UsageError, match=re.escape(reason)):
        Run.open(name, "smoke", tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_table_comes_back_as_it_was(run, frame):
    assert run.save("pingpong", frame) is frame
    pd.testing.assert_frame_equal(run.load("pingpong"), frame)
    pd.testing.assert_frame_equal(pd.read_csv(run.data / "pingpong.csv"), frame)
    assert run.tables() == ["pingpong"]
    assert run.has("pingpong")
    assert list(run.frames()) == ["pingpong"]


def test_provenance_says_where_a_table_came_from(run, frame):
    run.save("pingpong", frame, parameters={"sizes": range(3), "launches": frame["rounds"][0]}, seed=7)
    origin = run.provenance("pingpong")
    assert origin["parameters"] == {"sizes": [0, 1, 2], "launches": 3}
    assert (origin["seed"], origin["run"], origin["profile"], origin["rows"]) == (7, "trial", "smoke", 2)
    assert origin["files"]["data/trial/pingpong.csv"] == run.digest("pingpong")
    assert origin["files"]["data/trial/pingpong.parquet"] == provenance.sha256(run.data / "pingpong.parquet")
    assert origin["packages"]["numba"] == origin["machine"]["numba"]
    assert origin["source"] == {"commit": None, "dirty": None}
    assert origin["started"].endswith("+00:00")
    assert origin["started"] <= origin["finished"]


def test_the_same_rows_saved_again_keep_their_provenance(run, frame):
    run.save("pingpong", frame, seed=1)
    run.save("pingpong", frame, seed=2)
    assert run.provenance("pingpong")["seed"] == 1
    run.save("pingpong", frame.assign(rounds=5), seed=2)
    assert run.provenance("pingpong")["seed"] == 2


def test_a_missing_table_names_its_notebook_and_those_that_exist(run, frame):
    run.save("machine", frame)
    with pytest.raises(TableMissing, match=r"'latency'.*notebooks/05_latency\.ipynb.*Its tables: machine"):
        run.load("latency")
    with pytest.raises(TableMissing, match="not a table of this project"):
        run.load("gossip")
    with pytest.raises(TableMissing):
        run.digest("latency")


def test_profiles_are_never_mixed(run, tmp_path):
    with pytest.raises(UsageError, match="made with profile 'smoke' and cannot continue with 'full'"):
        Run.open("trial", "full", tmp_path)
    assert Run.open("trial", None, tmp_path) == run
    assert run_names(tmp_path) == ["trial"]


def test_an_unknown_run_lists_those_that_exist(run, tmp_path):
    with pytest.raises(UsageError, match="no run 'trail'; runs: trial"):
        Run.open("trail", None, tmp_path)


def test_figures_are_the_same_bytes_each_time_and_name_their_data(run, frame):
    run.save("pingpong", frame)
    run.save("limits", frame)
    first = {path: path.read_bytes() for path in run.save_figure(draw(frame), "f", sources=["pingpong", "limits"])}
    second = {path: path.read_bytes() for path in run.save_figure(draw(frame), "f", sources=["pingpong", "limits"])}
    assert [path.name for path in first] == ["f.svg", "f.pdf", "f.png", "f.pt.svg"]
    assert first == second
    for path in first:
        assert figure_sources(path) == {"pingpong": run.digest("pingpong"), "limits": run.digest("limits")}
    text = first[run.figures / "f.svg"].decode()
    assert "<dc:date>" not in text


def test_a_figure_of_a_missing_table_is_not_written(run, frame):
    with pytest.raises(TableMissing):
        run.save_figure(draw(frame), "f", sources=["pingpong"])
    assert not run.figures.exists()


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "record.json"
    provenance.write_json(path, {"a": 1})
    monkeypatch.setattr(type(path), "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        provenance.write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]
