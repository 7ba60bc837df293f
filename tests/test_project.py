"""The repository itself: who may import whom, clean notebooks, one lock, figures that match their data."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pandas as pd
import pytest
import yaml

from zcipc.lab.runs import results
from zcipc.lab.runs.results import Run, figure_sources
from zcipc.lab.runs.steps import FIGURE_FORMATS, STEPS

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "zcipc"
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
REFERENCE = ROOT / "data/reference/run.json"

# Each part of the research side imports only parts before it. A package counts as one part.
LAB = (
    "errors",
    "harness",
    "runs",
    "transports",
    "variants",
    "peers",
    "torture",
    "faults",
    "soak",
    "measurements",
    "microkernel",
    "plots",
    "bench",
    "verdicts",
    "publishing",
    "interactive",
    "warm",
    "runner",
)


def imports_of(path, lazy):
    """The modules of zcipc that a file imports: when it is loaded or, `lazy`, at any time."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = {
        id(node)
        for scope in ast.walk(tree)
        if isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef) or is_type_checking(scope)
        for node in ast.walk(scope)
    }
    for node in ast.walk(tree):
        if id(node) in inside and not lazy:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "zcipc")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "zcipc":
            for alias in node.names:
                deeper = f"{node.module}.{alias.name}"
                yield deeper if deeper in MODULES else node.module


def is_type_checking(node):
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def module_name(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def circles_of(graph):
    """What is left of the graph without all that, step by step, needs nothing of the rest."""
    while free := {name for name, needs in graph.items() if not needs & graph.keys()}:
        graph = {name: needs for name, needs in graph.items() if name not in free}
    return sorted(graph)


def test_imports_go_one_way():
    graph = {name: set(imports_of(path, lazy=False)) - {name} for name, path in MODULES.items()}
    assert not circles_of(graph)


def folder_of(name):
    return ".".join(name.split(".")[: 3 if name.startswith("zcipc.lab.") else 2])


def test_folders_import_one_way():
    graph = {}
    for name, path in MODULES.items():
        needs = {folder_of(module) for module in imports_of(path, lazy=True)}
        graph.setdefault(folder_of(name), set()).update(needs - {folder_of(name), "zcipc", "zcipc.lab"})
    assert not circles_of(graph)


def test_the_library_does_not_know_its_laboratory():
    for name, path in MODULES.items():
        if not name.startswith("zcipc.lab"):
            lazy = not name.startswith("zcipc.commands")  # a command imports what it needs when it runs
            assert not [module for module in imports_of(path, lazy) if module.startswith("zcipc.lab")], name


def test_the_library_needs_nothing_of_its_laboratory():
    program = "import sys, zcipc, zcipc.cli; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = set(done.stdout.split())
    assert not loaded & {"pandas", "matplotlib", "papermill", "rich", "zcipc.lab"}


PUBLIC = """
import sys, zcipc
later = {"zcipc.broadcast", "zcipc.ipc", "zcipc.listener", "zcipc.queues"}
assert not later & set(sys.modules), "the import of a pipe brings more than a pipe needs"
assert set(zcipc.__all__) <= set(dir(zcipc))
assert all(getattr(zcipc, name) is not None for name in zcipc.__all__)
assert later <= set(sys.modules)
try:
    zcipc.Quueue
except AttributeError as error:
    print(error)
"""


def test_all_public_names_are_there_some_when_they_are_first_named():
    done = subprocess.run([sys.executable, "-c", PUBLIC], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "module 'zcipc' has no attribute 'Quueue'\n", done.stderr


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith("zcipc.lab.")])
def test_the_laboratory_is_in_order(name):
    part = name.split(".")[2]
    allowed = LAB[: LAB.index(part) + 1] if part in LAB else LAB
    for module in imports_of(MODULES[name], lazy=True):
        if module.startswith("zcipc.lab.") and module.split(".")[2] in LAB:
            assert module.split(".")[2] in allowed, f"{name} imports {module}, which comes after it"


