"""The compiled functions that C calls, as one object file: the first message of a process does not wait for a compiler.

Numba's cache wakes the whole compiler, and imports SciPy with it, before it loads the first function: a quarter of a second.
The functions here need nothing of numba once they are compiled. They take and return words, and refer to symbols of libc and
of CPython alone. So all of them are translated into one relocatable object, kept where numba keeps its cache, and LLVM
alone loads it, in milliseconds.

The object is for one processor, one version of everything that made it and one state of the package. Anything else in its
place, be it stale, cut short or spoilt, is as good as nothing: it is made again. Where it cannot be kept, each process makes
its own.
"""

import contextlib
import ctypes
import functools
import hashlib
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding as llvm
import numba
from numba.core import config
from numba.core.caching import FunctionCache
from numba.core.ccallback import CFunc
from numba.core.codegen import get_host_cpu_features
from numba.core.typing.templates import Signature

from zcipc.native.compiled import STAMP

_DIGEST_BYTES = 32  # at the end of the file


class CFunction:
    """A compiled function that C can call, with the interpreter lock held."""

    def __init__(self, function: Callable[..., Any], signature: Signature, name: str) -> None:
        self.function, self.signature = function, signature
        self.name = name

    @property
    def address(self) -> int:
        """Where it lies in this process. The first address that is wanted loads, or compiles, all functions."""
        with _loading:
            address = int(_engine().get_function_address(self.name))
        if address == 0:
            raise RuntimeError(f"{self.name} is not in the object file: its module is not imported by the package itself")
        return address


def cfunction(signature: Signature, name: str | None = None) -> Callable[[Callable[..., Any]], CFunction]:
    """Make a Python function, one that C can call, known as `name` or by its own. Only while the package is imported."""

    def decorate(function: Callable[..., Any]) -> CFunction:
        made = CFunction(function, signature, name or f"{function.__module__}.{function.__name__}")
        _functions.append(made)
        return made

    return decorate


_functions: list[CFunction] = []
_loading = threading.RLock()


@functools.cache
def _engine() -> Any:
    """LLVM's linker, with the object loaded. Kept for ever, as are the addresses."""
    file = _file()
    code = None if file is None else _kept(file)
    if code is None:
        module, machine = _compiled()
        code = machine.emit_object(module)
        if file is not None and not _foreign_symbols(module):
            _keep(file, code)
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    linker = llvm.Target.from_default_triple().create_target_machine(jit=True)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), linker, use_lmm=config.USE_LLVMLITE_MEMORY_MANAGER)
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    return engine


def _compiled() -> tuple[llvm.ModuleRef, llvm.TargetMachine]:
    """All functions, compiled by numba under their own names, and the machine to translate them for.

    Nobody else can call what they are made of. So LLVM sees that none of it raises, and drops the code that would tell numba.
    """
    module = llvm.parse_assembly("")
    for function in _functions:
        made = CFunc(function.function, (function.signature.args, function.signature.return_type), {}, {"error_model": "numpy"})
        made.compile()
        part = llvm.parse_assembly(made.inspect_llvm())
        part.get_function(made.native_name).name = function.name
        module.link_in(part)
    public = {function.name for function in _functions}
    for symbol in _symbols(module):
        if not symbol.is_declaration and symbol.name not in public:
            symbol.linkage = "internal"
    machine = made._library.codegen._tm
    passes = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=3))
    passes.getModulePassManager().run(module, passes)
    return module, machine


def _symbols(module: llvm.ModuleRef) -> list[llvm.ValueRef]:
    return [*module.functions, *module.global_variables]


def _foreign_symbols(module: llvm.ModuleRef) -> list[str]:
    """What the functions refer to and only numba can tell the address of."""
    wanted = [one.name for one in _symbols(module) if one.is_declaration and not one.name.startswith("llvm.")]
    return [name for name in wanted if not hasattr(ctypes.pythonapi, name)]


def _file() -> Path | None:
    """Where the object for this machine is kept; None where numba finds no directory to write to."""
    processor = (config.CPU_NAME or llvm.get_host_cpu_name(), config.CPU_FEATURES or get_host_cpu_features())
    makers = (sys.version, numba.__version__, llvmlite.__version__, llvm.get_default_triple(), config.OPT)
    key = hashlib.blake2b(repr((processor, makers)).encode(), digest_size=8).hexdigest()
    try:
        return Path(FunctionCache(_functions[0].function).cache_path) / f"object_code-{key}.o"
    except RuntimeError:
        return None


def _digest(code: bytes) -> bytes:
    return hashlib.blake2b(code, digest_size=_DIGEST_BYTES, key=repr(STAMP).encode()).digest()


def _kept(file: Path) -> bytes | None:
    """The object in `file`, if it is whole and of this state of the package."""
    try:
        content = file.read_bytes()
    except OSError:
        return None
    code, digest = content[:-_DIGEST_BYTES], content[-_DIGEST_BYTES:]
    return code if digest == _digest(code) else None


def _keep(file: Path, code: bytes) -> None:
    """Write the object for the processes to come; all at once, because others may be doing the same."""
    with contextlib.suppress(OSError):  # a full or read-only disk: the next process compiles too
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=file.parent, delete=False) as temporary:
            try:
                temporary.write(code + _digest(code))
                temporary.close()
                Path(temporary.name).replace(file)
            except OSError:
                Path(temporary.name).unlink()
                raise
