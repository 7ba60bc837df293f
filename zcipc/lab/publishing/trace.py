"""From a number of the article, a figure or a claim to the rows it was made from, and from a table to all that is made of it.

The article's numbers lie in paper/RUN/numbers.json. Each record there holds the values of the columns that it is about, and the
column that was summarised: the rows are those of the section's table with the same values.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from zcipc.lab.errors import UsageError
from zcipc.lab.publishing import article, reliability
from zcipc.lab.runs import records
from zcipc.lab.runs.results import Run, figure_sources
from zcipc.lab.runs.steps import STEPS, maker
from zcipc.lab.verdicts.claims import load as load_claims

MOST_KEYS = 12
"""So many places of one value are told; a size, for one, stands in hundreds."""

_COLUMNS = {"over": "transport", "under": "transport", "better_than": "series", "shipped": "variant"}
"""Fields of a record that name a second value of a column."""

_KEPT = {"torture": reliability.TORTURE, "soak": reliability.SOAK, "faults": reliability.FAULTS}

Facts = dict[str, str]
"""What is known, under a heading each."""


def trace(run: Run, name: str) -> list[Facts]:
    """What is known of `name` in `run`.

    `name` is a number as the article prints it, a key of numbers.json, a table or one of its files, a figure or a claim.
    A number is looked up by its value, so each place where that value stands is told. `UsageError` for what is none of these.
    """
    found = json.loads((run.paper / "numbers.json").read_text(encoding="utf-8")) if _has_article(run) else {}
    keys = dict(_leaves(found))
    stem = Path(name).name.partition(".")[0]
    if name in keys:
        return [_number(run, found, name)]
    if run.has(stem):
        return [_table(run, stem, keys)]
    if (run.figures / f"{stem}.svg").exists():
        return [_figure(run, stem)]
    if name in {claim.id for claim in load_claims(run.root / "paper" / "claims.yml")}:
        return [_claim(run, name)]
    values = _printed(run, name) if found else set()
    places = [key for key, value in keys.items() if value in values]
    if not values:
        raise UsageError(
            f"{name!r} is no number as the article of run {run.name!r} prints it, no key of its numbers.json, and no table,"
            f" figure or claim. Its tables: {', '.join(run.tables())}"
        )
    if not places:
        return [{"number": f"{name}, counted in {_path(run, run.paper / 'numbers.json')} when the page was set"}]
    shown = [_number(run, found, key) for key in places[:MOST_KEYS]]
    return shown if len(places) <= MOST_KEYS else [*shown, {"more": f"{len(places) - MOST_KEYS} other places"}]


def _has_article(run: Run) -> bool:
    return (run.paper / "numbers.json").exists()


def _printed(run: Run, written: str) -> set[float]:
    """The values that the article prints as `written`, in the first language in which it does."""
    for language in article.LANGUAGES:
        numbers = article.printed(run, language)
        if values := {entry["value"] for entry in numbers if entry["written"].replace("\N{THIN SPACE}", "") == written}:
            return values
    return set()


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, float]]:
    """Every number in a tree of JSON, by its key: names and positions, with dots between."""
    if isinstance(value, dict | list):
        for name, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(item, f"{key}.{name}" if key else str(name))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield key, value


def _number(run: Run, found: Mapping[str, Any], key: str) -> Facts:
    """One entry of numbers.json, the rows behind it, and where these come from."""
    section, *rest = key.split(".")
    value = found[section]
    fields: dict[str, str | int] = {}
    for part in rest:
        if isinstance(value, dict):
            fields |= {name: item for name, item in value.items() if isinstance(item, str | int) and not isinstance(item, bool)}
        value = value[part] if isinstance(value, dict) else value[int(part)]
    facts = {"number": f"{value:g}" if isinstance(value, float) else f"{value}", "key": key}
    if section in article.SECTIONS:
        table = article.SECTIONS[section][0]
        return facts | {"rows": _rows(run, table, fields, rest[-1])} | _origin(run, table)
    if section == "reliability":
        return facts | {"file": str(_KEPT[rest[0]])}
    return facts | {"from": f"the provenance of the tables, {_path(run, run.data)}/*.provenance.json"}


def _rows(run: Run, table: str, fields: Mapping[str, Any], leaf: str) -> str:
    """Which rows and column of `table` the record with these `fields` was made from."""
    frame = run.load(table)
    column = leaf if leaf in frame else fields.get("column", "")
    where: dict[str, list[Any]] = {"warmup": [False]} if "warmup" in frame else {}
    for name, value in fields.items():
        same = _COLUMNS.get(name, name)
        if same in frame and same != leaf and (frame[same] == value).any():
            where.setdefault(same, []).append(value)
    alike = np.logical_and.reduce([np.ones(len(frame), bool), *(frame[name].isin(values) for name, values in where.items())])
    said = ", ".join(f"{name} = {' or '.join(map(str, values))}" for name, values in where.items())
    place = _path(run, run.data / f"{table}.csv")
    return f"{alike.sum():,} of {place}{f', column {column}' if column else ''}{f', where {said}' if said else ''}"


def _origin(run: Run, table: str) -> Facts:
    """What made `table`, when, from which commit and on which machine."""
    origin, step = run.provenance(table), maker(table)
    given = ", ".join(f"{name} = {value}" for name, value in origin["parameters"].items())
    source, machine = origin["source"], origin["machine"]
    seed = "" if origin["seed"] is None else f", seed {origin['seed']}"
    return {
        "made by": f"notebooks/{step.name}.ipynb, profile {origin['profile']}" if step else "none of the notebooks",
        **({"made from": ", ".join(step.needs)} if step and step.needs else {}),
        **({"parameters": given + seed} if given else {}),
        "commit": f"{source['commit']}{', with changes that were not committed' if source['dirty'] else ''}",
        "finished": origin["finished"],
        "machine": f"{machine['cpu']}, {machine['cores_usable']} usable cores, {machine['system']}, kernel {machine['kernel']}",
    }


def _table(run: Run, table: str, keys: Mapping[str, float]) -> Facts:
    """Where a table comes from, and the figures, claims, steps and numbers that are made from it."""
    figures = [path.stem for path in sorted(run.figures.glob("*.svg")) if path.stem.count(".") == 0]
    drawn = [name for name in figures if table in figure_sources(run.figures / f"{name}.svg")]
    judged = [
        claim.id
        for claim in load_claims(run.root / "paper" / "claims.yml")
        if any(criterion.decision.quantity.table == table for criterion in claim.criteria)
    ]
    sections = [section for section, tables in article.SECTIONS.items() if table in tables]
    count = sum(key.split(".")[0] in sections for key in keys)
    made = {
        "figures": drawn,
        "claims": judged,
        "steps": [step.name for step in STEPS if table in step.needs],
        "numbers": [f"{count:,} in {section}.*" for section in sections if count],
    }
    facts = {"table": f"{_path(run, run.data / f'{table}.csv')}, {len(run.load(table)):,} rows"} | _origin(run, table)
    return facts | {heading: ", ".join(names) for heading, names in made.items() if names}


def _figure(run: Run, name: str) -> Facts:
    """What a figure was drawn from and by; where its tables come from stands under their own names."""
    path, step = run.figures / f"{name}.svg", maker(name)
    record = records.read(run, step) if step else {}
    return {
        "figure": _path(run, path),
        "drawn from": ", ".join(figure_sources(path)) or "no table",
        **({"drawn by": f"notebooks/{step.name}.ipynb at commit {record['source']['commit']}"} if step and record else {}),
        "page": f"{_path(run, run.data / 'report.html')}#{name}",
    }


def _claim(run: Run, name: str) -> Facts:
    """What decides a claim, and how."""
    claim = next(claim for claim in load_claims(run.root / "paper" / "claims.yml") if claim.id == name)
    tables = dict.fromkeys(criterion.decision.quantity.table for criterion in claim.criteria)
    return {
        "claim": f"{claim.id}, {claim.text['en']}",
        "hypothesis": claim.hypothesis.strip(),
        "decided from": ", ".join(tables),
        "figure": claim.figure,
        "rules": "paper/claims.yml",
    } | (_origin(run, "claims") if run.has("claims") else {})


def _path(run: Run, path: Path) -> str:
    return path.relative_to(run.root).as_posix()
