"""The article: every number in it comes from the run, whatever the run holds."""

import json
import math
import os
import re
import shutil
import subprocess
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from zcipc.lab import article, claims, related_work
from zcipc.lab.errors import LabError
from zcipc.lab.results import Run

SOURCES = Path(article.__file__).resolve().parents[2] / "paper"
RUNTIMES = {"compiled": 1.0, "python": 3.0}
# Fixed cost in ns and cost per byte, loosely plausible: only their order matters here.
TRANSPORTS = {
    "pipe": (11_000, 0.40),
    "socketpair": (20_000, 0.50),
    "paper": (2_000, 0.30),
    "zcipc": (180, 0.12),
    "zcipc_block": (9_000, 0.12),
    "zcipc_loan": (170, 0.05),
}
SIZES = (64, 512, 8192)
LAUNCHES = 7

SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="7in" height="2in"><rect width="99" height="99"/></svg>'


def times(seed: int, **columns: float) -> pd.DataFrame:
    """A table of times by size; `columns` gives each column as a multiple of the median."""
    noise = np.random.default_rng(seed)
    rows = []
    for (runtime, slowness), (transport, (fixed, byte)), launch, size in product(
        RUNTIMES.items(), TRANSPORTS.items(), range(LAUNCHES), SIZES
    ):
        centre = slowness * (fixed + byte * size) * noise.normal(1, 0.02)
        keys = {"runtime": runtime, "transport": transport, "launch": launch, "sequence": 0, "message_bytes": size}
        rows.append(keys | {name: factor * centre for name, factor in columns.items()} | {"verified": True})
    return pd.DataFrame(rows)


def injection() -> pd.DataFrame:
    noise = np.random.default_rng(3)
    rows = []
    for (runtime, slowness), (transport, (fixed, byte)), launch, size, volume, warmup in product(
        RUNTIMES.items(), TRANSPORTS.items(), range(LAUNCHES), (64, 65_000), (100, 500, 1000, 2000), (True, False)
    ):
        rate = 1e9 / (slowness * (fixed + byte * size) * noise.normal(1, 0.02)) * (0.5 if warmup else 1)
        rows.append(
            {
                "runtime": runtime,
                "transport": transport,
                "launch": launch,
                "message_bytes": size,
                "volume_messages": volume,
                "interval_s": 0.5,
                "warmup": warmup,
                "messages_per_s": rate,
                "verified": True,
            }
        )
    return pd.DataFrame(rows)


def limits() -> pd.DataFrame:
    rows = [("cache_line_round_trip", 64, 125.0, "ns"), ("memcpy", 1 << 20, 9.7e9, "bytes/s")]
    return pd.DataFrame(
        [
            {"limit": name, "message_bytes": size, "launch": launch, "value": value + launch, "unit": unit}
            for name, size, value, unit in rows
            for launch in range(LAUNCHES)
        ]
    )


def design_choices() -> pd.DataFrame:
    """A choice whose alternative takes three times as long, and one that the machine does not offer."""
    rows = [
        {
            "choice": choice,
            "variant": variant,
            "shipped": shipped,
            "metric": "round_trip",
            "message_bytes": 64,
            "launch": launch,
            "value": value + launch / 100,
            "missing": missing,
        }
        for choice, variant, shipped, value, missing in (
            ("waiting", "spin, then futex", True, 100.0, ""),
            ("waiting", "semaphore", False, 300.0, ""),
            ("pages", "4 KiB", True, 100.0, ""),
            ("pages", "huge", False, math.nan, "there are none"),
        )
        for launch in range(LAUNCHES)
    ]
    return pd.DataFrame(rows)


def tables() -> dict[str, pd.DataFrame]:
    """One table of each kind, as the steps of a run make them."""
    made = {
        "machine": pd.DataFrame({"name": ["timer_cost_ns"], "value": [23.4], "unit": ["ns"]}),
        "limits": limits(),
        "table1_related_work": related_work.table(),
        "pingpong": times(1, round_trip_ns=1, p99_ns=2.5),
        "injection": injection(),
        "latency": times(2, p50_ns=0.5, p99_ns=6).assign(late_sends=3, messages=1000, period_us=40.0),
        "design_choices": design_choices(),
    }
    return made | {"claims": claims.judge(made, claims.load(SOURCES / "claims.yml"))}


