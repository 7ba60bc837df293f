"""Where a result came from: machine, versions, commit, parameters, seed, time and the hashes of its files."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from zcipc._version import __version__
from zcipc.lab.runs import machine

_PACKAGES = (
    "numba",
    "llvmlite",
    "numpy",
    "posix_ipc",
    "pandas",
    "pyarrow",
    "scipy",
    "matplotlib",
    "seaborn",
    "papermill",
    "ipykernel",
    "typst",
)

IDENTITY = ("cpu", "architecture", "cores_online", "threads_per_core", "sockets", "caches_bytes")
"""The facts of `machine.describe` that another machine, and no other day of the same, may have otherwise."""


def now() -> datetime:
    """The present moment, in UTC."""
    return datetime.now(UTC)


def sha256(path: Path) -> str:
    """The hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of(content: bytes) -> str:
    """The hexadecimal SHA-256 of `content`."""
    return hashlib.sha256(content).hexdigest()


def package_versions() -> dict[str, str | None]:
    """The installed version of each package that can change a result; None when it is not installed."""
    return {"zcipc": __version__} | {name: _version(name) for name in _PACKAGES}


def commit(root: Path) -> dict[str, Any]:
    """`{"commit": hash, "dirty": bool}` of the repository at `root`; both None when it is not one.

    What a run itself writes (data, figures, the article) does not make it dirty; any other change does.
    """
    unknown = {"commit": None, "dirty": None}
    top = _git(root, "rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != root.resolve():
        return unknown
    revision = _git(root, "rev-parse", "--verify", "--quiet", "HEAD")
    written = (":(exclude)data", ":(exclude)figures", ":(exclude)paper/reference")
    changes = _git(root, "status", "--porcelain", "--", ".", *written)
    return unknown if revision is None or changes is None else {"commit": revision, "dirty": bool(changes)}


def collect(
    *,
    root: Path,
    parameters: Mapping[str, Any],
    started: datetime,
    files: Iterable[Path],
    seed: int | None = None,
) -> dict[str, Any]:
    """Everything needed to judge, and to repeat, the production of `files`, as JSON-ready values.

    `started` is in UTC; the end is now. `files` must exist and lie below `root`.
    """
    finished = now()
    return {
        "files": {path.relative_to(root).as_posix(): sha256(path) for path in files},
        "parameters": dict(parameters),
        "seed": seed,
        "started": started.isoformat(timespec="seconds"),
        "finished": finished.isoformat(timespec="seconds"),
        "duration_s": round((finished - started).total_seconds(), 3),
        "source": commit(root),
        "python": sys.version.split()[0],
        "packages": package_versions(),
        "machine": machine.describe(),
    }


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` so that a reader sees the old file or the new one, never a part."""
    text = json.dumps(content, indent=2, ensure_ascii=False, default=_plain) + "\n"
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Create or replace the file at `path` in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _plain(value: Any) -> Any:
    """What `json` cannot write by itself: NumPy scalars and arrays, paths, times, sets."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, set | frozenset | range):
        return sorted(value)
    return str(value)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git(root: Path, *arguments: str) -> str | None:
    """What git prints, stripped; None when git is missing or fails."""
    command = ["git", "--no-optional-locks", "-C", str(root), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
