"""What each step of a run was made from, so that nothing is done twice and nothing outdated passes for new.

A record is data/RUN/steps/STEP.json: the provenance of a step, the hash of each file it made, and its
fingerprint, which is the hashes of everything its result depends on.
"""

import functools
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import zcipc
from zcipc.lab.runs import notebook, provenance
from zcipc.lab.runs.results import Run
from zcipc.lab.runs.steps import Step

_CHANGES = {
    "notebook": "its notebook changed",
    "package": "the zcipc package changed",
    "sources": "a file it reads changed",
    "parameters": "its parameters changed",
    "inputs": "a table or figure it builds on changed",
}


@dataclass(frozen=True)
class State:
    """Where a step of a run stands; `reason` says why it is not done."""

    state: Literal["done", "stale", "missing"]
    reason: str = ""


def notebook_path(root: Path, step: Step) -> Path:
    """Where the notebook of `step` lies."""
    return root / "notebooks" / f"{step.name}.ipynb"


def read(run: Run, step: Step) -> dict[str, Any]:
    """The record of `step`; empty when it never finished."""
    try:
        content: dict[str, Any] = json.loads(_path(run, step).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return content


def write(run: Run, step: Step, parameters: Mapping[str, Any], started: datetime) -> dict[str, Any]:
    """Record that `step` has just finished, and what it made."""
    record = {
        "step": step.name,
        "run": run.name,
        "profile": run.profile,
        "fingerprint": fingerprint(run, step, parameters),
    } | provenance.collect(root=run.root, parameters=parameters, started=started, files=_hashed(run, step))
    provenance.write_json(_path(run, step), record)
    return record


def redrawn(run: Run, step: Step, parameters: Mapping[str, Any], started: datetime) -> None:
    """Record that `step` was done again without measuring. Where nothing changed, the record stays as it is.

    Of a step that measures, the fingerprint stays that of its measurement.
    """
    record = read(run, step)
    files = {path.relative_to(run.root).as_posix(): provenance.sha256(path) for path in _hashed(run, step)}
    made_alike = step.measures or record.get("fingerprint") == fingerprint(run, step, parameters)
    if record and made_alike and record["files"] == files:
        return
    if not step.measures:
        write(run, step, parameters, started)
    elif record:
        now = {"finished": provenance.now().isoformat(timespec="seconds")}
        origin = {"source": provenance.commit(run.root), "packages": provenance.package_versions()}
        provenance.write_json(_path(run, step), record | {"files": files, "redrawn": now | origin})


def state(run: Run, step: Step, parameters: Mapping[str, Any]) -> State:
    """Whether `step` is done with these parameters, must be done again, or was never finished."""
    missing = missing_outputs(run, step)
    record = read(run, step)
    if not record or missing:
        return State("missing", f"{missing[0]} does not exist" if missing and record else "")
    wanted = fingerprint(run, step, parameters)
    for part, change in _CHANGES.items():
        if record["fingerprint"].get(part) != wanted[part]:
            return State("stale", change)
    for name, digest in record["files"].items():
        if provenance.sha256(run.root / name) != digest:
            return State("stale", f"{name} was changed by hand")
    return State("done")


def missing_outputs(run: Run, step: Step) -> list[str]:
    """The promised files that are not there, relative to the root."""
    return [name for name in step.outputs(run.name) if not (run.root / name).exists()]


def fingerprint(run: Run, step: Step, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The hash of each thing that the result of `step` depends on."""
    source = notebook_path(run.root, step)
    inputs = [run.data / f"{table}.csv" for table in step.needs]
    inputs += [run.figures / f"{figure}.svg" for figure in step.needs_figures]
    sources = sorted(path for pattern in step.sources for path in run.root.glob(pattern))
    made_from = {
        "notebook": notebook.digest(source) if step.notebook and source.exists() else None,
        "package": package_digest(),
        "sources": _digests(run.root, sources),
        "parameters": {"profile": run.profile} | dict(parameters),
        "inputs": _digests(run.root, inputs),
    }
    as_read_back: dict[str, Any] = json.loads(json.dumps(made_from, default=str))
    return as_read_back


@functools.cache
def package_digest() -> str:
    """The SHA-256 of every source file of the installed package."""
    package = Path(zcipc.__file__).parent
    total = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        total.update(f"{path.relative_to(package).as_posix()} {provenance.sha256(path)}\n".encode())
    return total.hexdigest()


def _path(run: Run, step: Step) -> Path:
    return run.data / "steps" / f"{step.name}.json"


def _hashed(run: Run, step: Step) -> list[Path]:
    """The outputs whose hashes are kept: not the provenance, which says when."""
    return [run.root / name for name in step.outputs(run.name) if not name.endswith(".provenance.json")]


def _digests(root: Path, paths: Iterable[Path]) -> dict[str, str | None]:
    return {path.relative_to(root).as_posix(): provenance.sha256(path) if path.exists() else None for path in paths}