def test_there_is_a_notebook_for_each_step_and_a_step_for_each_notebook():
    assert [path.stem for path in NOTEBOOKS] == [*(step.name for step in STEPS if step.notebook), "explore", "tutorial"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_committed_clean(path):
    content = json.loads(path.read_text(encoding="utf-8"))
    assert (content["nbformat"], content["nbformat_minor"]) == (4, 5)
    assert content["metadata"]["kernelspec"]["name"] == "python3"
    assert set(content["metadata"]) <= {"kernelspec", "language_info"}
    cells = content["cells"]
    for cell in cells:
        assert set(cell["metadata"]) <= {"tags"}
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None
    tagged = [cell for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert tagged == code[:1], "the first code cell, and no other, is the parameters"
    if path.stem in ("explore", "tutorial"):
        return  # no steps: one asks what runs hold, the other measures nothing
    declared = {}
    exec("".join(tagged[0]["source"]), declared)
    expected = {"run": "interactive", "profile": "quick", "measure": True}
    assert {name: declared[name] for name in expected} == expected
    assert all(value is None for name, value in declared.items() if name not in {*expected, "__builtins__"})


def locked():
    """`(name, marker)` of each line of the lock."""
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    found = (re.match(r"([a-z0-9.-]+)==\S+(?: ; (.*?))?(?: \\)?$", line) for line in lines)
    return [(match[1], match[2]) for match in found if match]


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_lock_has_a_hash_for_everything_and_no_address():
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    entries = re.split(r"\n(?=[a-z0-9])", text)[1:]
    assert len(entries) == len(locked()) > 50
    assert all("--hash=sha256:" in entry for entry in entries)
    assert not re.search(r"://|--(extra-)?index-url|--find-links", text)
    assert len(set(locked())) == len(locked())


def test_the_lock_pins_every_package_that_the_project_names():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    groups = [
        project["project"]["dependencies"],
        *project["project"]["optional-dependencies"].values(),
        *project["dependency-groups"].values(),
        project["build-system"]["requires"],
    ]
    wanted = {normal(re.match(r"[A-Za-z0-9._-]+", line)[0]) for group in groups for line in group}
    assert wanted <= {name for name, _ in locked()}


def pip_section():
    """What conda hands to pip."""
    dependencies = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    return next(item["pip"] for item in dependencies if isinstance(item, dict))


def test_the_environment_lists_nothing_twice():
    content = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    named = [re.match(r"[a-z0-9-]+", item)[0] for item in content["dependencies"] if isinstance(item, str)]
    assert named == ["python", "pip"]
    assert pip_section() == ["-r requirements.lock"]


def test_binder_finds_a_script_to_run_after_the_environment():
    """repo2docker runs postBuild by itself, so it must be executable and name its interpreter; and be found where it looks."""
    script = ROOT / "postBuild"
    assert os.access(script, os.X_OK)
    assert script.read_text(encoding="utf-8").startswith("#!/bin/bash\n")
    assert subprocess.run(["bash", "-n", script], capture_output=True).returncode == 0
    assert not (ROOT / "binder").exists()  # a directory of that name would take the place of both files
    assert not (ROOT / "Dockerfile").exists()  # as would this


CONTAINER_KEYS = {"name", "image", "runArgs", "postCreateCommand", "customizations", "hostRequirements"}
"""Of the keys of https://containers.dev/implementors/json_reference/, those for a container of an image."""


def test_the_dev_container_sets_itself_up_as_make_does():
    content = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))
    assert content.keys() <= CONTAINER_KEYS
    python = re.fullmatch(r"mcr\.microsoft\.com/devcontainers/python:(?:\d+-)?(3\.\d+)(?:-\w+)?", content["image"])[1]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert f"Programming Language :: Python :: {python}" in project["classifiers"]
    make, target = content["postCreateCommand"].split()
    rule = subprocess.run(["make", "--dry-run", "--always-make", target], cwd=ROOT, capture_output=True, text=True)
    assert (make, rule.returncode) == ("make", 0), rule.stderr
    interpreter = content["customizations"]["vscode"]["settings"]["python.defaultInterpreterPath"]
    assert interpreter == "${containerWorkspaceFolder}/.venv/bin/python"
    assert ".venv/bin/pip install" in rule.stdout


