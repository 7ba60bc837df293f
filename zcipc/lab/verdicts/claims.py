"""The verdict of a run on each claim of the paper.

The claims, and the statistic and rule that decide each, stand in `paper/claims.yml`. Here they are applied in
every combination of runtime, library and baseline, and the outcome is put into words.

verdicts = judge({"pingpong": rounds, "injection": bursts, "latency": latencies})
overall(verdicts)[["claim", "verdict", "elsewhere"]]
"""

import math
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import pandas as pd
from rich.table import Table
from rich.text import Text

from zcipc.lab.harness.stats import Estimate
from zcipc.lab.plots.style import format_time
from zcipc.lab.verdicts import evidence
from zcipc.lab.verdicts.criteria import NOT_REPRODUCED, REPRODUCED, UNDECIDED, Claim, Criterion, load
from zcipc.lab.verdicts.evidence import EXPERIMENTS, RUNTIMES, STATISTICS, TRANSPORT_NAMES, Evidence, NoEvidence
from zcipc.lab.verdicts.power import Power, power

__all__ = ["HEADLINE", "TABLES", "Claim", "by_combination", "judge", "load", "overall", "render"]

TABLES = tuple(EXPERIMENTS)
"""The tables of a run that `judge` looks at."""

LIBRARIES = ("paper", "zcipc")
BASELINES = ("pipe", "socketpair")

HEADLINE = ("compiled", "paper", "pipe")
"""The runtime, library and baseline that come nearest to what the authors measured."""

_MANY = 1000  # launches that nobody waits for

_COMBINATION = ["runtime", "library", "baseline"]


def judge(tables: Mapping[str, pd.DataFrame], claims: Sequence[Claim] | None = None) -> pd.DataFrame:
    """The verdict on every claim in every runtime, for every library and baseline, under every condition.

    `tables` are those of a run by name; only `TABLES` are looked at. A missing table or transport leaves a
    claim undecided and its statement says so; a missing column is a `LabError`.

    Columns: claim, runtime, library, baseline, condition, verdict, effect, effect_low, effect_high (NaN where
    there is no evidence), effect_unit, launches, detectable and launches_needed (as `power` gives them; NaN where the
    verdict is decided), statement. Where a claim is about the baseline alone, or the library alone, rows that differ
    only in the other repeat each other, statement included.
    """
    claims = load() if claims is None else claims
    launches = evidence.split(tables, [criterion.decision.quantity for claim in claims for criterion in claim.criteria])
    return pd.DataFrame(
        [
            {
                "claim": claim.id,
                **dict(zip(_COMBINATION, combination, strict=True)),
                "condition": criterion.condition,
                **_finding(criterion, Evidence(launches, *combination)),
            }
            for claim in claims
            for combination in product(RUNTIMES, LIBRARIES, BASELINES)
            for criterion in claim.criteria
        ]
    )


def overall(verdicts: pd.DataFrame, claims: Sequence[Claim] | None = None) -> pd.DataFrame:
    """One row per claim: its verdict in the combination `HEADLINE`, and how it fares in the others.

    Under several headline conditions a claim is reproduced if it is under each, and not reproduced if it is
    not under some one. Columns: claim, title, text (English), source, figure, article, verdict, statement,
    agree and others (how many of how many other combinations have the same verdict, repetitions left out),
    elsewhere (that in words, with the conditions the headline leaves out or sums up).
    """
    lines = []
    for claim in load() if claims is None else claims:
        rows = verdicts[verdicts["claim"] == claim.id]
        if rows.empty:
            continue
        found = by_combination(rows, claim)
        verdict, statement = found.pop(HEADLINE)
        others = {(key[0], said): given for key, (given, said) in found.items()}
        others.pop((HEADLINE[0], statement), None)
        agree = sum(given == verdict for given in others.values())
        lines.append(
            {
                "claim": claim.id,
                "title": claim.title,
                "text": claim.text["en"],
                "source": claim.source,
                "figure": claim.figure,
                "article": claim.article,
                "verdict": verdict,
                "statement": statement,
                "agree": agree,
                "others": len(others),
                "elsewhere": "; ".join([f"same in {agree} of {len(others)} others", *_aside(rows, claim)]),
            }
        )
    return pd.DataFrame(lines)


def by_combination(verdicts: pd.DataFrame, claim: Claim) -> dict[tuple[str, str, str], tuple[str, str]]:
    """The verdict on `claim` in each (runtime, library, baseline), under its headline conditions, and the statement for it."""
    rows = verdicts[(verdicts["claim"] == claim.id) & verdicts["condition"].isin(claim.headline)]
    return {key: _combined(group) for key, group in rows.groupby(_COMBINATION, sort=False)}


