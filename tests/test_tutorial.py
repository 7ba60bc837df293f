"""The tutorial runs, and shows what it says."""

from pathlib import Path

import nbformat

from zcipc.lab.runs import notebook

TUTORIAL = Path(__file__).resolve().parents[1] / "notebooks/tutorial.ipynb"


def test_every_cell_of_the_tutorial_runs_and_shows_what_it_says(tmp_path):
    executed = tmp_path / "tutorial.ipynb"
    notebook.execute(TUTORIAL, executed, {"samples": 1000}, {})
    cells = nbformat.read(executed, as_version=4).cells
    said = "\n".join(str(output.get("text", output.get("data"))) for cell in cells for output in cell.get("outputs", []))
    for expected in (
        "hello, Ada",
        "within 0.1 s",
        "1000.0 of an array",
        "[0, 1, 4, 9",
        "499.5",
        "ValueError",
        "hello, Grace",
        "PeerDied",
    ):
        assert expected in said, said
