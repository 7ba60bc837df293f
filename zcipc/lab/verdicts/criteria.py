"""What `paper/claims.yml` says: the claims of the paper, and the statistic and rule that decide each of them.

Anything in the file that is unknown, missing or misplaced is an error that lists what is valid.
"""

import inspect
import math
import string
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from zcipc.lab.errors import UsageError
from zcipc.lab.harness.stats import Estimate
from zcipc.lab.runs.results import ROOT
from zcipc.lab.verdicts.evidence import EXPERIMENTS, ROLES, STATISTICS, TRANSPORT_NAMES, Effect, Quantity

PATH = ROOT / "paper" / "claims.yml"

REPRODUCED = "reproduced"
NOT_REPRODUCED = "not reproduced"
UNDECIDED = "undecided"

_FIELDS = ("at", "effect", "library", "baseline", "runtime")


@dataclass(frozen=True)
class Region:
    """The effects that agree with a claim: those between `low` and `high`, ends included if `closed`."""

    low: float
    high: float
    closed: bool = False

    def holds(self, estimate: Estimate) -> bool:
        """Whether the whole interval agrees."""
        if self.closed:
            return self.low <= estimate.low and estimate.high <= self.high
        return self.low < estimate.low and estimate.high < self.high

    def excludes(self, estimate: Estimate) -> bool:
        """Whether the whole interval disagrees."""
        if self.closed:
            return estimate.high < self.low or self.high < estimate.low
        return estimate.high <= self.low or self.high <= estimate.low

    def margin(self, estimate: Estimate) -> float:
        """How far inside the region the value lies; negative outside."""
        return min(estimate.value - self.low, self.high - estimate.value)

    @property
    def thresholds(self) -> tuple[float, ...]:
        """The ends of the region that an effect can reach."""
        return tuple(end for end in (self.low, self.high) if math.isfinite(end))

    def decide(self, effects: Sequence[Effect]) -> tuple[str, Effect]:
        """The verdict on "every effect lies inside", and the effect it hangs on."""
        against = [effect for effect in effects if self.excludes(effect.estimate)]
        doubtful = [effect for effect in effects if not self.holds(effect.estimate)]
        verdict = NOT_REPRODUCED if against else UNDECIDED if doubtful else REPRODUCED
        return verdict, min(against or doubtful or effects, key=lambda effect: self.margin(effect.estimate))


RULES: Mapping[str, Callable[..., Region]] = {
    "above": lambda threshold: Region(threshold, math.inf),
    "below": lambda threshold: Region(-math.inf, threshold),
    "within": lambda low, high: Region(low, high, closed=True),
}
"""Every rule a claim may name."""


@dataclass(frozen=True)
class Decision:
    """A statistic of `quantity`, with transports in its roles, and the region for its effects to lie in."""

    statistic: str
    quantity: Quantity
    roles: Mapping[str, Any]
    region: Region


@dataclass(frozen=True)
class Criterion:
    """How a claim is judged under one condition, and in what words."""

    condition: str
    sentence: str
    decision: Decision


@dataclass(frozen=True)
class Claim:
    """One claim. `text` is in our own words, by language (en, pt); `source` is where the paper makes it.

    `article` is the label of the section of ours that states the verdict; `headline` are the conditions that
    make up the one-line verdict.
    """

    id: str
    title: str
    text: dict[str, str]
    source: str
    experiment: str
    figure: str
    article: str
    hypothesis: str
    headline: tuple[str, ...]
    criteria: tuple[Criterion, ...]


def load(path: Path = PATH) -> list[Claim]:
    """The claims in `path`, in order. A fault in it is a `UsageError` that says where, and what is valid."""
    if not path.exists():
        raise UsageError(f"the claims file {path} does not exist: run from a clone, or set ZCIPC_HOME to one")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise UsageError(f"{path.name} is not YAML: {error}") from error
    entries = _mapping(content, path.name, required={"claims"})["claims"]
    claims = [_claim(entry, f"{path.name}, claim {number}") for number, entry in enumerate(entries, 1)]
    repeated = sorted({claim.id for claim in claims if [other.id for other in claims].count(claim.id) > 1})
    if repeated:
        raise UsageError(f"{path.name}: two claims are called {', '.join(repeated)}")
    return claims


