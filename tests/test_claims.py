"""Each claim is judged on tables that make it true, false and undecidable; a faulty claims file says why."""

import io
import math
from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
import pytest
import yaml
from rich.console import Console

from zcipc.lab.errors import LabError, UsageError
from zcipc.lab.harness.stats import Estimate, difference_ci
from zcipc.lab.plots.claims import verdicts as draw
from zcipc.lab.verdicts import claims
from zcipc.lab.verdicts.criteria import NOT_REPRODUCED, PATH, REPRODUCED, RULES, UNDECIDED, Region, load
from zcipc.lab.verdicts.evidence import STATISTICS, Effect
from zcipc.lab.verdicts.power import power
from zcipc.lab.verdicts.related_work import PROPERTIES

SIZES = [64 << doubling for doubling in range(8)]
VOLUMES = [100, 500, 1000, 2000]
RUNTIMES = ("compiled", "python")

# Per transport: a fixed cost in ns and a cost in ns per byte, so that C1 to C9 hold for the paper's design.
FAITHFUL = {
    "pipe": (20.0, 1.0),
    "socketpair": (30.0, 1.5),
    "paper": (15.0, 0.05),
    "zcipc": (10.0, 0.04),
    "zcipc_block": (40.0, 0.04),
    "zcipc_loan": (10.0, 0.039),
}
RATES = {
    "pipe": lambda volume: 1e8 / volume,
    "socketpair": lambda volume: 1e8 / volume,
    "paper": lambda volume: 2e6,
    "zcipc": lambda volume: 5e6,
}


def timed(column, costs, launches=10, noise=0.02):
    generator = np.random.default_rng(11)
    return pd.DataFrame(
        [
            {
                "runtime": runtime,
                "transport": transport,
                "launch": launch,
                "message_bytes": size,
                column: (fixed + each * size) * generator.lognormal(0, noise),
                "verified": True,
            }
            for runtime, (transport, (fixed, each)) in product(RUNTIMES, costs.items())
            for launch, size in product(range(launches), SIZES)
        ]
    )


def injected(rates, launches=10, noise=0.02):
    generator = np.random.default_rng(12)
    return pd.DataFrame(
        [
            {
                "runtime": runtime,
                "transport": transport,
                "launch": launch,
                "message_bytes": size,
                "volume_messages": volume,
                "interval_s": interval,
                "warmup": warmup,
                # A warm-up that counted would turn every verdict round.
                "messages_per_s": 1.0 if warmup else rate(volume) * generator.lognormal(0, noise),
                "verified": True,
            }
            for runtime, (transport, rate) in product(RUNTIMES, rates.items())
            for launch, size, volume in product(range(launches), (64, 65_000), VOLUMES)
            for interval, warmup in product((0.5, 5.0), (True, False))
        ]
    )


def measured(costs=FAITHFUL, rates=RATES, **options):
    return {
        "pingpong": timed("round_trip_ns", costs, **options),
        "latency": timed("p50_ns", costs, **options),
        "injection": injected(rates, **options),
    }


@pytest.fixture(scope="module")
def stated():
    return {claim.id: claim for claim in load(PATH)}


@pytest.fixture(scope="module")
def faithful():
    return claims.judge(measured())


def one(frame, claim, condition="", runtime="compiled", library="paper", baseline="pipe"):
    wanted = {
        "claim": claim,
        "condition": condition,
        "runtime": runtime,
        "library": library,
        "baseline": baseline,
    }
    found = frame[(frame[list(wanted)] == list(wanted.values())).all(axis=1)]
    assert len(found) == 1
    return found.iloc[0]


# What would make each claim false, as changes to the costs or the rates of a faithful world.
SLOW = FAITHFUL | {"paper": (21.0, 1.1)}
STEEP = FAITHFUL | {"paper": (2.0, 0.9), "pipe": (400.0, 0.5)}
FLAT_PIPE = FAITHFUL | {"pipe": (400.0, 0.01)}
DOUBTFUL_PIPE = FAITHFUL | {"pipe": (121.7, 1.0)}  # a slope of 0.8
SHRINKING = FAITHFUL | {"paper": (500.0, -0.05)}

