"""Faults of zcipc and of others, the soak and its judge, and that RELIABILITY.md says what the data say."""

import json
import re
from pathlib import Path
from random import Random

import numpy as np
import pandas as pd
import pytest

from zcipc import cli
from zcipc.lab.errors import UsageError
from zcipc.lab.faults import left
from zcipc.lab.faults import run as faults
from zcipc.lab.peers import PEERS
from zcipc.lab.publishing import reliability
from zcipc.lab.soak import judge, work
from zcipc.lab.soak import run as soak

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = (ROOT / reliability.DOCUMENT).read_text(encoding="utf-8")


# --- faults


@pytest.mark.usefixtures("tidy")
@pytest.mark.parametrize(
    ("fault", "seen"),
    [
        ("sender_killed", "raises PeerDied"),
        ("sender_killed_inside", "raises PeerDied"),
        ("receiver_killed", "raises PeerDied"),
        ("receiver_killed_inside", "raises PeerDied"),
        ("receiver_stopped", "goes on"),
        ("sender_replaced", "raises PermissionDenied"),
        ("receiver_replaced", "raises PermissionDenied"),
        ("sender_forked", "raises PermissionDenied"),
        ("both_killed", "nothing left"),
    ],
)
def test_what_a_fault_does_to_zcipc(fault, seen):
    (row,) = faults.table(["zcipc"], [fault], repetitions=1).to_dict(orient="records")
    assert row["seen"] == seen
    assert (row["lost"], row["torn"], row["left"]) == (0, 0, [])


def test_a_fault_that_another_library_does_not_survive_is_seen():
    """A multiprocessing.Queue loses what its thread had not sent, and a successor waits for the lock of the dead."""
    rows = faults.table(["mp_queue"], ["sender_killed_inside", "receiver_replaced"], repetitions=1).set_index("fault")
    assert rows.loc["sender_killed_inside", "seen"] == "waits on, not told"
    assert rows.loc["sender_killed_inside", "lost"] > 0
    assert rows.loc["receiver_replaced", "seen"] == "gets nothing through"


def test_a_library_that_is_not_installed_is_a_row_that_says_so(monkeypatch):
    monkeypatch.setattr(PEERS["kickmsg"], "distribution", "no-such-package")
    rows = faults.table(["kickmsg"], ["sender_killed"])
    assert rows["seen"].tolist() == [faults.NOT_INSTALLED]


def test_unknown_systems_and_faults_are_refused_with_those_there_are():
    with pytest.raises(UsageError, match="no system carrier_pigeon; there are: zcipc, "):
        faults.table(["carrier_pigeon"])
    with pytest.raises(UsageError, match="no fault bad_mood; there are: sender_killed, "):
        faults.table(["zcipc"], ["bad_mood"])


def test_what_nobody_has_open_is_abandoned(tmp_path):
    kept, dropped = tmp_path / "kept", tmp_path / "dropped-0123456789ab-17"
    dropped.touch()
    with kept.open("w"):
        assert left.abandoned({kept, dropped, tmp_path / "gone"}) == {dropped}
    assert left.patterns({Path("/x/dropped-0123456789ab-17"), Path("/x/dropped-ba9876543210-3")}) == ["/x/dropped-*-*"]


def rows_of(system, seen, lost=(0, 0)):
    common = {"system": system, "version": "1", "fault": "sender_killed", "torn": 0, "left": []}
    return pd.DataFrame(
        [
            common | {"repetition": index, "seen": what, "lost": gone}
            for index, (what, gone) in enumerate(zip(seen, lost, strict=True))
        ]
    )


def test_a_cell_says_how_often_unless_it_was_always():
    rows = pd.concat([rows_of("zcipc", ["a", "a"]), rows_of("kickmsg", ["b", "c"], lost=(0, 3))])
    cells = faults.summary(rows)
    assert list(cells.columns) == ["zcipc", "kickmsg"]
    assert cells.loc["sender killed in a stream"].tolist() == ["a", "b 1/2; c 1/2; lost messages 1/2"]


def test_what_is_kept_of_other_systems_stays(tmp_path):
    file = tmp_path / "faults.json"
    faults.keep(rows_of("kickmsg", ["old", "old"]), file)
    faults.keep(rows_of("zcipc", ["old", "old"]), file)
    faults.keep(rows_of("kickmsg", ["new", "new"]), file)
    assert faults.load(file)[["system", "seen"]].to_numpy().tolist() == [["zcipc", "old"]] * 2 + [["kickmsg", "new"]] * 2


