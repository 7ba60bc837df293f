"""From what the reference run says back to its rows, its commit and its machine; and from a table to all that is made of it."""

import functools
import json
import shutil

import pytest

from zcipc import cli
from zcipc.lab.errors import UsageError
from zcipc.lab.publishing import article, trace
from zcipc.lab.runs.results import ROOT, Run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The reference run with its article set anew, in a root of its own."""
    root = tmp_path_factory.mktemp("home")
    for kind in ("data", "figures", "paper"):
        shutil.copytree(ROOT / kind, root / kind, ignore=shutil.ignore_patterns("*.ipynb", "*.png", "report.html"))
    run = Run.open("reference", None, root)
    article.build(run)
    return run


@pytest.fixture(scope="module")
def numbers(run):
    return json.loads((run.paper / "numbers.json").read_text(encoding="utf-8"))


def one(run, name):
    (facts,) = trace.trace(run, name)
    return facts


def test_a_key_leads_to_the_rows_whose_median_it_is(run, numbers):
    place = next(
        place
        for place, found in enumerate(numbers["pingpong"]["estimates"]["median"])
        if (found["runtime"], found["transport"], found["message_bytes"]) == ("compiled", "pipe", 64)
    )
    facts = one(run, f"pingpong.estimates.median.{place}.value")
    rows = run.load("pingpong").query("runtime == 'compiled' and transport == 'pipe' and message_bytes == 64")
    assert float(facts["number"]) == pytest.approx(rows["round_trip_ns"].median(), rel=1e-5)
    assert facts["rows"] == (
        f"{len(rows)} of data/reference/pingpong.csv, column round_trip_ns,"
        " where runtime = compiled, transport = pipe, message_bytes = 64"
    )
    origin = run.provenance("pingpong")
    assert facts["made by"] == "notebooks/03_pingpong.ipynb, profile full"
    assert facts["commit"].startswith(origin["source"]["commit"])
    assert facts["machine"].startswith(origin["machine"]["cpu"])
    assert f"seed {origin['seed']}" in facts["parameters"]


def test_a_number_as_it_is_printed_leads_to_its_key(run, numbers):
    printed = next(entry for entry in article.printed(run, "en") if entry["value"] == numbers["pingpong"]["ratios"][0]["value"])
    keys = {facts["key"] for facts in trace.trace(run, printed["written"]) if "key" in facts}
    assert "pingpong.ratios.0.value" in keys


def test_a_ratio_has_the_rows_of_both(run, numbers):
    ratio = numbers["pingpong"]["ratios"][0]
    rows = one(run, "pingpong.ratios.0.low")["rows"]
    assert f"transport = {ratio['over']} or {ratio['under']}" in rows


def test_every_number_that_comes_from_a_table_has_rows(run, numbers, monkeypatch):
    """And those of the article that come from none say where from."""
    monkeypatch.setattr(Run, "load", functools.cache(Run.load))  # thousands of numbers, a dozen tables
    for section in article.SECTIONS:
        for key, _ in trace._leaves(numbers[section], section):
            count = trace._number(run, numbers, key)["rows"].split(" of ")[0].replace(",", "")
            assert int(count) > 0, key
    assert one(run, "reliability.torture.kills")["file"] == "data/torture.json"


@pytest.mark.parametrize("name", ["pingpong", "pingpong.csv", "data/reference/pingpong.parquet"])
def test_a_table_leads_to_what_is_made_of_it(run, name):
    facts = one(run, name)
    assert facts["figures"] == "fig5_pingpong"
    assert {"C1", "C10"} <= set(facts["claims"].split(", "))
    assert "article" in facts["steps"]
    assert "in pingpong.*" in facts["numbers"]


def test_a_figure_and_a_claim_lead_to_their_tables(run):
    assert one(run, "fig12_realtime")["drawn from"] == "realtime"
    assert one(run, "fig12_realtime.svg")["page"] == "data/reference/report.html#fig12_realtime"
    assert one(run, "C10")["decided from"] == "pingpong, table1_evidence"


def test_a_value_that_stands_in_many_places_is_told_in_some(run):
    blocks = trace.trace(run, "64")
    assert len(blocks) == trace.MOST_KEYS + 1
    assert "other places" in blocks[-1]["more"]


def test_what_is_nothing_is_refused(run):
    with pytest.raises(UsageError, match="'nonsense' is no number as the article of run 'reference' prints it"):
        trace.trace(run, "nonsense")


def test_the_command_prints_it(capsys):
    assert cli.main(["trace", "reference", "realtime.csv"]) == 0
    assert "made by       notebooks/11_realtime.ipynb" in capsys.readouterr().out
