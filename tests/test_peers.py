"""Other libraries: each echoes and streams intact between two real processes, or is shown as unavailable, and why."""

import numpy as np
import pandas as pd
import pytest

from zcipc.lab import plots
from zcipc.lab.errors import UsageError
from zcipc.lab.measurements import comparison
from zcipc.lab.peers import COPY, LOAN, PEERS, CopyingEnd, LoaningEnd, Peer, series
from zcipc.lab.peers.exchange import _Copied, _Loaned
from zcipc.lab.plots.peers import RANKED_AT, _nearest
from zcipc.lab.runs import profiles
from zcipc.lab.runs.results import Run

SIZES = (64, 1 << 20)
KEYS = ["system", "mode", "face", "message_bytes"]


@pytest.fixture
def run(tmp_path):
    return Run.open("check", "smoke", tmp_path)


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """Both tables, of every peer."""
    run = Run.open("check", "smoke", tmp_path_factory.mktemp("peers"))
    return comparison.peers(run, sizes=SIZES, launches=1), run.load("peers_failures")


@pytest.mark.slow
@pytest.mark.parametrize("system", PEERS)
def test_every_peer_is_measured_or_missing_with_a_reason(compared, system):
    measured, failures = (frame[frame["system"] == system] for frame in compared)
    found = [tuple(row) for frame in (measured, failures) for row in frame[KEYS].itertuples(index=False)]
    assert sorted(found) == sorted((*entry, size) for entry in series([system]) for size in SIZES)
    assert measured["verified"].all()
    columns = ["round_trip_ns", "p50_ns", "messages_per_s", "bytes_per_s"]
    assert (measured[columns] > 0).all(axis=None)
    for failure in failures.itertuples():
        too_long = system == "posix_queue" and failure.message_bytes == SIZES[1]
        assert "not installed" in failure.reason or too_long, failure.reason


@pytest.mark.slow
def test_the_limit_is_measured_beside_them(compared):
    measured, _ = compared
    limit = measured[measured["system"] == comparison.LIMIT]["round_trip_ns"]
    assert len(limit) == 1


@pytest.mark.slow
def test_nothing_is_faster_than_the_limit(run):
    """The least of several launches of each: a cache line may take longer in one launch than in the next."""
    measured = comparison.peers(run, sizes=[64], launches=6, systems=["zcipc"])
    limit = measured["system"] == comparison.LIMIT
    assert measured[limit]["round_trip_ns"].min() < measured[~limit]["round_trip_ns"].min()


def test_a_peer_that_is_not_installed_stops_nobody(run, monkeypatch):
    monkeypatch.setattr(PEERS["kickmsg"], "distribution", "no-such-package")
    measured = comparison.peers(run, sizes=[64], launches=1, systems=["kickmsg", "os_pipe"])
    assert set(measured["system"]) == {"os_pipe", comparison.LIMIT}
    failures = run.load("peers_failures")
    assert len(failures) == len(series(["kickmsg"]))
    assert set(failures["reason"]) == {"no-such-package is not installed: pip install 'zcipc[peers]'"}


def test_a_peer_that_hangs_stops_nobody_and_is_not_tried_again(run, monkeypatch):
    monkeypatch.setattr(comparison, "PATIENCE_S", 0.0)
    measured = comparison.peers(run, sizes=[64], launches=2, systems=["os_pipe"])
    assert set(measured["system"]) == {comparison.LIMIT}
    failures = run.load("peers_failures")
    assert len(failures) == len(series(["os_pipe"]))
    assert failures["reason"].str.contains("said nothing").all()


def test_nothing_that_fails_is_a_table_too(run):
    comparison.peers(run, sizes=[64], launches=1, systems=["mp_pipe"])
    failures = run.load("peers_failures")
    assert failures.empty
    assert list(failures) == list(comparison.FAILURE)


def test_a_peer_that_does_not_exist_is_an_error():
    with pytest.raises(UsageError, match="no peer 'carrier_pigeon'; peers: zcipc, "):
        series(["carrier_pigeon"])


class Loopback(Peer):
    """What is sent is received at once, after `spoil` had it."""

    title = "loopback"
    modes = ("poll",)
    faces = (COPY, LOAN)

    def __init__(self, length, spoil=lambda message: message):
        super().__init__(length, "poll")
        self.spoil = spoil

    def open(self, index):
        sent = []
        return CopyingEnd(sent.append, lambda: self.spoil(sent.pop(0)))

    def open_loaned(self, index):
        sent = []
        return LoaningEnd(sent.append, lambda: self.spoil(sent.pop(0)))