CASES = [
    ("C1", "", FAITHFUL, REPRODUCED),
    ("C1", "", SLOW, NOT_REPRODUCED),
    ("C1", "", FAITHFUL | {"paper": (20.0, 1.0)}, UNDECIDED),
    ("C1", "", FAITHFUL | {"paper": (1.0, 1.1)}, NOT_REPRODUCED),  # faster, but not at every size
    ("C2", "", FAITHFUL, REPRODUCED),
    ("C2", "", FLAT_PIPE, NOT_REPRODUCED),
    ("C2", "", DOUBTFUL_PIPE, UNDECIDED),
    ("C3", "relative", FAITHFUL, REPRODUCED),
    ("C3", "relative", STEEP, NOT_REPRODUCED),
    ("C3", "relative", FAITHFUL | {"paper": (10.0, 0.5)}, UNDECIDED),  # half of everything: the same slope
    ("C3", "absolute", FAITHFUL | {"paper": (10.0, 0.5)}, REPRODUCED),
    ("C3", "absolute", STEEP, NOT_REPRODUCED),
    ("C3", "absolute", FAITHFUL | {"paper": (20.0, 1.0)}, UNDECIDED),
    ("C7", "", FAITHFUL, REPRODUCED),
    ("C7", "", SHRINKING, NOT_REPRODUCED),
    ("C7", "", FAITHFUL | {"paper": (50.0, 0.0)}, UNDECIDED),
    ("C8", "absolute", FAITHFUL, REPRODUCED),
    ("C8", "absolute", STEEP, NOT_REPRODUCED),
    ("C8", "absolute", FAITHFUL | {"paper": (20.0, 1.0)}, UNDECIDED),
    ("C8", "each doubling", FAITHFUL, REPRODUCED),
    ("C8", "each doubling", STEEP, NOT_REPRODUCED),
    ("C8", "each doubling", FAITHFUL | {"paper": (20.0, 1.0)}, UNDECIDED),
    ("C8", "relative", FAITHFUL, REPRODUCED),
    ("C8", "relative", STEEP, NOT_REPRODUCED),
    ("C8", "relative", FAITHFUL | {"paper": (10.0, 0.5)}, UNDECIDED),
    ("C9", "ping-pong", FAITHFUL, REPRODUCED),
    ("C9", "ping-pong", STEEP, NOT_REPRODUCED),
    ("C9", "ping-pong", FAITHFUL | {"paper": (10.0, 0.5)}, UNDECIDED),
    ("C9", "latency", FAITHFUL, REPRODUCED),
    ("C9", "latency", STEEP, NOT_REPRODUCED),
    ("C9", "latency", FAITHFUL | {"paper": (10.0, 0.5)}, UNDECIDED),
    ("C10", "zero copy", FAITHFUL, NOT_REPRODUCED),
    ("C10", "zero copy", FAITHFUL | {"paper": (15.0, 0.03)}, REPRODUCED),
    ("C10", "zero copy", FAITHFUL | {"paper": (15.0, 0.0429)}, UNDECIDED),  # 1.1 times the loans'
    ("C10", "synchronous", FAITHFUL, REPRODUCED),
    ("C10", "kernel bypass", FAITHFUL, REPRODUCED),
    ("C10", "kernel bypass", FAITHFUL | {"paper": (40.0, 0.05)}, NOT_REPRODUCED),
    ("C10", "kernel bypass", FAITHFUL | {"paper": (21.28, 0.0)}, UNDECIDED),  # half of 42.56, the sleeping ring's
]


@pytest.mark.parametrize(("claim", "condition", "costs", "verdict"), CASES)
def test_claims_about_time(stated, claim, condition, costs, verdict):
    tables = {"pingpong": timed("round_trip_ns", costs), "latency": timed("p50_ns", costs)}
    found = one(claims.judge(tables, [stated[claim]]), claim, condition)
    assert found["verdict"] == verdict, found["statement"]


def tried(good=1000, attempts=1000, missing=""):
    """What Table 1, executed, found of every property alike."""
    properties = pd.Series(list(PROPERTIES), name="property")
    return pd.DataFrame(properties).assign(good=good, tried=attempts, seen="messages did", missing=missing)


EXECUTED = [f"{name}, executed" for name in ("zero copy", "synchronous", "serialization", "shared memory", "kernel bypass")]
CASES_OF_EVIDENCE = [
    (tried(), REPRODUCED, "Tried out with zcipc: 1,000 of 1,000 messages did."),
    (tried(good=999), NOT_REPRODUCED, "Tried out with zcipc: 999 of 1,000 messages did."),
    (tried(0, 0, "seccomp is forbidden here"), UNDECIDED, "It could not be tried: seccomp is forbidden here."),
]


