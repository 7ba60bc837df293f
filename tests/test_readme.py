"""The README's example runs as printed and says what the README says; its table of claims is that of the reference run."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from zcipc.lab.errors import UsageError
from zcipc.lab.publishing import readme
from zcipc.lab.runs.results import Run

README = Path(__file__).resolve().parents[1] / "README.md"


def test_the_example_runs_as_printed(tmp_path):
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    program = tmp_path / "example.py"
    program.write_text(example, encoding="utf-8")
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=120)
    promised = re.findall(r"print\(.*\)\s*# (.*)", example)
    assert (done.returncode, done.stdout.split("\n")[:-1], done.stderr) == (0, promised, "")


def test_the_table_of_claims_is_that_of_the_reference_run():
    said = readme.between_markers(README.read_text(encoding="utf-8"))
    assert said == readme.table(Run.open("reference")), "renew it: zcipc claims --into README.md"


def test_a_file_without_markers_is_refused(tmp_path):
    path = tmp_path / "README.md"
    path.write_text("# Nothing\n")
    with pytest.raises(UsageError, match="no place for the table of claims"):
        readme.update(path, Run.open("reference"))
