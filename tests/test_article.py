"""The article: every number in it comes from the run, whatever the run holds, in either language."""

import json
import math
import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from zcipc.lab.errors import LabError
from zcipc.lab.measurements import headlines
from zcipc.lab.publishing import article
from zcipc.lab.runs.results import Run
from zcipc.lab.verdicts import claims, related_work

SOURCES = Path(__file__).resolve().parents[1] / "paper"
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

LANGUAGES = tuple(article.LANGUAGES)

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


def microkernel() -> pd.DataFrame:
    """Files that pass fastest with loans, and a driver whose death a pipe tells of soonest; ten bytes a nanosecond alone."""
    noise = np.random.default_rng(4)
    costs = {"pipe": (60_000, 0.5), "socketpair": (40_000, 0.4), "zcipc_loan": (50_000, 0.1), "limit": (1_000, 0.1)}
    kills = {"pipe": 9e6, "socketpair": 8e6, "zcipc_loan": 35e6}
    rows = []
    for (transport, (call, byte)), launch in product(costs.items(), range(LAUNCHES)):
        for operation, size in product(("read", "write"), (4096, 1 << 20, 1 << 26)):
            rows.append((transport, launch, operation, size, size / (5 * call + byte * size) * 1e9, "bytes/s"))
        if transport in kills:
            rows.append((transport, launch, "call", 0, call, "ns"))
            rows += [(transport, launch, "noticed", 1 << 20, kills[transport], "ns")] * 2
            rows += [(transport, launch, "recovered", 1 << 20, 2 * kills[transport], "ns")] * 2
    frame = pd.DataFrame(rows, columns=["transport", "launch", "operation", "file_bytes", "value", "unit"])
    return frame.assign(value=frame["value"] * noise.lognormal(0, 0.02, len(frame)))


def related_headlines() -> pd.DataFrame:
    noise = np.random.default_rng(6)
    plausible = {"ns": 1000.0, "bit/s": 8e10, "times as long": 1.1, "a message": 0.5}
    series = {(one.measurement, name) for one in headlines.HEADLINES for name in (one.ours, one.theirs) if name}
    return pd.DataFrame(
        {
            "measurement": measurement,
            "series": name,
            "launch": launch,
            "unit": unit,
            "value": plausible[unit] * (1 + len(name) / 10) * noise.lognormal(0, 0.02),
        }
        for measurement, name in sorted(series)
        for unit in (headlines.MEASUREMENTS[measurement].unit,)
        for launch in range(LAUNCHES)
    )


def realtime() -> pd.DataFrame:
    """Who never sleeps delivers soonest, and misses the most deadlines under load."""
    noise = np.random.default_rng(7)
    delays = {"pipe": 80e3, "zcipc_block": 81e3, "zcipc": 90e3, "zcipc_spin": 60e3}
    cases = [("other", rate) for rate in (100, 1000, 10_000)] + [("fifo", 1000)]
    return pd.DataFrame(
        {
            "scheduler": scheduler,
            "load": load,
            "rate_hz": rate,
            "transport": transport,
            "launch": launch,
            "messages": rate,
            "missed": rate // 10 if load != "idle" and transport == "zcipc_spin" else 0,
            "wake_p50_ns": 50e3 * noise.lognormal(0, 0.02),
            "delivery_p50_ns": (late := delay * noise.lognormal(0, 0.02)),
            "delivery_p99_ns": 4 * late,
        }
        for (scheduler, rate), load, (transport, delay), launch in product(
            cases, ("idle", "cpu", "memory", "io"), delays.items(), range(3)
        )
    )


def evidence() -> pd.DataFrame:
    """Three properties that were seen to hold, one that was not, and two that could not be tried."""
    properties = [*related_work.PROPERTIES]
    tried = [(7, 7, ""), (22, 22, ""), (513, 513, ""), (999, 1000, ""), (0, 0, "no seccomp here"), (0, 0, "no tracing here")]
    return pd.DataFrame(
        {
            "property": name,
            "question": "Does it?",
            "holds": 0 < attempts == good,
            "good": good,
            "tried": attempts,
            "seen": "messages that did",
            "missing": missing,
        }
        for name, (good, attempts, missing) in zip(properties, tried, strict=True)
    )


