"""The bench: what its rows and bars say of numbers that are known, its textbook queue, and its command."""

import io
import json
import os
from dataclasses import fields

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from zcipc import cli
from zcipc.lab.bench import SCENARIOS, bars, calls, event_loops, objects, rows, tables, two_index
from zcipc.lab.bench.bars import BARS, Bar, Ratio, Slope, Target, ToBest, Value, Where
from zcipc.lab.bench.rows import Row
from zcipc.lab.bench.scenario import EFFORTS, Measured, WrongMessage, demand_none, own
from zcipc.lab.bench.stream import durations
from zcipc.lab.bench.there_and_back import same
from zcipc.lab.bench.two_index import TwoIndexQueue
from zcipc.lab.harness.launch import measure
from zcipc.lab.harness.stats import Estimate

pytestmark = pytest.mark.usefixtures("tidy")

COLUMNS = [
    "scenario", "system", "runtime", "mode", "bytes", "metric", "unit", "value", "low", "high", "launches",
    "vs_limit", "vs_pipe",
]  # fmt: skip
LAUNCHES = 7


def samples(*series):
    """A table of samples: for each `(scenario, system, mode, bytes, metric, values)` one value a launch, or the same in all."""
    records = []
    for scenario, system, mode, size, metric, values in series:
        entry = own(system, "compiled", mode, list)
        for launch, value in enumerate(values if isinstance(values, list) else [values] * LAUNCHES):
            records.append(rows.sample(scenario, entry, launch, Measured(size, metric, "ns", value)))
    return pd.DataFrame(records)


def judged(bar, *series):
    (result,) = bars.judge([bar], samples(*series))
    return result


# --- rows


def test_a_row_has_the_columns_of_the_schema():
    assert [field.name for field in fields(Row)] == COLUMNS


def test_a_value_is_the_median_over_launches_within_its_interval():
    (row,) = rows.rows(samples(("s", "zcipc", "spin", 8, "round_trip", [9.0, 1.0, 2.0, 3.0, 4.0, 5.0, 100.0])))
    assert (row.value, row.launches) == (4.0, LAUNCHES)
    assert (row.low, row.high) == (1.0, 100.0)


def test_ratios_are_to_the_limit_and_the_pipe_of_the_same_scenario_size_and_metric():
    table = samples(
        ("s", "limit", "spin", 8, "round_trip", 100.0),
        ("s", "pipe", "block", 8, "round_trip", 10_000.0),
        ("s", "zcipc", "spin", 8, "round_trip", 150.0),
        ("s", "zcipc", "spin", 8, "round_trip_p99", 200.0),
        ("s", "zcipc", "spin", 64, "round_trip", 150.0),
        ("other", "zcipc", "spin", 8, "round_trip", 150.0),
    )
    ratios = [(row.vs_limit, row.vs_pipe) for row in rows.rows(table)]
    assert ratios[:3] == [(1.0, 0.01), (100.0, 1.0), (1.5, 0.015)]
    assert np.isnan(ratios[3:]).all()


def test_a_machine_that_changes_its_speed_changes_no_ratio():
    """The medians of the two are 4 times apart."""
    table = samples(
        ("s", "limit", "spin", 8, "round_trip", [100.0, 400.0, 400.0, 400.0, 100.0, 100.0, 400.0]),
        ("s", "zcipc", "spin", 8, "round_trip", [150.0, 600.0, 150.0, 600.0, 150.0, 150.0, 600.0]),
    )
    assert rows.rows(table)[1].vs_limit == 1.5
    (bar,) = bars.judge([Bar(1, "", Ratio(OURS, LIMIT), Target("at most", 1.6))], table)
    assert bar.estimate.value == 1.5


def test_a_ratio_to_two_pipes_is_none():
    table = samples(
        ("s", "pipe", "poll", 8, "round_trip", 1.0),
        ("s", "pipe", "block", 8, "round_trip", 2.0),
        ("s", "zcipc", "spin", 8, "round_trip", 1.0),
    )
    assert np.isnan(rows.rows(table)[2].vs_pipe)


def test_rows_keep_the_order_of_the_samples():
    table = samples(("s", "zcipc", "b", 8, "m", 1.0), ("s", "zcipc", "a", 8, "m", 1.0), ("a", "zcipc", "a", 8, "m", 1.0))
    assert [(row.scenario, row.mode) for row in rows.rows(table)] == [("s", "b"), ("s", "a"), ("a", "a")]


