"""A run as one file, to be shared, and what comes back taken in only after everything in it was checked.

The archive is an RO-Crate in a zip. Its metadata names every file with size and SHA-256: that is what an import holds it to.
"""

import io
import json
import re
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from zcipc.lab.errors import LabError, UsageError
from zcipc.lab.publishing import crate
from zcipc.lab.runs import profiles, provenance
from zcipc.lab.runs.results import ROOT, Run, check_name
from zcipc.lab.runs.steps import STEPS, TABLE_FORMATS

MOST_BYTES = 1 << 30
"""No run is larger, unpacked."""

_ALLOWED = re.compile(
    r"(run|[a-z0-9_]+\.provenance)\.json|[a-z0-9_]+\.(csv|parquet)|steps/[a-z0-9_]+\.json|notebooks/[a-z0-9_]+\.ipynb"
    r"|figures/[a-z0-9_]+(\.pt)?\.(svg|pdf|png)|paper/[a-z0-9_.-]+\.(pdf|json)"
)
_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest a zip can name: the same run gives the same bytes


class BadArchive(LabError):
    """An archive is not a run, or not the one it says it is."""


def export(run: Run, path: Path) -> Path:
    """Pack `run` into the zip `path`; the same run always gives the same bytes."""
    named = crate.files(run)
    contents = {name: file.read_bytes() for name, file in named.items()}
    metadata = json.dumps(crate.describe(run, named), indent=2, ensure_ascii=False).encode()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in sorted({crate.NAME: metadata, **contents}.items()):
            archive.writestr(zipfile.ZipInfo(name, _DATE), content, zipfile.ZIP_DEFLATED)
    provenance.write_bytes(path, packed.getvalue())
    return path


def take_in(path: Path, name: str | None = None, root: Path = ROOT) -> Run:
    """Take the run in the archive `path` into `root`, called `name` or what it was called.

    Raises `UsageError` when there is no such file or a run of that name exists, `BadArchive` for whatever in it is not what an
    export makes; then nothing was written.
    """
    if not path.is_file():
        raise UsageError(f"there is no file {path}")
    contents = _verified(path)
    record = _json(contents, "run.json")
    old = check_name(str(record.get("run", "")))
    new = check_name(name or old)
    profiles.profile(str(record.get("profile")))  # raises for an unknown one
    _check_tables(contents)
    if any((root / kind / new).exists() for kind in ("data", "figures", "paper")):
        raise UsageError(f"there is a run {new!r} already: import under another name, with --as NAME")
    if new != old:
        contents = {file: _renamed(file, content, old, new) for file, content in contents.items()}
    _place(contents, new, root)
    run = Run.open(new, None, root)
    crate.write(run)
    return run


def _verified(path: Path) -> dict[str, bytes]:
    """The files in the archive, each as large as the metadata says, with the hash it says, and no other."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if sum(entry.file_size for entry in entries) > MOST_BYTES:
                raise BadArchive(f"{path.name} unpacks to more than {MOST_BYTES:,} bytes: no run is that large")
            names = [entry.filename for entry in entries]
            for name in names:
                if name != crate.NAME and not _ALLOWED.fullmatch(name):
                    raise BadArchive(f"{path.name} holds {name!r}, which is no file of a run")
            if len(set(names)) < len(names):
                raise BadArchive(f"{path.name} holds a file twice")
            contents = {name: archive.read(name) for name in names}
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise BadArchive(f"{path.name} is not an archive that `zcipc export` made: {error}") from error
    graph = _json(contents, crate.NAME).get("@graph", [])
    promised = {entity["@id"]: entity.get("sha256") for entity in graph if entity.get("@type") == "File"}
    del contents[crate.NAME]
    if missing := sorted(promised.keys() - contents.keys()):
        raise BadArchive(f"{path.name} lacks {', '.join(missing)}")
    if strange := sorted(contents.keys() - promised.keys()):
        raise BadArchive(f"{path.name} holds what its metadata does not name: {', '.join(strange)}")
    for name, content in contents.items():
        if provenance.sha256_of(content) != promised[name]:
            raise BadArchive(f"{name} in {path.name} was changed after it was exported")
    return contents


def _check_tables(contents: Mapping[str, bytes]) -> None:
    """Every table is one of this project, in all its forms, and they say the same."""
    known = {table for step in STEPS for table in step.tables}
    for table in sorted({name.partition(".")[0] for name in contents if name.endswith((".csv", ".parquet"))}):
        if table not in known:
            raise BadArchive(f"{table} is no table of this project")
        if lacking := [suffix for suffix in TABLE_FORMATS if f"{table}.{suffix}" not in contents]:
            raise BadArchive(f"table {table} lacks its form {', '.join(lacking)}")
        try:
            frame = pd.read_parquet(io.BytesIO(contents[f"{table}.parquet"]), engine="pyarrow")
        except Exception as error:  # pyarrow raises many kinds
            raise BadArchive(f"{table}.parquet cannot be read: {error}") from error
        if frame.to_csv(index=False, lineterminator="\n").encode() != contents[f"{table}.csv"]:
            raise BadArchive(f"{table}.csv and {table}.parquet do not hold the same rows")
        if _json(contents, f"{table}.provenance.json").get("rows") != len(frame):
            raise BadArchive(f"table {table} has not the number of rows that its provenance says")


def _json(contents: Mapping[str, bytes], name: str) -> dict[str, Any]:
    try:
        content = json.loads(contents[name])
    except KeyError:
        raise BadArchive(f"the archive lacks {name}") from None
    except ValueError as error:
        raise BadArchive(f"{name} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise BadArchive(f"{name} is not a mapping")
    return content


def _renamed(name: str, content: bytes, old: str, new: str) -> bytes:
    """A record of `old` as one of `new`: its name, and that of the directories of its files."""
    if not name.endswith(".json") or name.startswith("paper/"):
        return content
    text = re.sub(rf'"(data|figures|paper)/{re.escape(old)}/', rf'"\1/{new}/', content.decode())
    record = json.loads(text) | {"run": new}
    return (json.dumps(record, indent=2, ensure_ascii=False) + "\n").encode()


def _place(contents: Mapping[str, bytes], name: str, root: Path) -> None:
    """Write everything beside its place first: who looks sees the whole run or none."""
    (root / "data").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".import-", dir=root / "data") as scratch:
        for file, content in contents.items():
            kind = file.partition("/")[0] if file.startswith(("figures/", "paper/")) else "data"
            provenance.write_bytes(Path(scratch) / kind / file.removeprefix(f"{kind}/"), content)
        for kind in ("figures", "paper", "data"):
            if (Path(scratch) / kind).exists():
                (root / kind).mkdir(exist_ok=True)
                shutil.move(Path(scratch) / kind, root / kind / name)
