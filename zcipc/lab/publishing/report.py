"""The report: everything a run says on one page that needs no network, data/RUN/report.html; the same bytes each time.

A figure names the tables it was drawn from, and these where they come from: notebook, parameters, rows, commit. Notebooks are
shown in sandboxes, so that what somebody else's run brings along cannot do anything.
"""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat
from jinja2 import Environment, PackageLoader, StrictUndefined
from nbconvert import HTMLExporter

from zcipc.lab.publishing import crate
from zcipc.lab.runs import machine, records
from zcipc.lab.runs.provenance import write_bytes
from zcipc.lab.runs.results import Run, figure_sources
from zcipc.lab.runs.steps import STEPS, Step
from zcipc.lab.verdicts import claims
from zcipc.lab.verdicts.evidence import TRANSPORT_NAMES

NAME = "report.html"

_MEDIA = {"csv": "text/csv", "svg": "image/svg+xml", "png": "image/png"}

Record = dict[str, Any]


def build(run: Run) -> Path:
    """Write the page of `run` and its RO-Crate; returns the path of the page. What the run lacks, the page leaves out."""
    template = Environment(
        loader=PackageLoader("zcipc.lab", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    ).get_template(NAME)
    done = [step for step in STEPS if not step.pages and records.read(run, step)]
    facts = run.machine()
    page = template.render(
        run=run,
        verdicts=_verdicts(run),
        headline=_headline(),
        figures=[_figure(run, step, name) for step in done for name in step.figures if (run.figures / f"{name}.svg").exists()],
        tables=[_table(run, name, done) for name in run.tables()],
        steps=[_origin(run, step) for step in done],
        notebooks=[(step, _notebook(path)) for step in done if (path := _executed(run, step)).exists()],
        facts=facts or {},
        findings=[finding for finding in machine.doctor(facts) if finding.level in ("bad", "warn")] if facts else [],
    )
    path = run.data / NAME
    write_bytes(path, page.encode())
    crate.write(run)
    return path


def _executed(run: Run, step: Step) -> Path:
    """The step's notebook as it measured; where that was not kept, as it drew from the saved data."""
    measured, redrawn = (run.data / place / f"{step.name}.ipynb" for place in ("notebooks", "notebooks/redrawn"))
    return measured if measured.exists() else redrawn


def _headline() -> str:
    runtime, library, baseline = claims.HEADLINE
    return f"{TRANSPORT_NAMES[library]} against {TRANSPORT_NAMES[baseline]}, {runtime} runtime"


def _verdicts(run: Run) -> list[Record]:
    """Each claim: its headline, and every finding behind it."""
    if not run.has("claims"):
        return []
    found = run.load("claims")
    lines = claims.overall(found).to_dict(orient="records")
    return [
        line
        | {
            "place": _place(run, line["figure"]),
            "findings": found[found["claim"] == line["claim"]].to_dict(orient="records"),
        }
        for line in lines
    ]


def _place(run: Run, name: str) -> str | None:
    """Where on the page the figure or table `name` stands."""
    if (run.figures / f"{name}.svg").exists():
        return name
    return f"table-{name}" if run.has(name) else None


def _figure(run: Run, step: Step, name: str) -> Record:
    """A figure in the smaller of its two forms, and the tables it was drawn from."""
    forms = [run.figures / f"{name}.{suffix}" for suffix in ("svg", "png")]
    smaller = min(forms, key=lambda path: path.stat().st_size)
    return {
        "name": name,
        "title": step.title,
        "step": step.name,
        "image": _uri(smaller),
        "sources": [table for table in figure_sources(forms[0]) if run.has(table)],
    }


def _table(run: Run, name: str, done: Sequence[Step]) -> Record:
    """A table of the run as a link that holds it, its origin, and what was made from it."""
    drawn = [figure for step in done for figure in step.figures if (run.figures / f"{figure}.svg").exists()]
    return {
        "name": name,
        "csv": _uri(run.data / f"{name}.csv"),
        "origin": run.provenance(name),
        "step": next((step.name for step in done if name in step.tables), None),
        "figures": [figure for figure in drawn if name in figure_sources(run.figures / f"{figure}.svg")],
        "steps": [step.name for step in done if name in step.needs],
    }


def _origin(run: Run, step: Step) -> Record:
    return {"step": step, "record": records.read(run, step)}


def _notebook(path: Path) -> str:
    """An executed notebook as a page of its own."""
    page, _ = HTMLExporter(template_name="basic").from_notebook_node(nbformat.read(path, as_version=4))
    return str(page)


def _uri(path: Path) -> str:
    return f"data:{_MEDIA[path.suffix[1:]]};base64,{base64.b64encode(path.read_bytes()).decode()}"
