"""What type checkers see: a type for all that is public, no mistake in it, and a user's program as it is meant."""

import inspect
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from support import require_module

import zcipc
from zcipc import aio, rpc

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = "tests/typed.py"
FACE = [
    path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    for path in tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pyright"]["include"]
    if path != PROGRAM
]
JITTED = {"zcipc.calls.compiled", "zcipc.native.extension", "zcipc.algorithms.waiting"}  # of the face one class each


def run(module, *arguments):
    require_module(module)
    command = [sys.executable, "-m", module, *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)


@pytest.mark.slow
def test_mypy_takes_a_users_program_as_it_is_meant():
    done = run("mypy", "--strict", PROGRAM)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_pyright_takes_a_users_program_as_it_is_meant_and_finds_nothing_wrong_in_the_face():
    done = run("basedpyright", "--pythonpath", sys.executable)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_everything_public_has_a_type_that_is_known():
    done = run("basedpyright", "--pythonpath", sys.executable, "--verifytypes", "zcipc", "--ignoreexternal", "--outputjson")
    symbols = json.loads(done.stdout)["typeCompleteness"]["symbols"]
    face = [one for one in symbols if one["name"].rpartition(".")[0] == "zcipc" or one["name"].startswith(tuple(FACE[1:]))]
    assert len(face) > 200
    unknown = {one["name"]: one["diagnostics"] for one in face if not one["isTypeKnown"] or one["isTypeAmbiguous"]}
    assert not unknown


def test_the_checked_files_are_those_that_the_public_names_come_from():
    public = [getattr(module, name) for module in (zcipc, rpc) for name in module.__all__]
    classes = {base for one in [*public, aio.Connection] if inspect.isclass(one) for base in one.__mro__}
    homes = {one.__module__ for one in [*public, *classes] if hasattr(one, "__module__")}
    assert {home for home in homes if home.startswith("zcipc")} - JITTED <= set(FACE)
