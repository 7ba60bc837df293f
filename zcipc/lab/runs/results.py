"""A run: where its tables, figures and article live, and how they are saved so that each can be traced.

run = Run.open("interactive", "quick")
run.save("pingpong", frame, parameters={"launches": 5}, seed=1)
run.save_figure(figure, "fig5_pingpong", sources=["pingpong"])
"""

import io
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Self

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from zcipc.lab.errors import TableMissing, UsageError
from zcipc.lab.runs import machine, provenance, steps, translation

_LONGEST_NAME = 64


def _find_root() -> Path:
    if home := os.environ.get("ZCIPC_HOME"):
        return Path(home).expanduser().resolve()
    parent = Path(__file__).resolve().parents[3]
    return parent if (parent / "notebooks").is_dir() else Path.cwd()


ROOT = _find_root()
"""The repository: ZCIPC_HOME, else the parent of the package if it holds notebooks, else here."""


def check_name(name: str) -> str:
    """`name`, when it can name a run; otherwise a `UsageError` that says everything that is wrong with it."""
    faults = []
    if not name:
        faults.append("it is empty")
    elif not re.match(r"[A-Za-z0-9]", name):
        faults.append("it does not begin with a letter or a digit")
    if strange := sorted(set(re.sub(r"[A-Za-z0-9._-]", "", name))):
        faults.append("it contains " + ", ".join(map(repr, strange)))
    if len(name) > _LONGEST_NAME:
        faults.append(f"it is longer than {_LONGEST_NAME} characters")
    if faults:
        raise UsageError(
            f"{name!r} cannot name a run: {'; '.join(faults)}. "
            "A name begins with a letter or a digit and continues with letters, digits, '.', '_' and '-'."
        )
    return name


def run_names(root: Path = ROOT) -> list[str]:
    """The runs that exist below `root`, in alphabetical order."""
    return sorted(path.parent.name for path in (root / "data").glob("*/run.json"))