def test_no_word_of_a_table_is_broken_in_80_columns():
    console = Console(width=80, file=io.StringIO())
    widest = Estimate(1_000_000, 1_000_000, 1_000_000, 7), Estimate(0.00123, -0.00123, 0.00123, 7)
    console.print(tables.bars_table([bars.Judged(bar, estimate, "pass") for bar in BARS for estimate in widest]))
    series = [
        (name, entry.system, entry.mode, 1 << 20, "round_trip", 123.4)
        for name, scenario in SCENARIOS.items()
        for entry in scenario.series(EFFORTS["smoke"], True)
    ]
    for row in rows.rows(samples(*series)):
        console.print(tables.rows_table(row.scenario, [row]))
    text = console.file.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    assert sum(line.endswith(" pass") for line in text.splitlines()) == 2 * len(BARS)
    wanted = [bar.what for bar in BARS] + [name.replace("_", " ") for _, system, mode, *_ in series for name in (system, mode)]
    assert set(" ".join(wanted).split()) <= set(text.split())


def test_json_says_null_for_what_is_not_known():
    lines = rows.rows(samples(("s", "zcipc", "spin", 8, "round_trip", [2.0])))
    content = json.loads(rows.to_json({"cores": 2}, lines, []))
    assert content["machine"] == {"cores": 2}
    (row,) = content["rows"]
    assert list(row) == COLUMNS
    assert (row["value"], row["low"], row["high"], row["vs_limit"], row["vs_pipe"]) == (2.0, None, None, None, None)


# --- bars

OURS, LIMIT, OTHER = (Where("s", "round_trip", system) for system in ("zcipc", "limit", "other"))


def series_of(system, value, size=8):
    return ("s", system, "spin", size, "round_trip", value)


@pytest.mark.parametrize(("value", "verdict"), [(124.0, "pass"), (125.0, "pass"), (126.0, "short")])
def test_at_most(value, verdict):
    bar = Bar(1, "", Ratio(OURS, LIMIT), Target("at most", 1.25))
    result = judged(bar, series_of("zcipc", value), series_of("limit", 100.0))
    assert result.verdict == verdict
    assert result.estimate.value == pytest.approx(value / 100)


@pytest.mark.parametrize(("value", "verdict"), [(90.0, "pass"), (89.0, "short")])
def test_at_least(value, verdict):
    bar = Bar(4, "", Ratio(OURS, LIMIT), Target("at least", 0.9))
    assert judged(bar, series_of("zcipc", value), series_of("limit", 100.0)).verdict == verdict


@pytest.mark.parametrize(("best", "ratio"), [("lowest", 2.0), ("highest", 0.5)])
def test_the_best_of_several_is_the_hardest_and_those_missing_do_not_count(best, ratio):
    bar = Bar(5, "", ToBest(OURS, (LIMIT, OTHER, Where("s", "round_trip", "missing")), best), Target("at most", 1.0))
    result = judged(bar, series_of("zcipc", 2.0), series_of("limit", 1.0), series_of("other", 4.0))
    assert result.estimate.value == ratio


@pytest.mark.parametrize(("growth", "verdict"), [([0.01, -0.01, 0.02, -0.02, 0.0, 0.01, -0.01], "pass"), ([0.1] * 7, "short")])
def test_a_flat_line_has_zero_within_the_interval_of_its_slope(growth, verdict):
    bar = Bar(7, "", Slope(OURS), Target("holds", 0.0))
    lines = [series_of("zcipc", [size**slope for slope in growth], size) for size in (8, 64, 512)]
    assert judged(bar, *lines).verdict == verdict


def test_a_value_in_another_unit():
    result = judged(Bar(12, "", Value(OURS, 1e6), Target("at most", 20, "ms")), series_of("zcipc", 19e6))
    assert (result.verdict, result.estimate.value) == ("pass", 19.0)


def test_what_was_not_measured_neither_passes_nor_falls_short():
    result = judged(Bar(1, "x", Ratio(OURS, LIMIT), Target("at most", 1.25, "times")), series_of("zcipc", 1.0))
    assert result.verdict == "not measured"
    record = result.record()
    assert (record["bar"], record["target"], record["value"]) == (1, "at most 1.25 times", None)


def test_there_is_a_bar_for_each_number_and_a_scenario_for_each_bar():
    assert {bar.number for bar in BARS} == set(range(1, 16))
    assert {bar.rule.of.scenario for bar in BARS} == set(SCENARIOS) - {"asyncio", "objects"}


def test_every_bar_is_about_series_that_its_scenario_measures():
    listed = {name: SCENARIOS[name].series(EFFORTS["smoke"], True) for name in SCENARIOS}
    for bar in BARS:
        others = getattr(bar.rule, "to", ())
        for where in (bar.rule.of, *([others] if isinstance(others, Where) else others)):
            named = [entry for entry in listed[where.scenario] if entry.system == where.system]
            assert named or where.system in ("os_pipe", "pipe"), where
            assert where.mode is None or where.mode in {entry.mode for entry in named}, where


# --- what they are compared with


