"""Table 1, executed: each mark of our own row, and that a mark which is not deserved is not given."""

import numpy as np
import pytest

import zcipc
from zcipc.lab.errors import LabError
from zcipc.lab.harness.launch import unpin
from zcipc.lab.runs.results import Run
from zcipc.lab.verdicts import related_work, table1
from zcipc.lab.verdicts.table1 import Count, Trial


def test_every_property_is_tried() -> None:
    assert [*table1.TRIALS] == [*related_work.PROPERTIES]


@pytest.mark.parametrize("name", related_work.PROPERTIES)
def test_zcipc_has_every_property(name: str) -> None:
    row = table1._attempt(table1.TRIALS[name])
    assert not row["missing"]
    assert row["holds"], row


def half() -> Count:
    return Count(1, 2, "of two")


def nothing() -> Count:
    return Count(0, 0, "of none")


def impossible() -> Count:
    raise LabError("this machine does not allow it")


@pytest.mark.parametrize("function", [half, nothing])
def test_a_mark_needs_that_all_went_well_and_that_there_was_something(function, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(table1, "TRIALS", {"zero_copy": Trial("?", function)})
    assert not table1.evidence(Run.open("trial", "smoke", tmp_path))["holds"].any()


def test_what_cannot_be_tried_says_why_and_has_no_mark() -> None:
    row = table1._attempt(Trial("?", impossible))
    assert (row["holds"], row["tried"]) == (False, 0)
    assert "this machine does not allow it" in row["missing"]


def copied_places() -> Count:
    """The trial of zero copy, with a library that copies: the receiver gets a copy of what it borrows."""
    borrow = zcipc.Connection.borrow

    class Copying:
        def __init__(self, view) -> None:
            self._view = view

        def __enter__(self) -> np.ndarray:
            with self._view as buffer:
                return np.array(buffer)

        def __exit__(self, *_: object) -> None:
            pass

    zcipc.Connection.borrow = lambda self, **options: Copying(borrow(self, **options))
    return table1._same_place()


def test_a_copy_is_noticed() -> None:
    row = table1._attempt(Trial("?", copied_places))
    assert row["tried"] > 0
    assert row["good"] == 0


@pytest.mark.parametrize(
    ("one", "other"),
    [(1, True), (np.arange(3), np.arange(3.0)), ({"a": np.arange(3)}, {"a": np.arange(4)}), ([1], (1,))],
)
def test_what_came_back_otherwise_is_not_alike(one, other) -> None:
    assert table1._are_alike(one, one)
    assert not table1._are_alike(one, other)


def test_without_page_frames_the_same_file_and_place_is_the_evidence(monkeypatch) -> None:
    monkeypatch.setattr(table1, "_frames", lambda _pid, mapping: np.zeros((mapping.end - mapping.start) // 4096, np.uint64))
    try:
        good, tried, seen = table1._same_pages()
    finally:
        unpin()  # the process of a launch is pinned; here it is that of the tests
    assert good == tried > 0
    assert seen.startswith("pages of the same file")