@pytest.mark.parametrize("loops", [_Copied, _Loaned])
def test_what_arrives_as_it_was_sent_is_no_failure(loops):
    end = loops(Loopback(64), 0)
    assert end.ping(600)[0] == 0
    assert end.ping_each(np.zeros(600, np.int64)) == 0
    end.inject(600)
    assert end.absorb(600)[0] == 0


@pytest.mark.parametrize(
    "spoil",
    [
        lambda message: bytes([message[0] ^ 1]) + message[1:],
        lambda message: message[:-1] + bytes([message[-1] ^ 1]),
        lambda message: bytes(len(message)),
    ],
    ids=["first byte", "last byte", "an old message"],
)
def test_a_copy_that_is_not_what_was_sent_is_counted(spoil):
    end = _Copied(Loopback(64, spoil), 0)
    assert end.ping(100)[0] >= 99
    assert end.ping_each(np.zeros(100, np.int64)) == 100
    end.inject(100)
    assert end.absorb(100)[0] >= 99


def test_a_short_message_is_counted():
    end = _Copied(Loopback(64, lambda message: message[1:]), 0)
    assert end.ping_each(np.zeros(100, np.int64)) == 100


def test_a_loan_that_is_not_what_was_sent_is_counted():
    end = _Loaned(Loopback(64, lambda stamp: -1), 0)
    assert end.ping(100)[0] == 100
    end.inject(100)
    assert end.absorb(100)[0] == 100


def test_every_series_is_another_one():
    assert len(set(series())) == len(series())
    assert {entry.system for entry in series()} == set(PEERS)


@pytest.mark.parametrize("name", profiles.PROFILES)
def test_every_profile_has_sizes_to_rank_at(name):
    plan = profiles.profile(name).peers
    assert min(plan.sizes) == 64
    assert len(_nearest(sorted(plan.sizes), RANKED_AT)) >= 2


def synthetic(sizes=(64, 8192, 1 << 20), launches=3, systems=None):
    """A table like that of the comparison: whoever sleeps takes longer, and so do larger messages that are copied."""
    noise = np.random.default_rng(1)
    rows = [
        {**entry._asdict(), "message_bytes": size, "launch": launch}
        | {"round_trip_ns": (took := (1 + place) * 500 * (1 + (entry.face == COPY) * size / 4096) * noise.uniform(0.9, 1.1))}
        | {"p50_ns": took, "p99_ns": 2 * took, "p999_ns": np.nan if entry.mode == "block" else 5 * took}
        | {"messages_per_s": 1e9 / took, "bytes_per_s": size * 1e9 / took, "verified": True}
        for place, entry in enumerate(series(systems))
        for size in sizes
        for launch in range(launches)
    ]
    limits = [{"system": "limit", "mode": "poll", "face": LOAN, "message_bytes": 8, "launch": 0, "round_trip_ns": 100.0}]
    return pd.DataFrame([*rows, *limits])


def test_the_ranking_names_every_system_and_draws_the_limit(tmp_path):
    figure = plots.peers(synthetic())
    panels = [axes for axes in figure.axes if axes.get_visible()]
    assert len(panels) == 6
    names = [label.get_text() for label in panels[0].get_yticklabels()]
    assert len(names) == len(PEERS)
    assert names[0] == "zcipc"  # the fastest is on top, and in this table that is the first of the registry
    assert [sum(line.get_gid() == "limit" for line in axes.lines) for axes in panels] == [1, 1, 1, 0, 0, 0]
    figure.savefig(tmp_path / "ranking.png")
    assert (tmp_path / "ranking.png").stat().st_size > 10_000


def test_the_panels_by_size_show_each_system_once(tmp_path):
    figure = plots.peers_by_size(synthetic())
    titles = [axes.get_title(loc="left") for axes in figure.axes if axes.get_visible()]
    assert len(titles) == len(set(titles)) == len(PEERS)
    figure.savefig(tmp_path / "by_size.png")
    assert (tmp_path / "by_size.png").stat().st_size > 10_000


@pytest.mark.parametrize("draw", [plots.peers, plots.peers_by_size])
def test_one_launch_of_two_sizes_and_no_limit_are_enough_to_draw(draw, tmp_path):
    frame = synthetic(sizes=(64, 65536), launches=1, systems=["zcipc", "os_pipe"])
    draw(frame[frame["system"] != "limit"]).savefig(tmp_path / "few.png")
    assert (tmp_path / "few.png").stat().st_size > 5_000
