"""What dead processes leave: files in shared memory and among temporary files that nobody has open any more."""

import re
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from zcipc.memory.segment import DIRECTORY

_TEMPORARY = Path(tempfile.gettempdir())
_PATTERNS = ("pymp-*", "zcipc-peer-*", "iceoryx2/**/*")
"""Below the directory for temporary files, where others put theirs, too."""


def files() -> set[Path]:
    """Everything that could be left of a peer."""
    found = {*DIRECTORY.iterdir(), *(path for pattern in _PATTERNS for path in _TEMPORARY.glob(pattern))}
    return {path for path in found if not path.is_dir()}


def abandoned(paths: set[Path]) -> set[Path]:
    """Those of `paths` that are still there and that no process has open or mapped."""
    used = set(_used())
    return {path for path in paths if path.exists() and str(path) not in used}


def patterns(paths: set[Path]) -> list[str]:
    """Their names, with what is random in them left out, each once."""
    return sorted({re.sub(r"[0-9a-f]{8,}|\d+", "*", str(path)) for path in paths})


def _used() -> Iterator[str]:
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # gone, or another user's
            for line in (process / "maps").read_text(errors="replace").splitlines():
                yield line.rpartition(" ")[2]
            for descriptor in (process / "fd").iterdir():
                with suppress(OSError):
                    yield str(descriptor.readlink())
