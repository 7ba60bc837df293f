"""Processes for tests: started, asked for their outcome, and never left behind. Programs that a test needs."""

import importlib.util
import multiprocessing
import os
import shutil
import time
from pathlib import Path

import pytest

PATIENCE = 20.0  # seconds; nothing takes as long unless it hangs


def eventually(condition, within=PATIENCE):
    """Whether `condition()` becomes true."""
    deadline = time.monotonic() + within
    while not (met := condition()) and time.monotonic() < deadline:
        time.sleep(0.005)
    return bool(met)


def _report(pipe, function, arguments):
    try:
        pipe.send(function(*arguments))
    except Exception as error:
        pipe.send(type(error))


class Child:
    """A process that runs `function(*arguments)`; its result, or the type of what it raised, is its outcome."""

    def __init__(self, function, *arguments, method="fork"):
        context = multiprocessing.get_context(method)
        self._pipe, theirs = context.Pipe(duplex=False)
        self.process = context.Process(target=_report, args=(theirs, function, arguments), daemon=False)
        self.process.start()
        theirs.close()

    @property
    def pid(self):
        return self.process.pid

    def outcome(self):
        assert self._pipe.poll(PATIENCE), "the process neither answered nor ended"
        result = self._pipe.recv()
        self.process.join(PATIENCE)
        assert self.process.exitcode == 0
        return result

    def kill(self):
        self.process.kill()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        if exception[0] is not None:
            self.process.kill()
        self.process.join(PATIENCE)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
            raise AssertionError("the process did not end by itself")
        self._pipe.close()


def alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def require_tool(name):
    """The path of program `name`. Without it a test is skipped, but where CI is set it fails: there nothing may be left out."""
    path = shutil.which(name)
    if path is None:
        _missing(f"{name} is not installed; on Debian and Ubuntu: apt install {name}")
    return path


def require_module(name):
    """The same for a module that is run as a program."""
    if importlib.util.find_spec(name) is None:
        _missing(f"{name} is not installed: pip install 'zcipc[test]'")


def _missing(reason):
    (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