# --- soak


def record(index, **series):
    return {"interval": index, "end_s": float(index), **series}


def test_noise_is_flat_and_a_leak_is_not():
    noise = np.random.default_rng(1).normal(0, 1e3, 60)
    records = [
        record(
            index,
            rss_caller_bytes=1e8 + noise[index],
            rss_answerer_bytes=1e8 + 1e5 * index + noise[index],
            descriptors_caller=9,
        )
        for index in range(60)
    ]
    assert {one.series: one.verdict for one in judge.judge(records)} == {
        "rss_caller_bytes": judge.FLAT,
        "rss_answerer_bytes": judge.GROWS,
        "descriptors_caller": judge.FLAT,
    }


def test_one_descriptor_more_in_each_interval_is_a_leak():
    (verdict,) = judge.judge([record(index, descriptors_caller=9 + index) for index in range(20)])
    assert verdict.verdict == judge.GROWS


def test_growth_in_the_warm_up_does_not_count_and_a_disturbed_interval_neither():
    values = [1e8 + 1e7 * min(index, 4) for index in range(40)]
    values[30] *= 3
    (verdict,) = judge.judge([record(index, rss_caller_bytes=value) for index, value in enumerate(values)])
    assert verdict.verdict == judge.FLAT


def test_too_few_intervals_and_too_much_noise_decide_nothing():
    assert judge.judge([record(index, p50_spin_ns=100.0) for index in range(judge.FEWEST)]) == []
    noise = np.random.default_rng(2).lognormal(7, 2, 12)
    (verdict,) = judge.judge([record(index, p50_spin_ns=value) for index, value in enumerate(noise)])
    assert verdict.verdict == judge.UNDECIDED


@pytest.mark.usefixtures("tidy")
def test_a_soak_finds_nothing_wrong_and_everything_flat(tmp_path, capsys):
    file = tmp_path / "soak.json"
    assert cli.main(["soak", "--seconds", "7", "--json", str(file)]) == 0
    found = json.loads(file.read_text())
    assert found["wrong"] == 0
    assert found["messages"] > 1000
    assert len(found["intervals"]) == round(7 / 0.6)
    last = {one["series"]: one["verdict"] for one in found["verdicts"]}
    assert {last[name] for name in ("descriptors_caller", "descriptors_answerer", "segments")} == {judge.FLAT}
    assert "0 wrong" in capsys.readouterr().out


@pytest.mark.usefixtures("tidy")
def test_a_wrong_answer_ends_a_soak_with_an_error(monkeypatch, capsys):
    wrong = {"messages": 5, "bytes": 50, "wrong": 1, "end_s": 1.0}
    monkeypatch.setattr(soak, "_follow", lambda interval_s, intervals, records: records.append(wrong))
    assert cli.main(["soak"]) == 1
    said = capsys.readouterr()
    assert "1 wrong" in said.out
    assert "zcipc: 1 wrong answers" in said.err


def test_every_size_from_nothing_to_nearly_the_capacity_is_sent():
    bursts = work._bursts(Random(3))
    lengths = [len(message) for _, burst in zip(range(3000), bursts, strict=False) for _, message in burst]
    assert min(lengths) == 0
    assert max(lengths) > 0.95 * work.CAPACITY


# --- what is written


def test_the_tables_are_those_of_the_data():
    assert reliability.filled(DOCUMENT) == DOCUMENT, "run python -m zcipc.lab.publishing.reliability"


def test_every_test_that_the_document_names_exists():
    named = set(re.findall(r"`(test_\w+)`", DOCUMENT))
    tests = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").glob("test_*.py"))
    assert named
    assert not [name for name in named if f"def {name}(" not in tests]


def test_what_was_not_measured_says_so(tmp_path):
    assert reliability.facts(tmp_path) == {"torture": None, "soak": None, "faults": None}
    assert reliability.filled(DOCUMENT, tmp_path).count(reliability.NOT_MEASURED) == 3


def test_figures_dropped_in_show_in_their_place(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / reliability.TORTURE).write_text(json.dumps({"seconds": 600.0, "messages": 1234567, "out_of_order": 0}))
    text = reliability.filled(DOCUMENT, tmp_path)
    assert "| messages | 1,234,567 |" in text
    assert "| out of order | 0 |" in text
    assert text.count(reliability.NOT_MEASURED) == 2