def _through_the_textbook_queue(pauses, slot_bytes):
    queue = TwoIndexQueue(64, pauses, slot_bytes)
    return durations(
        "the textbook queue",
        lambda: lambda volume: two_index.produce(queue.end(), volume),
        lambda: lambda volume: two_index.consume(queue.end(), volume),
        100_000,
        2,
    )


@pytest.mark.parametrize("pauses", [1, 32])
@pytest.mark.parametrize("slot_bytes", [8, 16])
def test_the_textbook_queue_delivers_everything_in_order(pauses, slot_bytes):
    elapsed = measure(_through_the_textbook_queue, pauses, slot_bytes)  # raises if anything is missing or out of order
    assert len(elapsed) == 2
    assert (elapsed > 0).all()


def test_the_textbook_queue_tells_what_is_out_of_order():
    queue = TwoIndexQueue(64, 1)
    two_index.produce(queue.end(), 3)
    failures, _ = two_index.consume(queue.end(), 1)
    assert failures == 0
    failures, _ = two_index.consume(queue.end(), 2)  # expects to start anew with 0
    assert failures == 2


def test_failures_are_an_error():
    demand_none(0, "a queue")
    with pytest.raises(WrongMessage, match="3 messages of a queue"):
        demand_none(3, "a queue")


def test_a_message_with_arrays_in_it_is_the_same_or_not():
    message = {"any": 1, "array": np.arange(3), "nested": (None, [np.arange(2)])}
    assert same(message, {"any": 1, "array": np.arange(3), "nested": (None, [np.arange(2)])})
    assert not same(message, message | {"array": np.arange(4)})
    assert not same(message, message | {"nested": (None, [np.ones(2)])})
    assert not same(message, {"any": 1})


# --- the command


def test_a_scenario_as_json_on_standard_output(capsys):
    assert cli.main(["bench", "--only", "no_system_call", "--profile", "smoke", "--no-peers", "--json", "-"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert set(content) == {"machine", "rows", "bars"}
    assert [list(row) for row in content["rows"]] == [COLUMNS]
    assert content["rows"][0]["value"] == 1_000_000
    assert [(bar["bar"], bar["verdict"]) for bar in content["bars"]] == [(11, "pass")]


def test_a_scenario_in_a_terminal_and_in_a_file(capsys, tmp_path):
    file = tmp_path / "bench.json"
    assert cli.main(["bench", "--only", "block_one_core", "--profile", "smoke", "--json", str(file)]) == 0
    said = capsys.readouterr().out
    assert "block_one_core" in said
    assert "sleeping echo, 64 B" in said
    content = json.loads(file.read_text(encoding="utf-8"))
    assert {row["system"] for row in content["rows"]} == {"limit", "zcipc", "pipe"}
    assert all(row["vs_pipe"] == 1.0 for row in content["rows"] if row["system"] == "pipe")


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (calls._call, (calls.SMALL,)),
        (calls._managed, (calls.SMALL,)),
        (calls._compiled, (calls.CALL,)),
        (objects._round_trip, ("zcipc", "dict_and_array")),
        (objects._round_trip, ("mp_queue", "tuple")),
        (event_loops._round_trip, ("zcipc", "asyncio", event_loops.SMALL)),
        (event_loops._round_trip, ("asyncio_streams", "asyncio", event_loops.SMALL)),
    ],
)
def test_calls_objects_and_event_loops_are_answered(function, arguments):
    (round_trip,) = measure(function, *arguments, 20, 1)  # samples, blocks; raises if another message comes back
    assert (round_trip.metric, round_trip.unit) == ("round_trip", "ns")
    assert round_trip.value > 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--only", "nonsense"], ["nonsense", *SCENARIOS, "bars"]), (["--profile", "tiny"], ["tiny", "smoke, quick, full"])],
)
def test_what_does_not_exist_lists_what_does(capsys, arguments, words):
    assert cli.main(["bench", *arguments]) == 2
    said = capsys.readouterr().err
    assert said.startswith("zcipc: ")
    assert all(word in said for word in words)


def test_one_core_is_not_enough(monkeypatch, capsys):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    assert cli.main(["bench"]) == 1
    assert "two cores" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_every_scenario_but_the_peers(tmp_path, part):
    file, names = tmp_path / "bench.json", [*SCENARIOS][part::4]
    only = [option for name in names for option in ("--only", name)]
    assert cli.main(["bench", *only, "--profile", "smoke", "--no-peers", "--json", str(file)]) == 0
    content = json.loads(file.read_text(encoding="utf-8"))
    assert {row["scenario"] for row in content["rows"]} == set(names)
    assert all(row["value"] >= 0 for row in content["rows"])
    judged = {bar["what"] for bar in content["bars"]}
    assert judged == {
        bar.what for bar in BARS if bar.rule.of.scenario in names and not bar.what.endswith(("iceoryx2", "faster_fifo"))
    }