@pytest.mark.parametrize("condition", EXECUTED)
@pytest.mark.parametrize(("evidence", "verdict", "statement"), CASES_OF_EVIDENCE)
def test_the_claim_about_table_1_rests_on_what_was_tried(stated, evidence, verdict, statement, condition):
    frame = claims.judge({"table1_evidence": evidence}, [stated["C10"]])
    for runtime in RUNTIMES:
        found = one(frame, "C10", condition, runtime, library="zcipc")
        assert (found["verdict"], found["statement"]) == (verdict, statement)


@pytest.mark.parametrize("condition", EXECUTED)
def test_evidence_for_zcipc_says_nothing_of_the_papers_design(stated, condition):
    found = one(claims.judge({"table1_evidence": tried()}, [stated["C10"]]), "C10", condition)
    assert found["verdict"] == UNDECIDED
    assert "did not measure the paper's design" in found["statement"]


def test_one_property_out_of_five_decides_only_for_itself(stated):
    frame = tried()
    frame.loc[frame["property"] == "serialization", "good"] = 0
    verdicts = claims.judge({"table1_evidence": frame}, [stated["C10"]]).query("library == 'zcipc' and runtime == 'compiled'")
    refuted = verdicts[verdicts["verdict"] == NOT_REPRODUCED]
    assert set(refuted["condition"]) == {"serialization, executed"}


def rate(**changed):
    return RATES | {name: (lambda volume, value=value: value(volume)) for name, value in changed.items()}


CASES_OF_RATES = [
    ("C4", RATES, REPRODUCED),
    ("C4", rate(paper=lambda volume: 5e5), NOT_REPRODUCED),  # below the pipe at 100 messages only
    ("C4", rate(paper=lambda volume: 1e8 / volume), UNDECIDED),
    ("C5", RATES, REPRODUCED),
    ("C5", rate(pipe=lambda volume: 1e6), NOT_REPRODUCED),
    ("C5", rate(pipe=lambda volume: 1e6 if volume == 100 else 8e5), UNDECIDED),
    ("C6", RATES, REPRODUCED),
    ("C6", rate(paper=lambda volume: 2e6 if volume < 2000 else 1e6), NOT_REPRODUCED),
    ("C6", rate(paper=lambda volume: 2e6 if volume < 2000 else 1.6e6), UNDECIDED),
]


@pytest.mark.parametrize("condition", ["64 B", "65 kB"])
@pytest.mark.parametrize(("claim", "rates", "verdict"), CASES_OF_RATES)
def test_claims_about_rates(stated, claim, rates, verdict, condition):
    found = one(claims.judge({"injection": injected(rates)}, [stated[claim]]), claim, condition)
    assert found["verdict"] == verdict, found["statement"]


def test_every_claim_is_shown_true_false_and_undecidable(stated):
    """But that a share of launches is counted, not estimated, so it is never in doubt."""
    shown = {(claim, condition, verdict) for claim, condition, _, verdict in CASES}
    shown |= {(claim, condition, verdict) for claim, _, verdict in CASES_OF_RATES for condition in ("64 B", "65 kB")}
    shown |= {("C10", condition, verdict) for condition in EXECUTED for _, verdict, _ in CASES_OF_EVIDENCE}
    shown.add(("C10", "synchronous", NOT_REPRODUCED))  # test_a_wrong_payload_has_no_speed
    for claim in stated.values():
        for criterion in claim.criteria:
            counted = criterion.decision.statistic == "share_verified"
            for verdict in {REPRODUCED, NOT_REPRODUCED, UNDECIDED} - ({UNDECIDED} if counted else set()):
                assert (claim.id, criterion.condition, verdict) in shown


def test_slope_at_the_edge_of_doubling_is_undecided():
    frame = timed("round_trip_ns", FAITHFUL)
    frame["round_trip_ns"] = frame["message_bytes"] ** (0.8 + 0.02 * (frame["launch"] - 4.5))
    assert one(claims.judge({"pingpong": frame}), "C2")["verdict"] == UNDECIDED


