"""The headlines of the related work: each has its measurement, and a ratio says how many times better."""

import pandas as pd
import pytest

from zcipc.lab.harness.launch import measure
from zcipc.lab.measurements import headlines, headlines_tasks
from zcipc.lab.measurements.headlines import HEADLINES, MEASUREMENTS, beside
from zcipc.lab.plots import headlines as draw
from zcipc.lab.runs.results import Run
from zcipc.lab.verdicts.related_work import SYSTEMS


def test_every_headline_is_of_a_system_of_table_1_and_says_what_is_alike_and_what_is_not():
    known = {system.name for system in SYSTEMS}
    for headline in HEADLINES:
        assert set(headline.system.split(", ")) <= known
        assert headline.measurement in MEASUREMENTS
        assert headline.alike
        assert headline.unlike


def test_a_reported_number_is_one_that_the_paper_reports():
    text = " ".join(system.headline for system in SYSTEMS)
    for headline in HEADLINES:
        for number in headline.reported:
            parts = [f"{number:g}", f"{number / 1e9:g}"]
            assert any(part in text for part in parts) or headline.reported == (82.2 / 22,)


def test_the_kernels_tracing_counts_one_call_a_message_for_a_pipe_and_none_for_zcipc():
    calls = measure(headlines_tasks.calls_per_message, 300)
    assert calls["pipe"] == calls["socketpair"] == pytest.approx(1, abs=0.02)
    assert calls["zcipc"] == pytest.approx(0, abs=0.02)


def test_a_neighbour_is_measured_beside_each_kind_of_traffic():
    slowdowns = measure(headlines_tasks.neighbour)
    assert set(slowdowns) == {"pipe", "zcipc_block", "zcipc_loan", "zcipc_touch"}
    assert all(0.1 < slowdown < 100 for slowdown in slowdowns.values())


@pytest.fixture(scope="module")
def measured():
    """Two launches in which the first series of each measurement takes 1, the others 4, in its unit."""
    rows = []
    for headline in HEADLINES:
        for series, value in ((headline.ours, 2.0), (headline.theirs, 8.0)):
            for launch in (0, 1):
                rows.append({"measurement": headline.measurement, "series": series, "launch": launch, "value": value})
    return pd.DataFrame(rows).query("series != ''")


def test_a_ratio_is_above_one_where_ours_is_better(measured):
    compared = beside(measured[measured["series"] != ""].drop_duplicates(["measurement", "series", "launch"]))
    ratios = compared[compared["unit"] == "times better"].set_index(["what", "better_than"])["value"]
    for (what, _), value in ratios.items():
        more_is_better = next(one.more_is_better for one in MEASUREMENTS.values() if one.what == what)
        assert value == (0.25 if more_is_better else 4.0)


def test_the_experiment_is_saved_and_drawn(tmp_path, monkeypatch):
    monkeypatch.setitem(headlines.EFFORTS, "smoke", headlines.Effort(2, 50, 2))
    run = Run.open("lines", "smoke", tmp_path)
    frame = headlines.headlines(run)
    assert run.load("headlines").equals(frame)
    compared = beside(frame)
    assert len(compared) == len(HEADLINES)
    assert len(draw(compared).axes) == compared["unit"].nunique()
