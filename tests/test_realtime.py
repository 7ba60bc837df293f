"""A periodic task: its beats are counted from when they were meant to be, and load is real and ends."""

import os
import time
from pathlib import Path

import numpy as np
import pytest

from zcipc.lab.harness.launch import measure
from zcipc.lab.measurements import realtime, realtime_tasks
from zcipc.lab.measurements.realtime_tasks import LOADS, QUANTILES, SERIES, beats, loaded
from zcipc.lab.plots import realtime as draw
from zcipc.lab.runs.results import Run


@pytest.mark.parametrize("series", SERIES)
def test_no_message_is_read_before_its_beat_and_none_is_lost(series):
    row = measure(beats, series, "idle", 1000, False, 0.05)
    assert row["messages"] == 50
    assert 0 < row["wake_p50_ns"] <= row["wake_max_ns"]
    assert row["wake_p50_ns"] < row["delivery_p50_ns"] <= row["delivery_p90_ns"] <= row["delivery_max_ns"]
    assert 0 <= row["missed"] <= 50


def test_beats_keep_their_time():
    start = time.monotonic()
    measure(beats, "zcipc_block", "idle", 100, False, 0.5)
    assert time.monotonic() - start > 0.5


def test_a_quantile_is_told_only_if_a_message_lies_beyond():
    values = np.arange(1000)
    told = realtime_tasks._late("delivery", values)
    assert [key for key in QUANTILES if not np.isnan(told[f"delivery_{key}_ns"])] == ["p50", "p90", "p99", "p999"]
    assert told["delivery_max_ns"] == 999


def children():
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


@pytest.mark.parametrize("load", LOADS)
def test_load_is_a_process_for_each_core_and_ends_with_the_block(load):
    before = children()
    with loaded(load):
        assert len(children() - before) == (len(os.sched_getaffinity(0)) if LOADS[load] else 0)
    assert children() == before


def test_the_experiment_is_saved_and_drawn(tmp_path, monkeypatch):
    monkeypatch.setitem(realtime.EFFORTS, "smoke", realtime.Effort(1, 0.02, (1000,), ("idle",)))
    run = Run.open("beats", "smoke", tmp_path)
    frame = realtime.realtime(run)
    assert set(frame["transport"]) == set(SERIES)
    assert set(frame["scheduler"]) == ({"other", "fifo"} if measure(realtime_tasks.may_schedule) else {"other"})
    assert run.load("realtime").equals(frame)
    assert len(draw(frame).axes) == 2
