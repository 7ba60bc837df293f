"""The article: the numbers of a run, as data, and the PDF that Typst sets from them.

`paper/zcipc.typ` holds no measured number. It reads `paper/RUN/numbers.json`, which `build` writes beside the PDF
from the run's tables; what a run did not measure is null or an empty list there, and the article says so.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import typst

from zcipc.lab.errors import LabError
from zcipc.lab.harness import stats
from zcipc.lab.measurements.effects import effects as effects_of
from zcipc.lab.measurements.headlines import beside
from zcipc.lab.peers import BLOCK, PEERS
from zcipc.lab.publishing import reliability
from zcipc.lab.runs import machine
from zcipc.lab.runs.provenance import write_bytes
from zcipc.lab.runs.results import Run
from zcipc.lab.runs.steps import STEPS
from zcipc.lab.verdicts.claims import Claim, overall
from zcipc.lab.verdicts.claims import load as load_claims
from zcipc.lab.verdicts.related_work import PROPOSAL

SECTIONS: Mapping[str, tuple[str, ...]] = {
    "instruments": ("machine",),
    "limits": ("limits",),
    "related_work": ("table1_related_work",),
    "evidence": ("table1_evidence",),
    "pingpong": ("pingpong",),
    "injection": ("injection",),
    "latency": ("latency",),
    "peers": ("peers", "peers_failures"),
    "design_choices": ("design_choices",),
    "microkernel": ("microkernel",),
    "headlines": ("headlines",),
    "realtime": ("realtime",),
    "claims": ("claims",),
}
"""The sections of the numbers that come from tables, each of which may be missing, and these."""

FIGURES = next(step for step in STEPS if step.name == "article").needs_figures

PAIRS = (
    ("pipe", "paper"),
    ("pipe", "zcipc"),
    ("paper", "zcipc"),
    ("zcipc", "zcipc_loan"),
    ("zcipc_block", "zcipc"),
    ("zcipc", "limit"),
)
"""(slower, faster), as expected: a ratio of times is slower / faster, a ratio of rates faster / slower."""

SERVED_PAIRS = (("zcipc_loan", "pipe"), ("zcipc_loan", "socketpair"), ("limit", "zcipc_loan"))
"""(over, under) of the ratios in the microkernel, of rates and of times alike."""

PERIODIC_PAIRS = (("zcipc_block", "pipe"), ("zcipc", "pipe"), ("zcipc_spin", "pipe"))
"""The same for the periodic task."""

LANGUAGES = {"en": "zcipc.pdf", "pt": "zcipc.pt.pdf"}
"""Each language of the article, and the name of its file."""

OURS, LIMIT = "zcipc", "limit"

_DIGITS = 6  # significant digits kept in numbers.json: twice what the article prints

Record = dict[str, Any]


def build(run: Run) -> dict[str, Path]:
    """Set the article in each of `LANGUAGES` from the data and figures of `run`, the same bytes each time; paths by language.

    Raises `LabError` when the sources of the article are not below the root of the run, or do not compile.
    """
    source = run.root / "paper" / "zcipc.typ"
    if not source.exists():
        raise LabError(f"the article {source} does not exist: run from a clone, or set ZCIPC_HOME to one")
    found = numbers(run)
    write_bytes(run.paper / "numbers.json", (json.dumps(found, indent=1, ensure_ascii=False) + "\n").encode())
    finished = found["run"]["finished"]
    paths = {language: run.paper / name for language, name in LANGUAGES.items()}
    for language, path in paths.items():
        options = compiler_options(run, language)
        try:
            pdf = typst.compile(
                str(source),
                root=options["root"],
                ignore_system_fonts=options["ignore_system_fonts"],
                sys_inputs=options["sys_inputs"],
                timestamp=int(datetime.fromisoformat(finished).timestamp()) if finished else 0,
            )
        except typst.TypstError as error:
            raise LabError(f"{source} does not compile: {error.diagnostic}") from error
        write_bytes(path, pdf)
    return paths


def compiler_options(run: Run, language: str) -> Record:
    """What Typst has to be told of `run`, whether it sets the article or is asked what is in it."""
    record = run.paper / "numbers.json"
    return {
        "root": str(run.root),
        "ignore_system_fonts": True,  # the compiler's own fonts: the same letters everywhere
        "sys_inputs": {"numbers": "/" + record.relative_to(run.root).as_posix(), "language": language},
    }


def printed(run: Run, language: str) -> list[Record]:
    """Each number in the article of `run` as it is `written`, the `value` it stands for, and `per`, by which that was divided.

    The numbers must have been written by `build`.
    """
    source = run.root / "paper" / "zcipc.typ"
    found = json.loads(typst.query(str(source), "<number>", **compiler_options(run, language)))
    return [entry["value"] for entry in found]


def numbers(run: Run) -> Record:
    """Every number and fact of `run` that the article states, as JSON-ready values with units in their names.

    Estimates have value, low, high, launches, and the column they are of; low and high are null where no interval can be given.
    """
    tables = {name: run.load(name) for section in SECTIONS.values() for name in section if run.has(name)}
    origins = {name: run.provenance(name) for name in tables}
    found = {
        "confidence": stats.CONFIDENCE,
        "run": _run_facts(run, origins),
        "machine": _machine_facts(origins),
        "instruments": _records(tables.get("machine")),
        "limits": _limits(tables.get("limits")),
        "related_work": _records(tables.get("table1_related_work")),
        "proposal": asdict(PROPOSAL),
        "evidence": _records(tables.get("table1_evidence")),
        "pingpong": _times(tables.get("pingpong"), {"median": "round_trip_ns", "p99": "p99_ns"}),
        "injection": _rates(tables.get("injection")),
        "latency": _times(tables.get("latency"), {"median": "p50_ns", "p99": "p99_ns"}),
        "peers": _peers(tables.get("peers"), tables.get("peers_failures")),
        "claims": _claims(load_claims(run.root / "paper" / "claims.yml"), tables.get("claims")),
        "reliability": reliability.facts(run.root),
        "design_choices": _design_choices(tables.get("design_choices")),
        "microkernel": _microkernel(tables.get("microkernel")),
        "headlines": _headlines(tables.get("headlines")),
        "realtime": _realtime(tables.get("realtime")),
        "figures": {name: _figure(run, name) for name in FIGURES},
    }
    plain: Record = _plain(found)
    return plain


def _run_facts(run: Run, origins: dict[str, Record]) -> Record:
    """Which run this is, and where its tables came from; `finished` is when the last of them was saved."""
    finished = max((origin["finished"] for origin in origins.values()), default=None)
    last = max(origins.values(), key=lambda origin: origin["finished"], default=None)
    sources = [origin["source"] for origin in origins.values()]
    return {
        "name": run.name,
        "profile": run.profile,
        "started": min((origin["started"] for origin in origins.values()), default=None),
        "finished": finished,
        "commits": sorted({source["commit"] for source in sources if source["commit"]}),
        "dirty": any(source["dirty"] for source in sources),
        "python": last and last["python"],
        "packages": last["packages"] if last else {},
    }


def _machine_facts(origins: dict[str, Record]) -> Record | None:
    """The machine as the first measured table recorded it, and what `doctor` finds disturbing about it."""
    measured = (origins[name] for name in ("pingpong", "injection", "latency", "machine") if name in origins)
    facts = next((origin["machine"] for origin in measured), None)
    if facts is None:
        return None
    findings = [asdict(finding) for finding in machine.doctor(facts) if finding.level in ("bad", "warn")]
    return {"facts": facts, "findings": findings}


def _limits(limits: pd.DataFrame | None) -> list[Record]:
    if limits is None:
        return []
    return _estimates(limits, ["limit", "unit", "message_bytes"], "value")


def _times(frame: pd.DataFrame | None, columns: dict[str, str]) -> Record | None:
    """Times by message size: estimates of `columns` (name -> column), ratios at both ends, slopes."""
    if frame is None:
        return None
    by = ["runtime", "transport", "message_bytes"]
    sizes = sorted(int(size) for size in frame["message_bytes"].unique())
    centre = columns["median"]
    ratios = [
        {"runtime": runtime, "message_bytes": size, **ratio}
        for (runtime, size), group in frame.groupby(["runtime", "message_bytes"])
        if size in (sizes[0], sizes[-1])
        for ratio in _ratios(group, centre, PAIRS)
    ]
    slopes = [
        {
            "runtime": runtime,
            "transport": transport,
            "column": centre,
            **asdict(stats.slope_ci(group, "message_bytes", centre)),
        }
        for (runtime, transport), group in frame.groupby(["runtime", "transport"])
        if len(sizes) > 1
    ]
    return {
        **_extent(frame),
        "sizes": sizes,
        "estimates": {name: _estimates(frame, by, column) for name, column in columns.items()},
        "ratios": ratios,
        "slopes": slopes,
        "period_ns": 1000 * float(frame["period_us"].median()) if "period_us" in frame else None,
        "late_share": _late_share(frame),
    }


def _rates(frame: pd.DataFrame | None) -> Record | None:
    """Injection rates by message size and volume: medians over bursts, then over launches, without warm-up."""
    if frame is None:
        return None
    frame = frame[~frame["warmup"]]
    by = ["runtime", "transport", "message_bytes", "volume_messages"]
    volumes = sorted(int(volume) for volume in frame["volume_messages"].unique())
    ratios = [
        {"runtime": runtime, "message_bytes": size, "volume_messages": volume, **ratio}
        for (runtime, size, volume), group in frame.groupby(["runtime", "message_bytes", "volume_messages"])
        if volume in (volumes[0], volumes[-1])
        for ratio in _ratios(group, "messages_per_s", [(fast, slow) for slow, fast in PAIRS])
    ]
    return {
        **_extent(frame),
        "sizes": sorted(int(size) for size in frame["message_bytes"].unique()),
        "volumes": volumes,
        "intervals_s": sorted(float(interval) for interval in frame["interval_s"].unique()),
        "estimates": {"rate": _estimates(frame, by, "messages_per_s")},
        "ratios": ratios,
    }


def _design_choices(frame: pd.DataFrame | None) -> Record | None:
    """The effect of each alternative that could be measured, and the alternatives that the machine does not offer."""
    if frame is None:
        return None
    effects = effects_of(frame).rename(columns={"value": "alternative_value", "ratio": "value"}).assign(column="value")
    offered = effects["missing"] == ""
    return {
        "launches": int(frame["launch"].nunique()),
        "effects": _records(effects[offered]),
        "missing": _records(effects[~offered][["choice", "variant", "missing"]]),
    }


def _microkernel(frame: pd.DataFrame | None) -> Record | None:
    """Files through the servers, at both ends of the sizes, the smallest call, and a driver that is killed `kills` times."""
    if frame is None:
        return None
    files, noticed = frame[frame["operation"].isin(["read", "write"])], frame[frame["operation"] == "noticed"]
    sizes = sorted(int(size) for size in files["file_bytes"].unique())
    told = frame.drop(files[files["file_bytes"].isin(sizes[1:-1])].index)
    return {
        "launches": int(frame["launch"].nunique()),
        "sizes": sizes,
        "kills": int(noticed["transport"].value_counts().max()) if len(noticed) else 0,
        "recovery_bytes": int(noticed["file_bytes"].max()) if len(noticed) else None,
        "estimates": _estimates(told, ["operation", "transport", "file_bytes"], "value"),
        "ratios": [
            {"operation": operation, "file_bytes": size, **ratio}
            for (operation, size), group in told.groupby(["operation", "file_bytes"])
            for ratio in _ratios(group, "value", SERVED_PAIRS)
        ],
    }


def _headlines(frame: pd.DataFrame | None) -> Record | None:
    """Each headline of the related work, and what was measured in its place."""
    if frame is None:
        return None
    return {"launches": int(frame["launch"].nunique()), "rows": _records(beside(frame).assign(column="value"))}


def _realtime(frame: pd.DataFrame | None) -> Record | None:
    """How late messages were and how many missed the next beat, in each case: scheduler, load and rate.

    `rate_hz` is the one to tell of: where both schedulers were measured, if any, else the middle one.
    """
    if frame is None:
        return None
    case = ["scheduler", "load", "rate_hz"]
    rates = sorted(int(rate) for rate in frame["rate_hz"].unique())
    both = sorted(int(rate) for rate in frame.loc[frame["scheduler"] == "fifo", "rate_hz"].unique())
    rate = (both or rates)[len(both or rates) // 2]
    told = frame[frame["rate_hz"] == rate]
    missed = told.assign(value=frame["missed"] / frame["messages"]).groupby([*case, "transport"])["value"]
    return {
        "launches": int(frame["launch"].nunique()),
        "rates_hz": rates,
        "rate_hz": rate,
        "cases": int(frame.groupby(case).ngroups),
        "estimates": {name: _estimates(told, [*case, "transport"], f"{name}_p50_ns") for name in ("wake", "delivery")},
        "missed": _records(missed.agg(value="median", greatest="max").reset_index().assign(column="missed")),
        "ratios": [
            {**dict(zip(case, key, strict=True)), **ratio}
            for key, group in frame.groupby(case)
            for column in ("delivery_p50_ns", "delivery_p99_ns")
            for ratio in _ratios(group, column, PERIODIC_PAIRS)
        ],
    }


def _extent(frame: pd.DataFrame) -> Record:
    """How much was measured, and whether every payload arrived as it was sent."""
    return {
        "launches": int(frame["launch"].nunique()),
        "runtimes": sorted(frame["runtime"].unique()),
        "transports": sorted(frame["transport"].unique()),
        "verified": bool(frame["verified"].all()),
    }


def _ratios(group: pd.DataFrame, value: str, pairs: Iterable[tuple[str, str]]) -> list[Record]:
    """The ratio of medians of `value` for each of `pairs` of transports that `group` holds."""
    per_launch = group.groupby(["transport", "launch"])[value].median()
    present = set(per_launch.index.get_level_values("transport"))
    return [
        {"over": over, "under": under, "column": value, **asdict(stats.ratio_ci(per_launch[over], per_launch[under]))}
        for over, under in pairs
        if {over, under} <= present
    ]


def _peers(frame: pd.DataFrame | None, failures: pd.DataFrame | None) -> Record | None:
    """zcipc against the fastest of the others in each way of waiting and of handling messages, at both ends of the sizes."""
    if frame is None:
        return None
    others = sorted(set(frame["system"]) - {OURS, LIMIT})
    measured = frame[frame["system"] != LIMIT].assign(sleeps=frame["mode"] == BLOCK)
    sizes = sorted(int(size) for size in measured["message_bytes"].unique())
    contests = [
        {"face": face, "sleeps": bool(sleeps), "message_bytes": int(size), **contest}
        for (face, sleeps, size), group in measured.groupby(["face", "sleeps", "message_bytes"])
        if size in (sizes[0], sizes[-1])
        for contest in _contest(group)
    ]
    return {
        "launches": int(measured["launch"].nunique()),
        "sizes": sizes,
        "systems": [PEERS[system].title for system in others],
        "missing": sorted({PEERS[system].title for system in failures["system"]} if failures is not None else ()),
        "verified": bool(frame["verified"].all()),
        "contests": contests,
    }


def _contest(group: pd.DataFrame) -> Iterable[Record]:
    """The fastest other system of `group`, both medians, and zcipc's over its; nothing where one of them is missing."""
    per_launch = group.groupby(["system", "launch"])["round_trip_ns"].median()
    medians = per_launch.groupby("system").median()
    if OURS in medians and len(medians) > 1:
        fastest = str(medians.drop(OURS).idxmin())
        ratio = stats.ratio_ci(per_launch[OURS], per_launch[fastest])
        yield {
            "fastest": PEERS[fastest].title,
            "fastest_ns": float(medians[fastest]),
            "ours_ns": float(medians[OURS]),
            "ratio": asdict(ratio),
            "column": "round_trip_ns",
        }


