"""The compiled functions that C calls, as object files: the first message of a process does not wait for a compiler.

Numba's cache wakes the whole compiler, and imports SciPy with it, before it loads the first function: a quarter of a second.
The functions here need nothing of numba once they are compiled. They take and return words, and refer to symbols of libc and
of CPython alone. So those of a module are translated into one relocatable object, kept where numba keeps its cache, and LLVM
alone loads it, in milliseconds, when the first of them is wanted.

An object is for one processor, one version of everything that made it and one state of the package. Anything else in its
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
from collections import defaultdict
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

    def __init__(self, function: Callable[..., Any], signature: Signature, module: str, name: str) -> None:
        self.function, self.signature = function, signature
        self.name = f"{module}.{name}"
        self.module = module

    @property
    def address(self) -> int:
        """Where it lies in this process. The first address that is wanted loads, or compiles, all functions of the module."""
        with _loading:
            _load(self.module)
            address = int(_engine().get_function_address(self.name))
        if address == 0:
            raise RuntimeError(f"{self.name} is not in the object file of its module: it was made after the module's import")
        return address


def cfunction(
    signature: Signature, module: str | None = None, name: str | None = None
) -> Callable[[Callable[..., Any]], CFunction]:
    """Make a Python function, one that C can call, part of `module`, or its own, as `name`. Only while that is imported."""

    def decorate(function: Callable[..., Any]) -> CFunction:
        made = CFunction(function, signature, module or function.__module__, name or function.__name__)
        _functions[made.module].append(made)
        return made

    return decorate


_functions: defaultdict[str, list[CFunction]] = defaultdict(list)  # by module
_loading = threading.RLock()


@functools.cache
def _engine() -> Any:
    """LLVM's linker. Kept for ever, as are the addresses of what it loads."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine(jit=True)
    return llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine, use_lmm=config.USE_LLVMLITE_MEMORY_MANAGER)


@functools.cache
def _load(module_name: str) -> None:
    """Load the functions of a module, which are compiled unless a process before has."""
    functions = _functions[module_name]
    file = _file(functions)
    code = None if file is None else _kept(file)
    if code is None:
        module, machine = _compiled(functions)
        code = machine.emit_object(module)
        if file is not None and not _foreign_symbols(module):
            _keep(file, code)
    _engine().add_object_file(llvm.ObjectFileRef.from_data(code))
    _engine().finalize_object()


def _compiled(functions: list[CFunction]) -> tuple[llvm.ModuleRef, llvm.TargetMachine]:
    """The functions, compiled by numba under their own names, and the machine to translate them for.

    Nobody else can call what they are made of. So LLVM sees that none of it raises, and drops the code that would tell numba.
    """
    module = llvm.parse_assembly("")
    for function in functions:
        made = CFunc(function.function, (function.signature.args, function.signature.return_type), {}, {"error_model": "numpy"})
        made.compile()
        part = llvm.parse_assembly(made.inspect_llvm())
        part.get_function(made.native_name).name = function.name
        module.link_in(part)
    public = {function.name for function in functions}
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


def _file(functions: list[CFunction]) -> Path | None:
    """Where the object of a module for this machine is kept; None where numba finds no directory to write to."""
    try:
        return Path(FunctionCache(functions[0].function).cache_path) / f"{functions[0].module}-{_makers()}.o"
    except RuntimeError:
        return None


@functools.cache
def _makers() -> str:
    """What tells the objects of this processor, compiler and interpreter from others."""
    processor = (config.CPU_NAME or llvm.get_host_cpu_name(), config.CPU_FEATURES or get_host_cpu_features())
    makers = (sys.version, numba.__version__, llvmlite.__version__, llvm.get_default_triple(), config.OPT)
    return hashlib.blake2b(repr((processor, makers)).encode(), digest_size=8).hexdigest()


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