def tables() -> dict[str, pd.DataFrame]:
    """One table of each kind, as the steps of a run make them."""
    made = {
        "machine": pd.DataFrame({"name": ["timer_cost_ns"], "value": [23.4], "unit": ["ns"]}),
        "limits": limits(),
        "table1_related_work": related_work.table(),
        "table1_evidence": evidence(),
        "pingpong": times(1, round_trip_ns=1, p99_ns=2.5),
        "injection": injection(),
        "latency": times(2, p50_ns=0.5, p99_ns=6).assign(late_sends=3, messages=1000, period_us=40.0),
        "design_choices": design_choices(),
        "microkernel": microkernel(),
        "headlines": related_headlines(),
        "realtime": realtime(),
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
        for suffix in ("svg", "pt.svg"):
            (run.figures / f"{name}.{suffix}").write_text(SVG)
    return run


def lines_of(pdf: Path) -> str:
    """The text of a PDF, line by line."""
    if shutil.which("pdftotext") is None:
        if os.environ.get("CI"):
            pytest.fail("pdftotext is missing: install poppler-utils")
        pytest.skip("pdftotext (poppler-utils) is not installed")
    return subprocess.run(["pdftotext", str(pdf), "-"], capture_output=True, text=True, check=True).stdout


def shown(run: Run, language: str = "en") -> str:
    """The words of the article, on one line, hyphenation undone."""
    return " ".join(re.sub(r"[-\u00ad\u2010]\n", "", lines_of(article.build(run)[language])).split())


def test_the_same_run_gives_the_same_bytes(tmp_path, complete):
    run = make_run(tmp_path / "home", complete)
    first = {language: path.read_bytes() for language, path in article.build(run).items()}
    assert {language: path.read_bytes() for language, path in article.build(run).items()} == first
    assert (run.paper / "zcipc.pdf").read_bytes() == first["en"]
    assert (run.paper / "zcipc.pt.pdf").read_bytes() == first["pt"]


def names(language: str) -> set[str]:
    return set(re.findall(r"^#let ([\w-]+)", (SOURCES / f"{language}.typ").read_text(encoding="utf-8"), re.MULTILINE))


def test_both_languages_say_the_same_things(tmp_path, complete):
    assert names("en") == names("pt") - {"phrases", "phrase", "effects", "effect-of", "power-of"}
    run = make_run(tmp_path / "home", complete)
    written = {language: Counter(entry["value"] for entry in printed(run, language)) for language in LANGUAGES}
    assert set(written["en"]) <= set(written["pt"])


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_code_leaks_into_the_text(tmp_path, complete, language):
    for name, made in ("complete", complete), ("empty", {}):
        text = shown(make_run(tmp_path / name, made), language)
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
    text = shown(make_run(tmp_path / "home", {"design_choices": complete["design_choices"]}))
    assert "Of 1 comparisons, the alternative takes clearly longer in 1, clearly less in 0" in text
    assert re.search(r"The greatest ratio, 3\.00, belongs to semaphore in place of spin, then futex", text)
    assert "This machine does not offer huge (pages)." in text


def test_the_microkernel_is_told_from_the_data(tmp_path, complete):
    frame = complete["microkernel"]
    text = shown(make_run(tmp_path / "home", {"microkernel": frame}))
    largest = frame[(frame["operation"] == "read") & (frame["file_bytes"] == 1 << 26)].groupby("transport")["value"].median()
    assert f"{largest['zcipc_loan'] / 1e9:.2f} GB/s with loans" in text
    assert re.search(r"zcipc with loans moves 4\.\d+ times as many bytes per second as the pipe", text)
    assert "The driver was killed 14 times over each transport" in text
    slow = frame.assign(value=frame["value"].where(frame["transport"] != "zcipc_loan", 1.0))
    assert "zcipc with loans moves fewer bytes per second than the pipe" in shown(
        make_run(tmp_path / "slow", {"microkernel": slow})
    )


def test_the_headlines_stand_beside_what_was_reported(tmp_path, complete):
    text = shown(make_run(tmp_path / "home", {"headlines": complete["headlines"]}))
    table = text[text.index("The headlines of the related work, and what was measured") :]
    assert "1.49; 5.86; 19.6" in table
    assert "82.2 Gbit/s" in table
    assert all(one.unlike.split(";")[0].rstrip(".")[:30] in table for one in headlines.HEADLINES)


def test_the_periodic_task_is_told_from_the_data(tmp_path, complete):
    text = shown(make_run(tmp_path / "home", {"realtime": complete["realtime"]}))
    assert "Of the 16 combinations of scheduler, load and rate" in text
    assert "16 and 0 with zcipc that never sleeps" in text  # sooner at the median, and at the 99th percentile
    alone = complete["realtime"].query("scheduler == 'other'")
    text = shown(make_run(tmp_path / "without", {"realtime": alone}))
    assert "this user may not use the scheduler of real time" in text
    assert "Of the 12 combinations" in text


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


def test_our_row_of_table_1_has_only_the_marks_that_were_seen(tmp_path, complete):
    text = shown(make_run(tmp_path / "home", complete))
    assert "999/1000" in text
    assert "could not be tried: no seccomp here" in text
    of_the_paper = int(related_work.table()[[*related_work.PROPERTIES]].to_numpy().sum()) + 5  # and the row of its library
    assert text.count("✓") == of_the_paper + 3 + 1  # and the one in the caption


@pytest.mark.parametrize(
    "missing",
    [
        "table1_evidence",
        "pingpong",
        "injection",
        "latency",
        "limits",
        "machine",
        "table1_related_work",
        "claims",
        "microkernel",
        "headlines",
        "realtime",
    ],
)
def test_a_missing_table_leaves_a_placeholder(tmp_path, complete, missing):
    run = make_run(tmp_path / "home", {name: frame for name, frame in complete.items() if name != missing})
    assert re.search(r"not (measured|tested) in this run", shown(run))


def test_an_empty_run_still_gives_an_article(tmp_path):
    run = make_run(tmp_path / "home", {}, figures=False)
    assert "This run measured none of the experiments" in shown(run)
    assert "This figure was not drawn in this run" in shown(run)
    assert "Esta execução não mediu nenhum dos experimentos" in shown(run, "pt")


def test_few_sizes_volumes_and_runtimes_suffice(tmp_path, complete):
    small = {
        "pingpong": complete["pingpong"].query("message_bytes == 64 and runtime == 'python'"),
        "injection": complete["injection"].query("message_bytes == 64 and volume_messages == 100"),
    }
    assert all(path.exists() for path in article.build(make_run(tmp_path / "home", small)).values())


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_reference_is_cited(language):
    cited = set(re.findall(r"@([a-z]+\d*)\b", (SOURCES / f"{language}.typ").read_text(encoding="utf-8")))
    bibliography = (SOURCES / "references.bib").read_text(encoding="utf-8")
    known = set(re.findall(r"^@\w+\{(\w+),", bibliography, re.MULTILINE))
    assert known <= cited


def test_portuguese_has_its_own_words_and_marks(tmp_path, complete):
    text = shown(make_run(tmp_path / "home", complete), "pt")
    frame = complete["pingpong"].query("runtime == 'compiled' and transport == 'pipe' and message_bytes == 64")
    assert f"{frame['round_trip_ns'].median() / 1000:.1f} µs pelo pipe".replace(".", ",") in text
    assert "Trabalhos correlatos" in text
    assert not re.search(r"\b(the|not reproduced|times as long)\b", text.split("Referências")[0])


# Every number in the text


def printed(run: Run, language: str) -> list[dict[str, Any]]:
    article.build(run)
    return article.printed(run, language)


def leaves(value: Any) -> Iterator[Any]:
    """What is in a tree of JSON that holds nothing else."""
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from leaves(item)
    else:
        yield value


def counts(found: dict[str, Any]) -> set[int]:
    """What the article counts in the data, counted anew."""
    heads = Counter(claim["headline"]["verdict"] for claim in found["claims"] if claim["headline"])
    verdicts = Counter(row["verdict"] for claim in found["claims"] for row in claim["verdicts"])
    effects = found["design_choices"]["effects"] if found["design_choices"] else []
    longer = sum(effect["low"] > 1 for effect in effects)
    shorter = sum(effect["high"] < 1 for effect in effects)
    late = found["realtime"]["ratios"] if found["realtime"] else []
    sooner = Counter((one["over"], one["column"]) for one in late if one["high"] < 1)
    later = Counter((one["over"], one["column"]) for one in late if one["low"] > 1)
    return {
        *sooner.values(), *later.values(),
        *heads.values(), heads.total(), *verdicts.values(), verdicts.total(),
        len(effects), longer, shorter, len(effects) - longer - shorter, 0,
    }  # fmt: skip


GIVEN = {
    "64", "8", "65", "100", "500", "1000", "2000",  # the grid of the paper
    "0", "1", "99",  # what a slope or a ratio of that size means; a percentile
    "3", "2", "4.0",  # MINIX 3, pipe(2), CC BY 4.0
}  # fmt: skip
"""Every number that stands in the sentences themselves."""

NUMBER = re.compile(r"(?<![\w.,])\d+(?:[.,]\d+)*")


def edited(run: Run, name: str, before: str, after: str) -> None:
    path = run.root / "paper" / name
    text = path.read_text(encoding="utf-8")
    assert before in text
    path.write_text(text.replace(before, after), encoding="utf-8")


def unbacked(run: Run, language: str) -> set[str]:
    """Numbers of the article that no data back, or that are rounded to something else than their value."""
    # What its sources are called, and when and where they were printed, is not ours to prove.
    edited(
        run,
        "article.typ",
        'bibliography("references.bib", title: say.heading.references)',
        'hide(bibliography("references.bib"))',
    )
    entries = printed(run, language)
    found = json.loads((run.paper / "numbers.json").read_text(encoding="utf-8"))
    values = [leaf for leaf in leaves(found) if isinstance(leaf, int | float)]
    known = {*values, *counts(found)}
    wrong = {entry["written"] for entry in entries if entry["value"] not in known or not is_rounded(**entry)}
    said = {leaf for leaf in leaves(found) if isinstance(leaf, str)}
    said |= {*yaml.safe_load((SOURCES / "pt.yml").read_text(encoding="utf-8")).values()} if language == "pt" else set()
    allowed = {plain(entry["written"]).lstrip("\N{MINUS SIGN}") for entry in entries} | GIVEN
    allowed |= {number for text in said for number in NUMBER.findall(typographic(text))}
    return wrong | {number for number in NUMBER.findall(prose(run, language)) if number not in allowed}


def is_rounded(written: str, value: float, per: float) -> bool:
    """Whether `written` is `value / per` to within half a unit of its last digit."""
    digits = plain(written).replace("\N{MINUS SIGN}", "-").replace(",", ".")
    places = len(digits.partition(".")[2])
    # One that has more digits before the mark than are significant may be rounded there: 1234 -> 1230.
    unit = 10.0**-places
    return abs(float(digits) - value / per) <= 0.5 * unit * (1 + 1e-9) or (
        not places and abs(float(digits) / (value / per) - 1) <= 0.005
    )


def plain(text: str) -> str:
    return text.replace("\u2009", "")


def typographic(text: str) -> str:
    """`text` with the parts of a range, and of a day and its time, apart as they are in print."""
    return re.sub(r"(\d)[-T](?=\d)", r"\1 ", text)


def prose(run: Run, language: str) -> str:
    """What the article says, without numbers of pages, headings, figures and citations."""
    text = plain(lines_of(run.paper / article.LANGUAGES[language]))
    text = re.sub(r"[-\u00ad\u2010]\n", "", text)
    text = re.sub(r"\n\d+\n*\f", "\n", text)
    text = re.sub(r"^(?:\d+(?:\.\d+)?|[AB1-9]\.?)\s+(?=[A-ZÀ-Ý])", "", text, flags=re.MULTILINE)
    text = " ".join(text.split())
    text = re.sub(r"(?:Figure|Figura|Table|Tabela|Section|Seção|Fig\.) \d+(?:\.\d+)?", "", text)
    return re.sub(r"\[\d+\]", "", text)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_number_is_backed_by_data_and_rounded_rightly(tmp_path, complete, language):
    assert unbacked(make_run(tmp_path / "home", complete), language) == set()


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_number_without_data_is_found(tmp_path, complete, language):
    run = make_run(tmp_path / "home", complete)
    edited(run, f"{language}.typ", "#let ring = [", "#let ring = [\n  It takes 4321 words. ")
    assert unbacked(run, language) == {"4321"}


def test_a_number_of_no_record_is_found(tmp_path, complete):
    run = make_run(tmp_path / "home", complete)
    edited(run, "article.typ", "say.timer(timer)", "say.timer((value: 1.001 * timer.value))")
    assert unbacked(run, "en") == {"23.4"}


def test_distortion_by_rounding_is_found(tmp_path, complete):
    run = make_run(tmp_path / "home", complete)
    edited(run, "numbers.typ", "calc.round(value, digits: digits - 1 - magnitude)", "calc.ceil(value)")
    assert unbacked(run, "en")


# A number with a unit of measurement. Sizes in bytes are the grid's, and so are not measured.
MEASURED = re.compile(r"\d[\d.,]*[\s~]*(?:ns|µs|us|ms|s|times|vezes|%|\u00d7|percent|[kM]?/s|[GM]B/s|Gbps)(?![A-Za-z])")
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