class TestFrame:
    def test_has_the_agreed_columns_and_every_combination_once(self, faithful, stated):
        assert list(faithful.columns) == [
            "claim", "runtime", "library", "baseline", "condition", "verdict",
            "effect", "effect_low", "effect_high", "effect_unit", "launches", "detectable", "launches_needed", "statement",
        ]  # fmt: skip
        keys = ["claim", "runtime", "library", "baseline", "condition"]
        assert not faithful.duplicated(keys).any()
        assert len(faithful) == 8 * sum(len(claim.criteria) for claim in stated.values())

    def test_statements_are_whole_sentences_with_the_numbers(self, faithful):
        assert faithful["statement"].str.endswith(".").all()
        assert not faithful["statement"].str.contains(r"[{}]|nan").any()
        found = one(faithful, "C1")
        assert found["statement"].startswith("At 64 B, where the advantage is least")
        assert found["effect_low"] < found["effect"] < found["effect_high"]

    def test_a_verdict_hangs_on_the_worst_size(self):
        found = one(claims.judge({"pingpong": timed("round_trip_ns", FAITHFUL | {"paper": (1.0, 1.1)})}), "C1")
        assert "8 KiB" in found["statement"]
        assert found["effect"] == pytest.approx((20 + 8192) / (1 + 1.1 * 8192), rel=0.03)

    def test_claims_about_one_side_repeat_themselves(self, faithful):
        assert one(faithful, "C2")["statement"] == one(faithful, "C2", library="zcipc")["statement"]
        assert one(faithful, "C6", "64 B")["statement"] == one(faithful, "C6", "64 B", baseline="socketpair")["statement"]

    def test_the_order_of_the_rows_does_not_matter(self, faithful):
        shuffled = {name: table.sample(frac=1, random_state=3) for name, table in measured().items()}
        pd.testing.assert_frame_equal(claims.judge(shuffled), faithful)


class TestPower:
    """What an undecided claim could have seen, and what would decide it."""

    DOUBTFUL = FAITHFUL | {"paper": (19.8, 0.99)}

    def test_an_undecided_claim_says_it_and_a_decided_one_does_not(self, stated):
        frame = claims.judge({"pingpong": timed("round_trip_ns", self.DOUBTFUL)}, [stated["C1"]])
        doubtful, decided = one(frame, "C1"), one(frame, "C1", library="zcipc")
        assert (doubtful["verdict"], decided["verdict"]) == (UNDECIDED, REPRODUCED)
        assert "With 10 launches, four runs in five would decide an effect 0.0" in doubtful["statement"]
        assert doubtful["launches_needed"] > doubtful["launches"] == 10
        assert "four runs in five" not in decided["statement"]
        assert np.isnan(decided[["detectable", "launches_needed"]].astype(float)).all()

    def test_an_effect_at_the_threshold_is_beyond_any_number_of_launches(self):
        seeing = power(Estimate(1.0, 0.9, 1.1, 12), (1.0,))
        assert seeing.launches == math.inf

    def test_the_hardest_threshold_counts_and_one_outside_the_interval_does_not(self):
        assert power(Estimate(1.15, 0.7, 1.6, 12), (0.8, 1.2)).threshold == 1.2
        assert power(Estimate(1.15, 1.0, 1.3, 12), (0.8,)) is None
        assert power(Estimate(1.0, math.nan, math.nan, 1), (0.8,)) is None

    def test_keeps_its_promise(self):
        """In simulated runs: four in five decide the effect it names, and the number of launches it names is enough."""
        generator, launches = np.random.default_rng(5), 20

        def run(effect, launches):
            return difference_ci(generator.normal(effect, 1, launches), generator.normal(0, 1, launches))

        named = [power(replace(run(0, launches), value=0.0), (0.0,)) for _ in range(60)]
        effect = float(np.median([seeing.detectable for seeing in named if seeing]))
        for times in (1, 4):  # half the effect takes four times the launches
            decided = [run(effect / times**0.5, launches * times).low > 0 for _ in range(200)]
            assert 0.7 < np.mean(decided) < 0.92


