"""One notebook, executed by papermill in a kernel of this very interpreter that leaves no process behind."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import nbformat
import papermill
from jupyter_client.manager import AsyncKernelManager
from jupyter_core.utils import ensure_event_loop
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError

import zcipc
from zcipc.lab.errors import StepFailed

_ANSI = re.compile(r"\x1b\[[0-9;]*m")


class _Kernel(AsyncKernelManager):
    """A kernel of this interpreter, whatever kernels are installed under the name the notebook asks for."""

    shutdown_wait_time = 2.0
    _group = 0

    def format_kernel_cmd(self, extra_arguments: list[str] | None = None) -> list[str]:
        launcher = [sys.executable, "-m", "ipykernel_launcher", "-f", self.connection_file]
        return [*launcher, *(extra_arguments or [])]

    async def start_kernel(self, **options: Any) -> None:
        # What the notebook prints is in its executed copy; what the kernel prints besides is its own affair.
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        await super().start_kernel(**options | quiet)
        self._group = self.provisioner.pgid or 0

    async def cleanup_resources(self, restart: bool = False) -> None:
        await super().cleanup_resources(restart=restart)
        # A worker in a compiled loop never sees the interrupt that ended its kernel: it would spin on.
        if self._group and not restart:
            with suppress(ProcessLookupError):
                os.killpg(self._group, signal.SIGKILL)


def parameters_of(path: Path) -> tuple[str, ...]:
    """The names that the notebook's parameters cell declares."""
    return tuple(papermill.inspect_notebook(path))


def digest(path: Path) -> str:
    """The SHA-256 of what a notebook says, without what its cells once printed."""
    cells = nbformat.read(path, as_version=4).cells
    said = [(cell.cell_type, cell.source, cell.metadata.get("tags", [])) for cell in cells]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def execute(source: Path, target: Path, parameters: Mapping[str, Any], environment: Mapping[str, str]) -> None:
    """Run the notebook `source` with `parameters`; the executed copy, whole or not, is in `target`.

    `environment` is added to the kernel's. Raises `StepFailed`, with the cell and its error.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    known = parameters_of(source)
    chosen = {name: value for name, value in parameters.items() if name in known}
    try:
        with _environment(environment):
            papermill.execute_notebook(
                source,
                target,
                parameters=chosen,
                progress_bar=False,
                cwd=source.parent,
                kernel_manager_class=_Kernel,
            )
        _forget_directories(source, target)
    except PapermillExecutionError as error:
        raise StepFailed(_explain(source, target, error)) from error
    except KeyboardInterrupt:
        # The cell's task ends after nobody waits for it any more; that is no news.
        ensure_event_loop().set_exception_handler(lambda _loop, _context: None)
        raise
    except DeadKernelError as error:
        raise StepFailed(
            f"{source.stem} stopped: its kernel died, from lack of memory or a crash in compiled code.\n"
            f"The executed copy, up to there: {target}"
        ) from error


def _forget_directories(source: Path, target: Path) -> None:
    """Leave of papermill's own notes what is true on any machine: which notebook, not in which directory."""
    executed = json.loads(target.read_text(encoding="utf-8"))
    executed["metadata"]["papermill"] |= {"input_path": source.name, "output_path": target.name}
    target.write_text(json.dumps(executed, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _explain(source: Path, target: Path, error: PapermillExecutionError) -> str:
    code = "\n".join(f"    {line}" for line in error.source.splitlines())
    said = _ANSI.sub("", f"{error.ename}: {error.evalue}")
    return (
        f"{source.stem} failed in cell {_cell_number(source, error)}:\n\n{code}\n\n{said}\n\n"
        f"The executed copy, with the whole traceback: {target}"
    )


def _cell_number(source: Path, error: PapermillExecutionError) -> int:
    """Which cell of `source` failed, from 1; papermill counts the one it injects after the parameters."""
    cells = nbformat.read(source, as_version=4).cells
    declared = next((i for i, cell in enumerate(cells) if "parameters" in cell.metadata.get("tags", [])), -1)
    return int(error.cell_index) + (0 if error.cell_index > declared else 1)


@contextmanager
def _environment(extra: Mapping[str, str]) -> Iterator[None]:
    """The kernel inherits `extra`, and imports the same zcipc as this process."""
    before = dict(os.environ)
    package = str(Path(zcipc.__file__).resolve().parents[1])
    others = [path for path in before.get("PYTHONPATH", "").split(os.pathsep) if path and path != package]
    os.environ.update(extra, PYTHONPATH=os.pathsep.join([package, *others]))
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