def _claim(entry: Any, where: str) -> Claim:
    required = {"id", "title", "text", "from", "experiment", "figure", "article", "hypothesis", "criteria"}
    entry = _mapping(entry, where, required, optional={"headline"})
    where = f"{where} ({entry['id']})"
    criteria = tuple(_criterion(item, f"{where}, criterion {n}") for n, item in enumerate(entry["criteria"], 1))
    conditions = [criterion.condition for criterion in criteria]
    headline = tuple(entry.get("headline", conditions))
    for condition in headline:
        _known(condition, conditions, "condition", where)
    _known(entry["experiment"], EXPERIMENTS, "experiment", where)
    return Claim(
        id=entry["id"],
        title=entry["title"],
        text=_mapping(entry["text"], f"{where}, text", required={"en", "pt"}),
        source=entry["from"],
        experiment=entry["experiment"],
        figure=entry["figure"],
        article=entry["article"],
        hypothesis=entry["hypothesis"],
        headline=headline,
        criteria=criteria,
    )


def _criterion(entry: Any, where: str) -> Criterion:
    entry = _mapping(entry, where, required={"statistic", "with", "rule", "sentence"}, optional={"condition"})
    name = _known(entry["statistic"], STATISTICS, "statistic", where)
    parts = {field.name for field in fields(Quantity)}
    roles = set(inspect.signature(STATISTICS[name].function).parameters) - {"evidence", "quantity"}
    given = _mapping(
        entry["with"],
        f"{where}, with",
        required={"table", "value", "at"} | roles,
        optional={"where", "levels"},
    )
    _known(given["table"], EXPERIMENTS, "table", where)
    for role in roles:
        for transport in [given[role]] if isinstance(given[role], str) else given[role]:
            _known(transport, (*ROLES, *TRANSPORT_NAMES), "transport", where)
    decision = Decision(
        statistic=name,
        quantity=Quantity(**{key: value for key, value in given.items() if key in parts}),
        roles={role: given[role] for role in roles},
        region=_region(entry["rule"], where),
    )
    return Criterion(entry.get("condition", ""), _sentence(entry["sentence"], _FIELDS, where), decision)


def _region(entry: Any, where: str) -> Region:
    if not isinstance(entry, dict) or len(entry) != 1:
        raise UsageError(f"{where}: a rule is one name and its threshold, such as {{above: 1}}; not {entry!r}")
    (name, given), *_ = entry.items()
    thresholds = given if isinstance(given, list) else [given]
    rule = RULES[_known(name, RULES, "rule", where)]
    wanted = len(inspect.signature(rule).parameters)
    if len(thresholds) != wanted or not all(isinstance(value, int | float) for value in thresholds):
        raise UsageError(f"{where}: rule {name!r} takes {wanted} number(s), not {given!r}")
    return rule(*thresholds)


def _sentence(text: str, valid: Iterable[str], where: str) -> str:
    for _, name, _, _ in string.Formatter().parse(text):
        if name is not None:
            _known(name, valid, "field of a sentence", where)
    return text


def _mapping(entry: Any, where: str, required: set[str], optional: Iterable[str] = ()) -> dict[str, Any]:
    """`entry`, if it is a mapping with all `required` keys and no other than these and `optional`."""
    if not isinstance(entry, dict):
        raise UsageError(f"{where}: expected a mapping with {', '.join(sorted(required))}; found {entry!r}")
    valid = [*sorted(required), *sorted(optional)]
    for key in entry:
        _known(key, valid, "key", where)
    if missing := sorted(required - entry.keys()):
        raise UsageError(f"{where}: {', '.join(missing)} missing")
    return entry


def _known(name: str, valid: Iterable[str], what: str, where: str) -> str:
    names = list(valid)
    if name not in names:
        raise UsageError(f"{where}: unknown {what} {name!r}; valid: {', '.join(map(repr, names))}")
    return name