class TestMissingEvidence:
    def test_no_tables_at_all_leaves_everything_undecided(self):
        frame = claims.judge({})
        assert set(frame["verdict"]) == {UNDECIDED}
        assert frame["effect"].isna().all()

    def test_an_absent_transport_is_named(self):
        table = timed("round_trip_ns", FAITHFUL)
        found = one(claims.judge({"pingpong": table[table["transport"] != "pipe"]}), "C1")
        assert found["verdict"] == UNDECIDED
        assert "did not measure the pipe in the compiled runtime" in found["statement"]

    def test_volumes_a_claim_speaks_of_must_be_there(self):
        table = injected(RATES)
        found = one(claims.judge({"injection": table[table["volume_messages"].isin([100, 2000])]}), "C5", "64 B")
        assert found["verdict"] == UNDECIDED
        assert "500 messages an injection" in found["statement"]

    def test_one_size_has_no_growth(self):
        table = timed("round_trip_ns", FAITHFUL)
        frame = claims.judge({"pingpong": table[table["message_bytes"] == 64]})
        assert one(frame, "C1")["verdict"] == REPRODUCED
        assert {one(frame, "C2")["verdict"], one(frame, "C3", "relative")["verdict"]} == {UNDECIDED}

    def test_one_launch_decides_nothing_that_varies(self):
        frame = claims.judge(measured(launches=1))
        assert set(frame.loc[frame["condition"] != "synchronous", "verdict"]) == {UNDECIDED}
        assert "one launch, no interval" in one(frame, "C1")["statement"]

    def test_growth_lost_in_noise_is_no_evidence(self):
        frame = claims.judge({"pingpong": timed("round_trip_ns", SHRINKING)})
        assert "lost in the noise" in one(frame, "C10", "zero copy")["statement"]

    def test_a_wrong_payload_has_no_speed(self):
        table = timed("round_trip_ns", FAITHFUL)
        table.loc[(table["transport"] == "paper") & (table["message_bytes"] == 64), "verified"] = False
        frame = claims.judge({"pingpong": table})
        assert one(frame, "C10", "synchronous")["verdict"] == NOT_REPRODUCED
        assert one(frame, "C10", "kernel bypass")["verdict"] == UNDECIDED

    @pytest.mark.parametrize(
        ("name", "column"), [("pingpong", "round_trip_ns"), ("injection", "warmup"), ("latency", "verified")]
    )
    def test_a_missing_column_is_refused_by_name(self, name, column):
        tables = measured(launches=1)
        tables[name] = tables[name].drop(columns=column)
        with pytest.raises(LabError, match=f"cannot judge table '{name}': it lacks {column}; its columns: runtime"):
            claims.judge(tables)


class TestOverall:
    def test_one_line_per_claim(self, faithful, stated):
        lines = claims.overall(faithful).set_index("claim")
        assert list(lines.index) == list(stated)
        assert lines.loc["C1", "verdict"] == REPRODUCED
        assert lines.loc["C10", "verdict"] == NOT_REPRODUCED  # one property of five is enough
        assert lines.loc["C10", "statement"] == one(faithful, "C10", "zero copy")["statement"]

    def test_repetitions_are_counted_once(self, faithful):
        lines = claims.overall(faithful).set_index("claim")
        assert lines.loc["C1", "others"] == 7
        assert lines.loc["C2", "others"] == 3  # two baselines in two runtimes, less the headline

    def test_what_the_headline_leaves_out_stands_beside_it(self, faithful):
        lines = claims.overall(faithful).set_index("claim")
        assert lines.loc["C4", "elsewhere"] == "same in 7 of 7 others; 65 kB: reproduced"

    def test_disagreement_is_counted(self):
        tables = measured()
        interpreted = tables["pingpong"]["runtime"] == "python"
        tables["pingpong"].loc[interpreted & (tables["pingpong"]["transport"] == "paper"), "round_trip_ns"] *= 100
        line = claims.overall(claims.judge(tables)).set_index("claim").loc["C1"]
        assert (line["verdict"], line["agree"], line["others"]) == (REPRODUCED, 5, 7)

    def test_is_readable_in_a_terminal(self, faithful):
        console = Console(width=160, record=True, file=io.StringIO())
        console.print(claims.render(faithful))
        text = console.export_text()
        assert "C10" in text
        assert "[" in text.split("where the advantage is least", 1)[1][:400]


def test_the_figure_joins_cells_of_the_same_finding(faithful, stated, tmp_path):
    figure = draw(faithful, {name: claim.title for name, claim in stated.items()})
    figure.savefig(tmp_path / "verdicts.png", dpi=50)
    words = [text.get_text() for text in figure.axes[0].texts]
    assert words.count("✓ 100%") == 4  # synchronous: a library in a runtime, whatever the baseline
    assert words.count("?") == 5 * 4  # what was executed: not measured in `faithful`, in either runtime, of either library


