"""Estimators against known answers: exact invariants, scipy, and coverage over simulated launches."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from zcipc.lab.harness.stats import difference_ci, median_ci, order_rank, paired_ratio_ci, ratio_ci, slope_ci, slopes, summarise

# Values of which no two are so close that rounding could swap them when they are scaled.
times = st.lists(st.integers(1, 10**6), min_size=2, max_size=25).map(lambda values: np.array(values, dtype=float))
scales = st.sampled_from([1e-3, 0.5, 2.0, 7.0, 1e4])


@pytest.fixture
def generator() -> np.random.Generator:
    return np.random.default_rng(7)


def points(slope: float, launches: int = 8, noise: float = 0.0) -> pd.DataFrame:
    """`y = c x^slope`, with a factor `c` of its own in each launch."""
    generator = np.random.default_rng(3)
    sizes = [64 << k for k in range(8)]
    return pd.DataFrame(
        [
            {"launch": launch, "x": size, "y": factor * size**slope * generator.lognormal(0, noise)}
            for launch in range(launches)
            for factor in [generator.lognormal(5, 0.3)]
            for size in sizes
        ]
    )


class TestMedian:
    def test_known_interval_of_ten(self) -> None:
        estimate = median_ci(range(1, 11))
        assert (estimate.value, estimate.low, estimate.high, estimate.launches) == (5.5, 2, 9, 10)

    @pytest.mark.parametrize("launches", range(6, 40))
    def test_bounds_are_those_of_scipys_sign_test_interval(self, launches: int) -> None:
        interval = scipy_stats.quantile_test(np.arange(1.0, launches + 1), p=0.5).confidence_interval(0.95)
        estimate = median_ci(np.arange(1.0, launches + 1))
        # scipy's may be a rank tighter on one side: it does not ask for symmetry.
        assert estimate.low == pytest.approx(interval.low, abs=1)
        assert estimate.high == pytest.approx(interval.high, abs=1)

    def test_one_launch_has_no_interval(self) -> None:
        estimate = median_ci([3.0])
        assert estimate.value == 3
        assert np.isnan([estimate.low, estimate.high]).all()

    def test_few_launches_are_students_t_on_logarithms(self) -> None:
        values = np.array([90.0, 100.0, 125.0])
        logs = np.log(values)
        low, high = scipy_stats.t.interval(0.95, 2, loc=logs.mean(), scale=scipy_stats.sem(logs))
        estimate = median_ci(values)
        assert (estimate.value, estimate.low, estimate.high) == pytest.approx((100, np.exp(low), np.exp(high)))

    def test_few_values_of_either_sign_stay_linear(self) -> None:
        values = np.array([-1.0, 0.0, 2.0])
        low, high = scipy_stats.t.interval(0.95, 2, loc=values.mean(), scale=scipy_stats.sem(values))
        assert (median_ci(values).low, median_ci(values).high) == pytest.approx((low, high))

    @given(times, scales)
    def test_scales_with_the_unit(self, values: np.ndarray, scale: float) -> None:
        estimate, scaled = median_ci(values), median_ci(values * scale)
        assert scaled.value == pytest.approx(scale * estimate.value)
        assert scaled.low == pytest.approx(scale * estimate.low)
        assert scaled.high == pytest.approx(scale * estimate.high)

    @given(times)
    def test_holds_its_value_and_ignores_order(self, values: np.ndarray) -> None:
        estimate = median_ci(values)
        assert estimate.low <= estimate.value <= estimate.high
        assert median_ci(values[::-1]).low == pytest.approx(estimate.low)

    @pytest.mark.parametrize("launches", [2, 3, 5, 6, 10, 15])
    def test_coverage(self, generator: np.random.Generator, launches: int) -> None:
        trials = 500
        samples = generator.lognormal(2.0, 0.3, (trials, launches))
        hits = sum(e.low <= np.exp(2.0) <= e.high for e in map(median_ci, samples))
        assert hits / trials > 0.92

    @pytest.mark.parametrize("values", [[], [1.0, float("nan")], [1.0, float("inf")], [[1.0, 2.0]]])
    def test_refuses_what_is_not_a_sample(self, values: list[float]) -> None:
        with pytest.raises(ValueError, match="finite values, one per launch"):
            median_ci(values)


class TestOrderRank:
    def test_smallest_number_of_launches(self) -> None:
        assert order_rank(5)[0] == 0
        assert order_rank(6) == (1, pytest.approx(0.96875))

    @given(st.integers(1, 200), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
    def test_is_the_narrowest_that_reaches_the_confidence(self, launches: int, confidence: float) -> None:
        rank, coverage = order_rank(launches, confidence)
        assert rank == 0 or coverage >= confidence
        if 2 * (rank + 1) <= launches:
            assert 1 - 2 * scipy_stats.binom.cdf(rank, launches, 0.5) < confidence


class TestTwoGroups:
    def test_ratio_of_known_groups(self) -> None:
        estimate = ratio_ci([10.0] * 8, [4.0] * 8)
        assert (estimate.value, estimate.low, estimate.high, estimate.launches) == (2.5, 2.5, 2.5, 8)

    def test_few_launches_are_welchs_t_on_logarithms(self) -> None:
        a, b = np.array([10.0, 11.0, 14.0]), np.array([4.0, 5.0, 5.5, 6.0])
        interval = scipy_stats.ttest_ind(np.log(a), np.log(b), equal_var=False).confidence_interval(0.95)
        estimate = ratio_ci(a, b)
        assert (estimate.low, estimate.high) == pytest.approx(tuple(np.exp(interval)))
        assert estimate.launches == 3

    def test_few_differences_are_welchs_t(self) -> None:
        a, b = np.array([-1.0, 0.5, 2.0]), np.array([3.0, 5.0])
        interval = scipy_stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
        estimate = difference_ci(a, b)
        assert (estimate.low, estimate.high) == pytest.approx(tuple(interval))

    def test_one_launch_has_no_interval(self) -> None:
        assert np.isnan(ratio_ci([1.0], [2.0, 3.0]).low)
        assert np.isnan(difference_ci([1.0, 2.0], [3.0]).high)

    @given(times, times)
    def test_swapping_the_groups_inverts_the_ratio(self, a: np.ndarray, b: np.ndarray) -> None:
        assume(min(a.size, b.size) < 6)  # with more, the two resample differently and agree only nearly
        forward, backward = ratio_ci(a, b), ratio_ci(b, a)
        assert forward.value == pytest.approx(1 / backward.value)
        assert forward.low == pytest.approx(1 / backward.high)
        assert forward.high == pytest.approx(1 / backward.low)

    def test_swapping_nearly_inverts_the_bootstrap(self, generator: np.random.Generator) -> None:
        a, b = generator.lognormal(1, 0.1, 12), generator.lognormal(0, 0.1, 12)
        forward, backward = ratio_ci(a, b), ratio_ci(b, a)
        assert forward.low == pytest.approx(1 / backward.high, rel=0.02)
        assert forward.high == pytest.approx(1 / backward.low, rel=0.02)

    def test_the_unit_does_not_matter_to_a_ratio(self, generator: np.random.Generator) -> None:
        a, b = generator.lognormal(1, 0.1, 10), generator.lognormal(0, 0.1, 9)
        assert ratio_ci(a * 1024, b * 1024) == ratio_ci(a, b)

    def test_the_seed_decides(self, generator: np.random.Generator) -> None:
        a, b = generator.lognormal(1, 0.1, 10), generator.lognormal(0, 0.1, 10)
        assert ratio_ci(a, b, seed=1) == ratio_ci(a, b, seed=1)
        assert ratio_ci(a, b, seed=1) != ratio_ci(a, b, seed=2)

    @pytest.mark.parametrize("launches", [3, 6, 10])
    def test_coverage(self, generator: np.random.Generator, launches: int) -> None:
        trials, truth = 300, np.exp(0.5)
        first = generator.lognormal(1.5, 0.3, (trials, launches))
        second = generator.lognormal(1.0, 0.1, (trials, launches))
        estimates = [ratio_ci(a, b) for a, b in zip(first, second, strict=True)]
        assert sum(e.low <= truth <= e.high for e in estimates) / trials > 0.9

    def test_a_ratio_needs_positive_values(self) -> None:
        with pytest.raises(ValueError, match="positive"):
            ratio_ci([1.0, 2.0], [0.0, 1.0])


class TestPairs:
    def test_what_changes_both_values_of_a_launch_changes_no_ratio(self, generator: np.random.Generator) -> None:
        speed = pd.Series(generator.lognormal(0, 2, 9))
        estimate = paired_ratio_ci(3 * speed, 2 * speed)
        assert (estimate.value, estimate.low, estimate.high) == pytest.approx((1.5, 1.5, 1.5))

    def test_a_launch_that_lacks_one_is_left_out(self) -> None:
        estimate = paired_ratio_ci(pd.Series([4.0, 9.0, 4.0], [0, 1, 3]), pd.Series([2.0, 2.0, 9.0], [0, 3, 5]))
        assert (estimate.value, estimate.launches) == (2.0, 2)

    @pytest.mark.parametrize("bad", [0.0, -1.0])
    def test_a_ratio_needs_positive_values(self, bad: float) -> None:
        good, wrong = pd.Series([1.0, 2.0]), pd.Series([1.0, bad])
        for pair in ((good, wrong), (wrong, good)):
            with pytest.raises(ValueError, match="positive"):
                paired_ratio_ci(*pair)


class TestSlopes:
    @pytest.mark.parametrize("slope", [-0.3, 0.0, 0.4, 1.0])
    def test_a_power_law_is_found_exactly(self, slope: float) -> None:
        estimate = slope_ci(points(slope), "x", "y")
        assert (estimate.value, estimate.low, estimate.high) == pytest.approx((slope,) * 3)
        assert estimate.launches == 8

    def test_agrees_with_scipy_in_each_launch(self) -> None:
        frame = points(0.7, noise=0.2)
        found = slopes(frame, "x", "y")
        for launch, group in frame.groupby("launch"):
            assert found[launch] == pytest.approx(scipy_stats.linregress(np.log(group.x), np.log(group.y)).slope)

    def test_a_launch_with_one_size_has_no_slope(self) -> None:
        frame = points(1.0, launches=3)
        frame = frame[(frame["launch"] > 0) | (frame["x"] == 64)]
        assert list(slopes(frame, "x", "y").index) == [1, 2]
        with pytest.raises(ValueError, match="non-empty"):
            slope_ci(frame[frame["x"] == 64], "x", "y")

    def test_coverage(self, generator: np.random.Generator) -> None:
        trials, hits = 150, 0
        sizes = np.array([64.0 * 2**k for k in range(8)])
        for _ in range(trials):
            y = sizes**0.5 * generator.lognormal(0, 0.1, (10, 8)) * generator.lognormal(0, 0.3, (10, 1))
            frame = pd.DataFrame({"launch": np.repeat(range(10), 8), "x": np.tile(sizes, 10), "y": y.ravel()})
            estimate = slope_ci(frame, "x", "y")
            hits += estimate.low <= 0.5 <= estimate.high
        assert hits / trials > 0.92


class TestSummarise:
    def test_reduces_a_launch_before_it_counts(self) -> None:
        frame = pd.DataFrame({"transport": "pipe", "launch": [0, 0, 0, 1, 2], "value": [1.0, 2.0, 90.0, 4.0, 6.0]})
        row = summarise(frame, ["transport"], "value").iloc[0]
        assert (row["value"], row["launches"]) == (4.0, 3)

    def test_every_group_is_a_median_ci(self, generator: np.random.Generator) -> None:
        index = pd.MultiIndex.from_product([["b", "a"], [64, 128], range(7)], names=["transport", "size", "launch"])
        frame = pd.DataFrame({"y": generator.lognormal(0, 1, len(index))}, index=index).reset_index()
        summary = summarise(frame, by=["transport", "size"], value="y")
        assert list(summary.columns) == ["transport", "size", "value", "low", "high", "launches"]
        assert list(zip(summary["transport"], summary["size"], strict=True)) == [
            ("a", 64), ("a", 128), ("b", 64), ("b", 128),
        ]  # fmt: skip
        for row in summary.itertuples():
            group = frame[(frame["transport"] == row.transport) & (frame["size"] == row.size)]
            expected = median_ci(group["y"])
            assert (row.value, row.low, row.high, row.launches) == (
                expected.value, expected.low, expected.high, expected.launches,
            )  # fmt: skip

    def test_keeps_groups_without_a_key_and_drops_rows_without_a_value(self) -> None:
        frame = pd.DataFrame({"size": [np.nan, np.nan, 64.0], "launch": [0, 1, 0], "y": [1.0, 3.0, np.nan]})
        summary = summarise(frame, ["size"], "y")
        assert summary["value"].tolist() == [2.0]
        assert summary["size"].isna().all()

    def test_of_nothing_is_an_empty_table_of_the_same_kind(self) -> None:
        frame = pd.DataFrame({"size": [64], "launch": [0], "y": [1.0]})
        empty = summarise(frame.head(0), ["size"], "y")
        assert empty.empty
        assert empty.dtypes.equals(summarise(frame, ["size"], "y").dtypes)
