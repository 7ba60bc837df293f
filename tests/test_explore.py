"""A question to a run: the rows that are asked for, and words where there are none."""

import asyncio

import pytest

from zcipc.lab.errors import UsageError
from zcipc.lab.interactive import explore
from zcipc.lab.interactive.explore import EXPERIMENTS, Question
from zcipc.lab.interactive.explorer import Explorer
from zcipc.lab.plots.explore import VIEWS

SERIES = ("pipe", "zcipc")


def question(**changed):
    asked = {
        "run": "reference",
        "experiment": "ping-pong",
        "view": "over sizes",
        "statistic": "median",
        "runtime": "compiled",
        "transports": SERIES,
        "sizes": (64, 1024),
    }
    return Question(**asked | changed)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_view_of_every_experiment_has_the_series_asked_for_and_the_limit(experiment, view):
    figure, rows = question(experiment=experiment, view=view).answer()
    assert set(rows["transport"]) == {*SERIES, "limit"}
    assert set(rows[rows["transport"] != "limit"]["runtime"]) == {"compiled"}
    assert set(rows["message_bytes"]) == ({64} if view in ("launch by launch", "distribution") else {64, 1024})
    assert figure.axes[0].get_title("left")


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_statistic_is_a_column_of_the_table(experiment):
    for statistic in EXPERIMENTS[experiment].statistics:
        question(experiment=experiment, statistic=statistic).answer()


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"transports": ()}, "no such messages"),
        ({"sizes": ()}, "no such messages"),
        ({"view": "distribution", "sizes": (128,)}, "64, 1,024, 8,192"),
        ({"run": "nobody"}, "there is no run"),
    ],
)
def test_what_is_not_there_is_said(asked, said):
    with pytest.raises(UsageError, match=said):
        question(**asked).answer()


def test_the_runs_that_hold_an_experiment_are_offered():
    assert "reference" in explore.runs_with("latency")


def test_a_widget_that_moves_changes_the_figure():
    one = Explorer()
    before = bytes(one.image.value)
    assert before.startswith(b"\x89PNG")
    one.view.value = "launch by launch"
    assert bytes(one.image.value) != before


def test_another_experiment_offers_its_own_statistics():
    one = Explorer()
    one.experiment.value = "latency"
    assert list(one.statistic.options) == list(EXPERIMENTS["latency"].statistics)
    assert "one way" not in one.notice.value
    assert one.image.value


def test_a_question_without_an_answer_leaves_a_word_and_no_figure(tmp_path):
    one = Explorer()
    one.transports.value = ()
    assert one.image.value == b""
    assert "choose other" in one.notice.value
    assert one.save(tmp_path) == []


def test_figure_and_rows_are_saved(tmp_path):
    one = Explorer()
    paths = one.save(tmp_path)
    assert sorted(path.suffix for path in paths) == [".csv", ".pdf", ".png", ".svg"]
    assert all(path.stat().st_size > 1000 for path in paths)


def test_a_measurement_that_fails_is_said_and_the_widgets_are_ready_again():
    one = Explorer(measured_run="no such name/")

    async def measured():
        await one.start()

    asyncio.run(measured())
    assert "cannot name a run" in one.notice.value
    assert (one.measure.disabled, one.stop.disabled) == (False, True)