class TestRegion:
    @pytest.mark.parametrize(
        ("rule", "low", "high", "verdict"),
        [
            ("above", 1.1, 2.0, REPRODUCED),
            ("above", 1.0, 2.0, UNDECIDED),
            ("above", 0.5, 1.0, NOT_REPRODUCED),
            ("below", 0.5, 0.9, REPRODUCED),
            ("below", 0.9, 1.1, UNDECIDED),
            ("below", 1.0, 1.1, NOT_REPRODUCED),
            ("above", math.nan, math.nan, UNDECIDED),
        ],
    )
    def test_one_sided(self, rule, low, high, verdict):
        effect = Effect(Estimate((low + high) / 2, low, high, 9), "here")
        assert RULES[rule](1.0).decide([effect]) == (verdict, effect)

    @pytest.mark.parametrize(
        ("low", "high", "verdict"),
        [
            (0.8, 1.2, REPRODUCED),
            (0.7, 0.9, UNDECIDED),
            (0.1, 3.0, UNDECIDED),
            (1.3, 1.4, NOT_REPRODUCED),
            (0.1, 0.2, NOT_REPRODUCED),
        ],
    )
    def test_equivalence(self, low, high, verdict):
        assert RULES["within"](0.8, 1.2).decide([Effect(Estimate(low, low, high, 9), "")])[0] == verdict

    def test_hangs_on_the_effect_that_refutes_not_on_the_widest(self):
        wide, refuting = (
            Effect(Estimate(0.1, -5, 5, 9), "wide"),
            Effect(Estimate(0.9, 0.85, 0.95, 9), "refuting"),
        )
        assert Region(1.0, math.inf).decide([wide, refuting]) == (NOT_REPRODUCED, refuting)


class TestFile:
    def test_states_ten_claims_in_two_languages(self, stated):
        assert list(stated) == [f"C{number}" for number in range(1, 11)]
        assert all(claim.text["en"] and claim.text["pt"] for claim in stated.values())

    def test_every_statistic_has_a_use(self, stated):
        decisions = [criterion.decision for claim in stated.values() for criterion in claim.criteria]
        assert {decision.statistic for decision in decisions} == set(STATISTICS)

    @pytest.mark.parametrize(
        ("path", "value", "message"),
        [
            (
                ["statistic"],
                "rato",
                r"claim 1 \(C1\), criterion 1: unknown statistic 'rato'; valid: 'ratio', 'slope'",
            ),
            (["rule"], {"over": 1}, "unknown rule 'over'; valid: 'above', 'below', 'within'"),
            (["rule"], {"within": 1}, r"rule 'within' takes 2 number\(s\), not 1"),
            (["rule"], {"above": "one"}, r"rule 'above' takes 1 number\(s\), not 'one'"),
            (["rule"], "above", "a rule is one name and its threshold"),
            (
                ["sentence"],
                "{size} is too much.",
                "unknown field of a sentence 'size'; valid: 'at', 'effect'",
            ),
            (["with", "table"], "ping", "unknown table 'ping'; valid: 'pingpong', 'injection', 'latency', 'table1_evidence'"),
            (["with", "over"], "tcp", "unknown transport 'tcp'; valid: 'library', 'baseline', 'pipe'"),
            (
                ["with", "size"],
                64,
                "unknown key 'size'; valid: 'at', 'over', 'table', 'under', 'value', 'levels', 'where'",
            ),
            (["with"], {"table": "pingpong"}, "at, over, under, value missing"),
            (["condtion"], "64 B", "unknown key 'condtion'"),
        ],
    )
    def test_a_fault_in_a_criterion_says_where_and_what_is_valid(self, tmp_path, path, value, message):
        content = yaml.safe_load(PATH.read_text(encoding="utf-8"))
        place = content["claims"][0]["criteria"][0]
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
        with pytest.raises(UsageError, match=message):
            load(self.written(tmp_path, content))

    @pytest.mark.parametrize(
        ("key", "value", "message"),
        [
            ("headline", ["1 MB"], "unknown condition '1 MB'; valid: ''"),
            ("experiment", "pong", "unknown experiment 'pong'"),
            ("text", {"en": "Faster."}, "text: pt missing"),
            ("verdict", "yes", "unknown key 'verdict'"),
            ("id", "C2", "two claims are called C2"),
        ],
    )
    def test_a_fault_in_a_claim_says_where_and_what_is_valid(self, tmp_path, key, value, message):
        content = yaml.safe_load(PATH.read_text(encoding="utf-8"))
        content["claims"][0][key] = value
        with pytest.raises(UsageError, match=message):
            load(self.written(tmp_path, content))

    def test_what_is_not_a_claims_file_is_refused(self, tmp_path):
        path = tmp_path / "claims.yml"
        with pytest.raises(UsageError, match="does not exist"):
            load(path)
        path.write_text("claims: [")
        with pytest.raises(UsageError, match="not YAML"):
            load(path)
        path.write_text("- C1")
        with pytest.raises(UsageError, match="expected a mapping with claims"):
            load(path)

    @staticmethod
    def written(directory, content):
        path = directory / "claims.yml"
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        return path