@dataclass(frozen=True)
class Run:
    """One run: `data/NAME`, `figures/NAME` and `paper/NAME` below `root`, made with one profile."""

    name: str
    profile: str
    root: Path = ROOT
    opened: datetime = field(default_factory=provenance.now, compare=False)

    @classmethod
    def open(cls, name: str, profile: str | None = None, root: Path = ROOT) -> Self:
        """Open a run, creating it when it is new. `profile=None` opens an existing run with its own profile.

        Raises `UsageError` for an unusable name, for a run that was made with another profile (two profiles
        are never mixed in one run), and for a missing run when no profile is given.
        """
        record = root / "data" / check_name(name) / "run.json"
        if record.exists():
            made_with = json.loads(record.read_text(encoding="utf-8"))["profile"]
            if profile not in (None, made_with):
                raise UsageError(
                    f"run {name!r} was made with profile {made_with!r} and cannot continue with {profile!r}: "
                    f"use profile {made_with!r}, choose another run name, or start it anew with --force"
                )
            return cls(name, made_with, root)
        if profile is None:
            known = ", ".join(run_names(root)) or "none yet"
            raise UsageError(f"there is no run {name!r}; runs: {known}")
        provenance.write_json(record, {"run": name, "profile": profile})
        return cls(name, profile, root)

    @property
    def data(self) -> Path:
        """The directory of tables, their provenance and the executed notebooks."""
        return self.root / "data" / self.name

    @property
    def figures(self) -> Path:
        """The directory of figures."""
        return self.root / "figures" / self.name

    @property
    def paper(self) -> Path:
        """The directory of the article."""
        return self.root / "paper" / self.name

    def save(
        self,
        table: str,
        frame: pd.DataFrame,
        *,
        parameters: Mapping[str, Any] | None = None,
        seed: int | None = None,
        started: datetime | None = None,
    ) -> pd.DataFrame:
        """Write `frame` as TABLE.parquet and TABLE.csv, with TABLE.provenance.json beside them; return it.

        `started` (UTC) is when its production began; by default, when the run was opened. A table saved again
        with the same contents is left alone, so that its provenance keeps naming what produced these bytes.
        Raises `UsageError` for what was measured here when the run holds what another machine measured.
        """
        csv = frame.to_csv(index=False, lineterminator="\n").encode()
        files = [self.data / f"{table}.{suffix}" for suffix in ("csv", "parquet")]
        record = self.data / f"{table}.provenance.json"
        if all(path.exists() for path in (*files, record)) and files[0].read_bytes() == csv:
            return frame
        step = steps.maker(table)
        if step and step.measures:
            self.check_machine()
        parquet = io.BytesIO()
        frame.to_parquet(parquet, index=False, engine="pyarrow", compression="zstd")
        provenance.write_bytes(files[0], csv)
        provenance.write_bytes(files[1], parquet.getvalue())
        origin = provenance.collect(
            root=self.root,
            parameters=parameters or {},
            seed=seed,
            started=started or self.opened,
            files=files,
        )
        heading = {"table": table, "run": self.name, "profile": self.profile, "rows": len(frame)}
        provenance.write_json(record, heading | origin)
        return frame

    def load(self, table: str) -> pd.DataFrame:
        """The rows saved as `table`; `TableMissing` names the notebook that makes it."""
        if self.has(table):
            return pd.read_parquet(self.data / f"{table}.parquet", engine="pyarrow")
        step = steps.maker(table)
        made = f"made by notebooks/{step.name}.ipynb" if step else "not a table of this project"
        known = ", ".join(self.tables()) or "none yet"
        raise TableMissing(f"run {self.name!r} has no table {table!r}, which is {made}. Its tables: {known}")

    def has(self, table: str) -> bool:
        """Whether `table` was saved in this run."""
        return (self.data / f"{table}.parquet").exists()

    def tables(self) -> list[str]:
        """The names of the tables saved in this run, in alphabetical order."""
        return sorted(path.stem for path in self.data.glob("*.parquet"))

    def frames(self) -> dict[str, pd.DataFrame]:
        """Every table saved in this run, by name."""
        return {table: self.load(table) for table in self.tables()}

    def provenance(self, table: str) -> dict[str, Any]:
        """Where `table` came from, as `save` recorded it."""
        self.load(table)
        text = (self.data / f"{table}.provenance.json").read_text(encoding="utf-8")
        content: dict[str, Any] = json.loads(text)
        return content

    def machine(self) -> dict[str, Any] | None:
        """The machine that this run measured on, as its first measured table recorded it; None before there is one."""
        measured = [table for step in steps.STEPS if step.measures for table in step.tables if self.has(table)]
        facts: dict[str, Any] | None = self.provenance(measured[0])["machine"] if measured else None
        return facts

    def check_machine(self) -> None:
        """Raise `UsageError` when this run was measured on another machine than this one."""
        here = machine.describe()
        there = self.machine() or here
        if other := [key for key in provenance.IDENTITY if there.get(key) != here[key]]:
            said = "; ".join(f"{key} {there.get(key)} there, {here[key]} here" for key in other)
            raise UsageError(
                f"run {self.name!r} was measured on another machine ({said}), and one run never mixes two: "
                "choose another run name, or start it anew with --force"
            )

    def digest(self, table: str) -> str:
        """The SHA-256 of the CSV form of `table`: unlike Parquet's, its bytes depend on the rows alone."""
        path = self.data / f"{table}.csv"
        if not path.exists():
            self.load(table)
        return provenance.sha256(path)

    def save_figure(self, figure: Figure, name: str, *, sources: Iterable[str] = ()) -> list[Path]:
        """Write figures/RUN/`name`.svg, .pdf, .png and, for each other language, .LANGUAGE.svg; always the same bytes.

        `sources` are the tables it was drawn from; their hashes go into the metadata of each file, where
        `figure_sources` finds them again.
        """
        note = "; ".join(f"{table}.csv sha256={self.digest(table)}" for table in sources)
        metadata: dict[str, dict[str, str | None]] = {
            "svg": {"Date": None, "Creator": None, "Title": name, "Description": note},
            "pdf": {"CreationDate": None, "Creator": None, "Producer": None, "Title": name, "Subject": note},
            "png": {"Software": None, "Title": name, "Description": note},
        }
        paths = []

        def write(kind: str, suffix: str) -> None:
            image = io.BytesIO()
            figure.savefig(image, format=kind, metadata=metadata[kind])
            path = self.figures / f"{name}.{suffix}"
            provenance.write_bytes(path, image.getvalue())
            paths.append(path)

        with mpl.rc_context({"svg.hashsalt": name}):
            for kind in metadata:
                write(kind, kind)
            for language in translation.LANGUAGES:
                with translation.translated(figure, translation.load(ROOT, language)):
                    write("svg", f"{language}.svg")
        return paths


def figure_sources(path: Path) -> dict[str, str]:
    """`{table: SHA-256 of its CSV}`, as `save_figure` wrote it into the SVG, PDF or PNG at `path`."""
    found = re.findall(rb"([A-Za-z0-9_]+)\.csv sha256=([0-9a-f]{64})", path.read_bytes())
    return {table.decode(): digest.decode() for table, digest in found}