@pytest.fixture(scope="module")
def complete() -> dict[str, pd.DataFrame]:
    return tables()


def make_run(root: Path, made: dict[str, pd.DataFrame], figures: bool = True) -> Run:
    """A run below `root`, with the article's sources and a stand-in for each figure."""
    shutil.copytree(SOURCES, root / "paper", ignore=lambda folder, names: [n for n in names if "." not in n])
    run = Run.open("trial", "quick", root)
    for name, frame in made.items():
        run.save(name, frame)
    run.figures.mkdir(parents=True)
    for name in article.FIGURES if figures else ():
        (run.figures / f"{name}.svg").write_text(SVG)
    return run


def text_of(pdf: Path) -> str:
    """The words of a PDF, on one line, hyphenation undone."""
    if shutil.which("pdftotext") is None:
        if os.environ.get("CI"):
            pytest.fail("pdftotext is missing: install poppler-utils")
        pytest.skip("pdftotext (poppler-utils) is not installed")
    extracted = subprocess.run(["pdftotext", str(pdf), "-"], capture_output=True, text=True, check=True).stdout
    return " ".join(re.sub(r"[-\u00ad\u2010]\n", "", extracted).split())


def shown(run: Run) -> str:
    return text_of(article.build(run))


def test_the_same_run_gives_the_same_bytes(tmp_path, complete):
    run = make_run(tmp_path / "home", complete)
    first = article.build(run).read_bytes()
    assert article.build(run).read_bytes() == first
    assert (run.paper / "zcipc.pdf").read_bytes() == first


def test_no_code_leaks_into_the_text(tmp_path, complete):
    for name, made in ("complete", complete), ("empty", {}):
        text = shown(make_run(tmp_path / name, made))
        assert not re.search(r"#|==|!=|\belse (if|\[)|none \[|\bdata\.\w", text)


def test_numbers_are_json_without_nan(tmp_path, complete):
    one_launch = complete["pingpong"].query("launch == 0")
    found = article.numbers(make_run(tmp_path / "home", {"pingpong": one_launch}))
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert all(estimate["low"] is None for estimate in found["pingpong"]["estimates"]["median"])


def test_a_median_in_the_text_is_the_median_of_the_data(tmp_path, complete):
    run = make_run(tmp_path / "home", complete)
    frame = complete["pingpong"].query("runtime == 'compiled' and transport == 'pipe' and message_bytes == 64")
    assert f"{frame['round_trip_ns'].median() / 1000:.1f} µs through the pipe" in shown(run)


def test_changed_data_change_the_text(tmp_path, complete):
    frame = complete["pingpong"]
    slow = frame.assign(round_trip_ns=frame["round_trip_ns"].where(frame["transport"] != "pipe", 777e6))
    before = shown(make_run(tmp_path / "before", complete))
    after = shown(make_run(tmp_path / "after", complete | {"pingpong": slow}))
    assert "777 ms through the pipe" not in before
    assert "777 ms through the pipe" in after


def test_the_design_choices_are_told_from_the_data(tmp_path, complete):
    text = shown(make_run(tmp_path / "home", complete))
    assert "Of 1 comparisons, the alternative takes clearly longer in 1, clearly less in 0" in text
    assert re.search(r"The greatest ratio, 3\.00, belongs to semaphore in place of spin, then futex", text)
    assert "This machine does not offer huge (pages)." in text


@pytest.mark.parametrize(
    ("factor", "words"),
    [
        (1e-3, "the pipe is the quicker of the two"),
        (1e3, "times as long as zcipc"),
    ],
)
def test_comparisons_read_correctly_whichever_is_faster(tmp_path, complete, factor, words):
    frame = complete["pingpong"]
    changed = frame.assign(round_trip_ns=frame["round_trip_ns"].where(frame["transport"] != "pipe", factor * 1e5))
    assert words in shown(make_run(tmp_path / "home", {"pingpong": changed}))