def render(verdicts: pd.DataFrame, claims: Sequence[Claim] | None = None) -> Table:
    """The `overall` verdicts as a table for the terminal."""
    runtime, library, baseline = HEADLINE
    title = f"{TRANSPORT_NAMES[library]} against {TRANSPORT_NAMES[baseline]}, {runtime} runtime"
    table = Table(title=title.capitalize(), title_justify="left", show_lines=True)
    for column, ratio in (("", None), ("claim", 3), ("verdict", None), ("evidence", 6), ("elsewhere", 3)):
        table.add_column(column, ratio=ratio, no_wrap=ratio is None)
    styles = {REPRODUCED: "green", NOT_REPRODUCED: "red", UNDECIDED: "yellow"}
    for line in overall(verdicts, claims).to_dict(orient="records"):
        # Text, not str: rich would take the brackets of an interval for markup.
        verdict, statement = Text(line["verdict"], styles[line["verdict"]]), Text(line["statement"])
        table.add_row(line["claim"], line["title"], verdict, statement, line["elsewhere"])
    return table


def _finding(criterion: Criterion, seen: Evidence) -> dict[str, Any]:
    """The columns of the claims table from `verdict` on."""
    words = {"library": seen.name("library"), "baseline": seen.name("baseline"), "runtime": seen.runtime}
    unknown = Estimate(math.nan, math.nan, math.nan, 0)
    decision = criterion.decision
    statistic = STATISTICS[decision.statistic]
    try:
        effects = statistic.function(seen, decision.quantity, **decision.roles)
    except NoEvidence as reason:
        return _row(UNDECIDED, unknown, statistic.unit, None, str(reason))
    verdict, effect = decision.region.decide(effects)
    sentence = criterion.sentence.format(**words, at=effect.at, effect=_said(effect.estimate, statistic.unit))
    if verdict != UNDECIDED:
        return _row(verdict, effect.estimate, statistic.unit, None, sentence)
    seeing = power(effect.estimate, decision.region.thresholds)
    said = [sentence, _power_said(seeing, effect.estimate.launches, statistic.unit)] if seeing else [sentence]
    return _row(verdict, effect.estimate, statistic.unit, seeing, " ".join(said))


def _row(verdict: str, effect: Estimate, unit: str, seeing: Power | None, statement: str) -> dict[str, Any]:
    return {
        "verdict": verdict,
        "effect": effect.value,
        "effect_low": effect.low,
        "effect_high": effect.high,
        "effect_unit": unit,
        "launches": effect.launches,
        "detectable": seeing.detectable if seeing else math.nan,
        "launches_needed": seeing.launches if seeing else math.nan,
        "statement": statement,
    }


def _power_said(seeing: Power, launches: int, unit: str) -> str:
    far = _number(seeing.detectable, unit)
    enough = f"about {seeing.launches:,.0f}" if seeing.launches <= _MANY else f"more than {_MANY:,}"
    return (
        f"With {launches} launches, four runs in five would decide an effect {far} away from {seeing.threshold:g};"
        f" one as near as this needs {enough}."
    )


def _said(estimate: Estimate, unit: str) -> str:
    """`1.05 [0.98, 1.11]`, or the value alone and why it stands alone."""
    values = [_number(value, unit) for value in (estimate.value, estimate.low, estimate.high)]
    if math.isnan(estimate.low):
        return f"{values[0]} (one launch, no interval)"
    return values[0] if estimate.low == estimate.high else f"{values[0]} [{values[1]}, {values[2]}]"


def _number(value: float, unit: str) -> str:
    if unit == "ns":
        return ("-" if value < 0 else "") + format_time(abs(value))
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def _combined(rows: pd.DataFrame) -> tuple[str, str]:
    """The verdict on all of `rows` at once, and the statements it rests on."""
    verdicts = set(rows["verdict"])
    verdict = next(worst for worst in (NOT_REPRODUCED, UNDECIDED, REPRODUCED) if worst in verdicts)
    return verdict, " ".join(rows.loc[rows["verdict"] == verdict, "statement"])


def _aside(rows: pd.DataFrame, claim: Claim) -> list[str]:
    """`condition: verdict` for the authors' combination, wherever the headline does not say it already."""
    here = rows[(rows[_COMBINATION] == list(HEADLINE)).all(axis=1)]
    if len(claim.headline) == 1:
        here = here[~here["condition"].isin(claim.headline)]
    return [f"{row['condition']}: {row['verdict']}" for row in here.to_dict(orient="records")]