@pytest.mark.slow
def test_pip_accepts_what_conda_gives_it(tmp_path):
    """conda writes the section to a file beside environment.yml and runs `pip install -U -r` on it there.

    Whether pip takes the form is settled before it looks at any package, so three of the lock's are enough.
    """
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    few = [entry for entry in re.split(r"\n(?=[a-z0-9])", lock) if entry.startswith(("six==", "iniconfig==", "pyyaml=="))]
    assert len(few) == 3
    (tmp_path / "requirements.lock").write_text("\n".join(few) + "\n", encoding="utf-8")
    (tmp_path / "condaenv.txt").write_text("\n".join(pip_section()) + "\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-deps", "-U", "-r", "condaenv.txt"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_make_help_names_every_target():
    said = subprocess.run(["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in ("venv", "reproduce", "figures", "lab", "docs", "test", "lock", "clean", "help"):
        assert re.search(rf"^  {target} +\S", said, re.MULTILINE), target


def test_make_says_which_python_it_needs(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "requirements.lock").touch()
    (tmp_path / "pyproject.toml").touch()
    old = tmp_path / "old-python"
    old.write_text('#!/bin/sh\ncase "$1" in --version) echo Python 3.9.2;; *) exit 1;; esac\n')
    old.chmod(0o755)
    done = subprocess.run(["make", "venv", f"PYTHON={old}"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode != 0
    assert "needs Python 3.11, 3.12 or 3.13" in done.stderr
    assert "Python 3.9.2" in done.stderr
    assert not (tmp_path / ".venv").exists()


needs_reference = pytest.mark.skipif(not REFERENCE.exists(), reason="there is no reference run")


@needs_reference
def test_the_reference_run_is_complete():
    assert Run.open("reference", None, ROOT).profile == "full"
    missing = [name for step in STEPS for name in step.outputs("reference") if not (ROOT / name).exists()]
    assert set(missing) <= {"data/reference/report.html"}  # large, and `zcipc report` makes it from the rest in seconds


@needs_reference
def test_committed_figures_come_from_the_committed_data():
    run = Run.open("reference", None, ROOT)
    for step in STEPS:
        for figure in step.figures:
            drawn_from = [figure_sources(run.figures / f"{figure}.{suffix}") for suffix in FIGURE_FORMATS]
            assert all(sources == drawn_from[0] for sources in drawn_from)
            assert bool(drawn_from[0]) == bool(step.tables), "a figure beside tables names those it was drawn from"
            assert drawn_from[0] == {table: run.digest(table) for table in drawn_from[0]}


@needs_reference
def test_committed_tables_are_the_ones_their_provenance_names():
    run = Run.open("reference", None, ROOT)
    for table in run.tables():
        origin = run.provenance(table)
        for name, digest in origin["files"].items():
            assert results.provenance.sha256(ROOT / name) == digest, name
        written = pd.read_csv(run.data / f"{table}.csv", keep_default_na=False, dtype=str)
        assert list(written) == list(run.load(table))
        assert len(written) == len(run.load(table)) == origin["rows"]


@needs_reference
def test_the_crate_of_the_reference_run_names_what_is_committed():
    """Executed notebooks are not: remove data/reference/notebooks, then `zcipc report reference`."""
    crate = json.loads((ROOT / "data/reference/ro-crate-metadata.json").read_text(encoding="utf-8"))
    listing = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, text=True)
    if listing.returncode:
        pytest.skip("this is no clone: nothing says what is committed")
    committed = {ROOT / name for name in listing.stdout.split("\0")}
    named = {(ROOT / "data/reference" / part["@id"]).resolve() for part in crate["@graph"] if part["@type"] == "File"}
    assert named
    assert named <= committed