def test_equal_transports_are_not_told_apart(tmp_path, complete):
    frame = complete["pingpong"]
    noise = np.random.default_rng(5).normal(1000, 50, len(frame))
    assert "cannot be told apart" in shown(make_run(tmp_path / "home", {"pingpong": frame.assign(round_trip_ns=noise)}))


def test_the_verdicts_are_those_of_the_claims_table(tmp_path, complete):
    heads = claims.overall(complete["claims"], claims.load(SOURCES / "claims.yml"))
    run = make_run(tmp_path / "home", complete)
    text = shown(run)
    for verdict, group in heads.groupby("verdict"):
        assert re.search(rf"{len(group)} (is|are) {verdict} \({group['claim'].iloc[0]}\b", text)
    contrary = complete["claims"].assign(verdict="not reproduced")
    run.save("claims", contrary)
    assert "No claim of the paper was reproduced" in shown(run)


def test_every_claim_names_a_section_of_the_article():
    sources = "".join(path.read_text(encoding="utf-8") for path in SOURCES.glob("*.typ"))
    for claim in claims.load(SOURCES / "claims.yml"):
        assert f"<{claim.article}>" in sources, claim.id
        assert f'"{claim.id}"' in sources, f"no section states the verdict on {claim.id}"


@pytest.mark.parametrize("missing", ["pingpong", "injection", "latency", "limits", "machine", "table1_related_work", "claims"])
def test_a_missing_table_leaves_a_placeholder(tmp_path, complete, missing):
    run = make_run(tmp_path / "home", {name: frame for name, frame in complete.items() if name != missing})
    assert re.search(r"not (measured|tested) in this run", shown(run))


def test_an_empty_run_still_gives_an_article(tmp_path):
    text = shown(make_run(tmp_path / "home", {}, figures=False))
    assert "This run measured none of the experiments" in text
    assert "This figure was not drawn in this run" in text


def test_few_sizes_volumes_and_runtimes_suffice(tmp_path, complete):
    small = {
        "pingpong": complete["pingpong"].query("message_bytes == 64 and runtime == 'python'"),
        "injection": complete["injection"].query("message_bytes == 64 and volume_messages == 100"),
    }
    assert article.build(make_run(tmp_path / "home", small)).exists()


def test_every_reference_is_cited():
    cited = set(re.findall(r"@([a-z]+\d*)\b", (SOURCES / "en.typ").read_text(encoding="utf-8")))
    bibliography = (SOURCES / "references.bib").read_text(encoding="utf-8")
    known = set(re.findall(r"^@\w+\{(\w+),", bibliography, re.MULTILINE))
    assert known <= cited


# A number with a unit of measurement. Sizes in bytes are the grid's, and so are not measured.
MEASURED = re.compile(r"\d[\d.,]*[\s~]*(?:ns|µs|us|ms|s|times|%|\u00d7|percent|[kM]?/s|[GM]B/s|Gbps)(?![A-Za-z])")
CODE = re.compile(r"(?:width|length|height): \d+%")


def test_no_measured_number_is_typed():
    for path in SOURCES.glob("*.typ"):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            prose = CODE.sub("", line.split("//")[0]).replace("#let diagram-width = 86%", "")
            assert not MEASURED.search(prose), f"{path.name}:{number}: {line.strip()}"


@pytest.mark.parametrize("typed", ["12.3 times", "95 %", "180~ns", "4.4%", "11 µs", "2 s", "3 M/s"])
def test_the_rule_finds_typed_numbers(typed):
    assert MEASURED.search(f"It took {typed}, they say.")


def test_sources_that_are_absent_or_broken_say_so(tmp_path):
    run = Run.open("trial", "quick", tmp_path)
    with pytest.raises(LabError, match="does not exist"):
        article.build(run)
    run = make_run(tmp_path / "home", {})
    (run.root / "paper" / "zcipc.typ").write_text("#nonsense")
    with pytest.raises(LabError, match="unknown variable: nonsense"):
        article.build(run)


def test_plain_drops_what_json_cannot_say():
    values = {"a": np.int64(3), "b": np.float64(math.nan), "c": [np.bool_(True), 1.23456789]}
    assert article._plain(values) == {"a": 3, "b": None, "c": [True, 1.23457]}
