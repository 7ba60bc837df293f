"""A run as an RO-Crate 1.1 (https://w3id.org/ro/crate/1.1): what was made, from what, by which notebook, commit and machine.

Each step is a `CreateAction`: its `instrument` is the notebook at a commit, its `object` the tables and figures it read, its
`result` the files it made. So the graph leads from any figure or verdict back to the rows, and from the rows to all of them.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from zcipc.lab.runs import provenance, records
from zcipc.lab.runs.results import Run
from zcipc.lab.runs.steps import STEPS, Step

NAME = "ro-crate-metadata.json"

_MEDIA = {
    ".csv": "text/csv",
    ".html": "text/html",
    ".ipynb": "application/x-ipynb+json",
    ".json": "application/json",
    ".parquet": "application/vnd.apache.parquet",
    ".pdf": "application/pdf",
    ".png": "image/png",
    ".svg": "image/svg+xml",
}

_MADE_FROM_THESE = (NAME, "report.html", "steps/report.json")

Record = dict[str, Any]


def files(run: Run) -> dict[str, Path]:
    """Every file of `run` that belongs into the crate, by its name there: `pingpong.csv`, `figures/fig5_pingpong.svg`."""
    places = {"": run.data, "figures/": run.figures, "paper/": run.paper}
    found = {
        prefix + path.relative_to(place).as_posix(): path
        for prefix, place in places.items()
        for path in sorted(place.rglob("*"))
        if path.suffix in _MEDIA and path.relative_to(place).parts[:2] != ("notebooks", "redrawn")
    }
    return {name: path for name, path in found.items() if name not in _MADE_FROM_THESE}


def describe(run: Run, named: Mapping[str, Path]) -> Record:
    """The metadata of `run` with the files `named`, each with its size in bytes and its SHA-256."""
    by_path = {path.relative_to(run.root).as_posix(): name for name, path in named.items()}
    parts = [_file(name, path) for name, path in named.items()]
    done = [(step, record) for step in STEPS if not step.pages and (record := records.read(run, step))]
    steps = [entity for step, record in done for entity in _action(step, record, by_path)]
    finished = max((record["finished"] for _, record in done), default=None)
    root: Record = {
        "@id": "./",
        "@type": "Dataset",
        "name": f"zcipc, run {run.name}",
        "description": f"Measurements, figures, verdicts and article of the run {run.name}, profile {run.profile}.",
        "datePublished": finished,
        "license": {"@id": "https://creativecommons.org/licenses/by/4.0/"},
        "hasPart": _references(named),
        "mentions": [{"@id": f"#{step.name}"} for step, _ in done],
    }
    about: Record = {
        "@id": NAME,
        "@type": "CreativeWork",
        "conformsTo": {"@id": "https://w3id.org/ro/crate/1.1"},
        "about": {"@id": "./"},
    }
    licence: Record = {
        "@id": "https://creativecommons.org/licenses/by/4.0/",
        "@type": "CreativeWork",
        "name": "Creative Commons Attribution 4.0 International",
    }
    unique: dict[str, Record] = {entity["@id"]: entity for entity in (about, root, licence, *parts, *steps)}
    return {"@context": "https://w3id.org/ro/crate/1.1/context", "@graph": list(unique.values())}


def write(run: Run) -> Path:
    """Describe `run` in data/RUN/ro-crate-metadata.json.

    Figures and article keep their places, which are not below that directory, and are named by the way there: every name leads
    to its file, but RO-Crate would have them all below it. An export has.
    """
    path = run.data / NAME
    named = {Path(os.path.relpath(file, run.data)).as_posix(): file for file in files(run).values()}
    provenance.write_json(path, describe(run, named))
    return path


def _file(name: str, path: Path) -> Record:
    return {
        "@id": name,
        "@type": "File",
        "name": path.name,
        "encodingFormat": _MEDIA[path.suffix],
        "contentSize": str(path.stat().st_size),
        "sha256": provenance.sha256(path),
    }


def _action(step: Step, record: Record, by_path: dict[str, str]) -> Iterable[Record]:
    """A step, and what it was done with."""
    commit = record["source"]["commit"]
    notebook = f"notebooks/{step.name}.ipynb" if step.notebook else "paper/zcipc.typ"
    instrument, machine = f"#{notebook}@{commit}", f"#machine-{record['machine']['cpu']}".replace(" ", "-")
    packages = [f"#{name}-{version}" for name, version in record["packages"].items() if version]
    read = [by_path[name] for name in record["fingerprint"]["inputs"] if name in by_path]
    yield {
        "@id": f"#{step.name}",
        "@type": "CreateAction",
        "name": step.title,
        "startTime": record["started"],
        "endTime": record["finished"],
        "instrument": _references([instrument, machine, *packages]),
        "object": _references(read),
        "result": _references(by_path[name] for name in record["files"] if name in by_path),
        "description": f"parameters: {record['fingerprint']['parameters']}",
    }
    dirty = ", with changes that were not committed" if record["source"]["dirty"] else ""
    yield {"@id": instrument, "@type": "SoftwareSourceCode", "name": notebook, "version": f"{commit}{dirty}"}
    facts = [
        {"@id": f"{machine}-{key}", "@type": "PropertyValue", "name": key, "value": str(value)}
        for key, value in record["machine"].items()
        if value is not None
    ]
    yield {
        "@id": machine,
        "@type": "IndividualProduct",
        "name": record["machine"]["cpu"],
        "additionalProperty": _references(fact["@id"] for fact in facts),
    }
    yield from facts
    for name, version in record["packages"].items():
        if version:
            yield {"@id": f"#{name}-{version}", "@type": "SoftwareApplication", "name": name, "version": version}


def _references(names: Iterable[str]) -> list[Record]:
    return [{"@id": name} for name in names]
