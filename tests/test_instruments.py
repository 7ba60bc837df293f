"""The instruments themselves: a known delay is measured as what it is, and a thing compared with itself is no different."""

import multiprocessing

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from zcipc.lab.harness.stats import RESAMPLES, SEED, difference_ci, ratio_ci
from zcipc.lab.measurements import loops, tasks
from zcipc.lab.transports import TRANSPORTS
from zcipc.lab.transports.delayed import DELAY_NS, DelayedCall, DelayedLine
from zcipc.lab.transports.limit import Limit
from zcipc.lab.transports.pipe import Pipe
from zcipc.lab.transports.ring import Copying
from zcipc.lab.verdicts import claims
from zcipc.lab.verdicts.criteria import UNDECIDED

ATTEMPTS = 10  # a machine that does something else meanwhile adds to a delay, never takes from it


def in_a_fork(function, *arguments):
    """`function(*arguments)` in a process of its own, which the measuring functions may pin and fork."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=lambda: theirs.send(function(*arguments)))
    process.start()
    try:
        assert ours.poll(60), "no result"
        return ours.recv()
    finally:
        process.kill()
        process.join()


def one_way(runtime, transport):
    """The harness knows transports by name. Its loops are compiled first, on no message: else the first would wait for that."""
    TRANSPORTS["delayed"] = transport
    end = transport(64).compiled_end(0)
    loops.observe(end, 64, np.zeros(0, np.int64))
    loops.pace(end, 64, 0, 0)
    return tasks.latency(runtime, "delayed", [64], 500)[0][0]


class TestAKnownDelay:
    """What is measured is the delay and, besides, what the same transport takes without it."""

    @pytest.mark.parametrize(
        ("runtime", "transport", "plain", "bound_ns"),
        [("compiled", DelayedLine, Limit, 1_000), ("python", DelayedCall, Copying, 4_000)],
    )
    def test_of_a_round_trip(self, runtime, transport, plain, bound_ns):
        for _ in range(ATTEMPTS):
            delayed, _ = in_a_fork(tasks.round_trips, runtime, transport(64), 10, 300)
            without, _ = in_a_fork(tasks.round_trips, runtime, plain(64), 10, 300)
            excess = delayed["round_trip_min_ns"] - without["round_trip_min_ns"] - 2 * DELAY_NS
            if abs(excess) <= bound_ns:
                return
        pytest.fail(f"a round trip with twice {DELAY_NS} ns of delay is off by {excess} ns")

    def test_of_a_message(self, monkeypatch):
        """The messages of this experiment go out at fixed times, here far enough apart for the delay."""
        monkeypatch.setattr(tasks, "PERIOD_NS", 10 * DELAY_NS)
        for _ in range(ATTEMPTS):
            delayed, without = (in_a_fork(one_way, "compiled", transport)["p50_ns"] for transport in (DelayedLine, Limit))
            if abs(excess := delayed - without - DELAY_NS) <= 1_000:
                return
        pytest.fail(f"a message with {DELAY_NS} ns of delay is off by {excess} ns")


class TestNoDifference:
    """A against A."""

    @pytest.mark.parametrize("launches", [3, 6, 12])
    def test_is_found_in_95_of_100_simulated_runs(self, launches):
        """Round trips with the heavy tail of real launches, both transports from one distribution, judged as claim C1."""
        generator, found = np.random.default_rng(17), 0
        c1 = [claim for claim in claims.load() if claim.id == "C1"]
        for _ in range(100):
            table = pd.DataFrame(
                [
                    {
                        "runtime": "compiled",
                        "transport": transport,
                        "launch": launch,
                        "message_bytes": 64,
                        "round_trip_ns": 10_000 * np.exp(0.05 * generator.standard_t(3)),
                        "verified": True,
                    }
                    for transport in ("pipe", "paper")
                    for launch in range(launches)
                ]
            )
            verdicts = claims.judge({"pingpong": table}, c1).set_index(["runtime", "library", "baseline"])
            found += verdicts.loc[("compiled", "paper", "pipe"), "verdict"] != UNDECIDED
        assert found <= 5

    def test_is_found_between_two_halves_of_real_launches(self):
        """One pair of groups, not a hundred: hence an interval that such a pair misses once in a thousand times."""
        generator = np.random.default_rng(4)
        halves = {"A": [], "B": []}
        for name in generator.permutation([*halves] * 6):
            result, _ = in_a_fork(tasks.round_trips, "python", Pipe(64), 5, 100)
            halves[name].append(result["round_trip_ns"])
        ratio = ratio_ci(halves["A"], halves["B"], confidence=0.999)
        assert ratio.low <= 1 <= ratio.high


class TestAgainstScipy:
    """The bootstrap is scipy's; what we add, the statistic and the choice of interval, is checked with its own functions."""

    GROUPS = np.random.default_rng(2).lognormal(1, 0.2, (2, 12))

    @pytest.mark.parametrize(("estimator", "combine"), [(ratio_ci, np.divide), (difference_ci, np.subtract)])
    def test_intervals_of_two_groups_are_quantiles_of_all_resamples(self, estimator, combine):
        a, b = self.GROUPS
        interval = scipy_stats.bootstrap(
            (a, b), lambda a, b: combine(np.median(a), np.median(b)), vectorized=False, n_resamples=RESAMPLES,
            method="percentile", rng=np.random.default_rng(SEED),
        ).confidence_interval  # fmt: skip
        found = estimator(a, b)
        assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
        assert found.value == pytest.approx(combine(np.median(a), np.median(b)))