def _late_share(frame: pd.DataFrame) -> float | None:
    """The share of messages sent more than a period late; None where no time was intended."""
    if "late_sends" not in frame:
        return None
    return float(frame["late_sends"].sum() / frame["messages"].sum())


def _claims(claims: Sequence[Claim], verdicts: pd.DataFrame | None) -> list[Record]:
    """Each claim in the paper's order, with its verdicts and, as `headline`, the one where the authors measured."""
    known = pd.DataFrame(columns=["claim"]) if verdicts is None else verdicts
    lines = None if verdicts is None else overall(verdicts, claims)
    headlines = {line["claim"]: line for line in _records(lines)}
    return [
        {
            "id": claim.id,
            "title": claim.title,
            "text": claim.text,
            "headline": headlines.get(claim.id),
            "verdicts": _records(known[known["claim"] == claim.id]),
        }
        for claim in claims
    ]


def _figure(run: Run, name: str) -> Record:
    """The path of a figure in each language, as Typst names it, from the root on; None where the run has not drawn it."""
    paths = {language: run.figures / f"{name}{suffix}.svg" for language, suffix in (("en", ""), ("pt", ".pt"))}
    return {
        language: "/" + path.relative_to(run.root).as_posix() if path.exists() else None for language, path in paths.items()
    }


def _estimates(frame: pd.DataFrame, by: Sequence[str], column: str) -> list[Record]:
    """The median of `column` over launches for each combination of `by`."""
    return _records(stats.summarise(frame, by, column).assign(column=column))


def _records(frame: pd.DataFrame | None) -> list[Record]:
    return [] if frame is None else [dict(row) for row in frame.to_dict(orient="records")]


def _plain(value: Any) -> Any:
    """`value` in JSON's own types: NumPy scalars unwrapped, floats shortened, NaN and infinity as None."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None
    return value
