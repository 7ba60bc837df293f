"""How the package compiles: one decorator, and the bare entry point of a compiled function.

Numba's own cache looks only at the file a function stands in, so a change in `ring.py` would leave the compiled callers of
`ring.py` stale. Here the stamp of a cached function is that of all it may call: for the library, the library; for the
laboratory, both.
"""

import functools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from numba import njit
from numba.core.caching import FunctionCache
from numba.core.typing.templates import Signature


def _stamp(sources: Iterable[Path]) -> tuple[int, int]:
    """Newest modification time (ns) and total size (bytes) of some sources."""
    states = [source.stat() for source in sources]
    return max(state.st_mtime_ns for state in states), sum(state.st_size for state in states)


def _library(package: Path) -> Iterator[Path]:
    """The sources of the package without its laboratory."""
    yield from package.glob("*.py")
    for part in package.iterdir():
        if part.is_dir() and part != package / "lab":
            yield from part.glob("*.py")


_PACKAGE = Path(__file__).parents[1]
STAMP = _stamp(_library(_PACKAGE))


@functools.cache
def _stamp_of_all() -> tuple[int, int]:
    return _stamp(_PACKAGE.rglob("*.py"))


def jit(function: Callable[..., Any]) -> Any:
    """`numba.njit`, compiled at its first call and cached on disk until a file that it may depend on changes."""
    return _compiled(function)


def jit_inline(function: Callable[..., Any]) -> Any:
    """Like `jit`, and made part of every compiled caller: for what a message cannot do without."""
    return _compiled(function, forceinline=True)


def jit_nogil(function: Callable[..., Any]) -> Any:
    """Like `jit`, and the interpreter lock is free while the function runs."""
    return _compiled(function, nogil=True)


def _compiled(function: Callable[..., Any], **options: bool) -> Any:
    dispatcher = njit(function, error_model="numpy", **options)
    dispatcher._cache = _Cache(function)
    return dispatcher


class _Cache:
    """Numba's cache of a function, under our stamp. Made when it is first wanted: numba writes a file to try the disk."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    @functools.cached_property
    def _made(self) -> FunctionCache:
        made = FunctionCache(self._function)
        in_library = _PACKAGE / "lab" not in Path(self._function.__code__.co_filename).parents
        made._cache_file._source_stamp = STAMP if in_library else _stamp_of_all()
        return made

    def __getattr__(self, name: str) -> Any:
        return getattr(self._made, name)


def entry_point(dispatcher: Any, signature: Signature) -> Callable[..., Any]:
    """The compiled function itself, for calls from the interpreter.

    It takes positional arguments of exactly the types of `signature` and skips the dispatcher, whose search for the right
    specialisation costs more than the work of a small message.
    """
    dispatcher.compile(signature)
    entry: Callable[..., Any] = dispatcher.overloads[signature.args].entry_point
    return entry
