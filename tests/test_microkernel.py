"""The microkernel alive: files come and go whole over every transport, and a killed driver is noticed and replaced."""

import numpy as np
import pandas as pd
import pytest

from zcipc.lab import plots
from zcipc.lab.harness.launch import measure
from zcipc.lab.microkernel import experiment
from zcipc.lab.microkernel.servers import Driver, FileServer
from zcipc.lab.microkernel.transports import TRANSPORTS
from zcipc.lab.runs.results import Run

pytestmark = pytest.mark.usefixtures("tidy")

SIZES = (4096, 3 << 20)  # bytes: less than a piece, and several


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_files_are_read_and_written_and_a_dead_driver_is_replaced(transport):
    values = measure(experiment.served, transport, SIZES, 1 << 20, 2)
    assert [value[:3] for value in values] == [
        *((operation, size, "bytes/s") for size in SIZES for operation in ("read", "write")),
        ("call", 0, "ns"),
        *((operation, experiment.RECOVERY_BYTES, "ns") for operation in ("noticed", "recovered") * 2),
    ]
    assert all(value > 0 for *_, value in values)
    noticed, recovered = values[-2][3], values[-1][3]
    assert noticed < recovered < 5e9


def test_the_limit_is_measured_on_the_same_files():
    values = measure(experiment.alone, "limit", SIZES, 1 << 20, 0)
    assert [value[:2] for value in values] == [(operation, size) for size in SIZES for operation in ("read", "write")]


def test_the_file_server_serves_nothing_outside_of_its_directory(tmp_path):
    (tmp_path / "inside").mkdir()
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "inside/file").write_bytes(b"content")
    server = FileServer(tmp_path / "inside", Driver)
    handle, size = server.open("file")
    assert size == 7
    server.close(handle)
    with pytest.raises(PermissionError):
        server.open("../secret")


def test_a_run_has_a_row_for_each_transport_and_a_figure(tmp_path):
    run = Run.open("mine", "smoke", tmp_path)
    frame = experiment.microkernel(run, sizes=(4096,), launches=1)
    assert set(frame["transport"]) == {"limit", *TRANSPORTS}
    assert run.load("microkernel").equals(frame)
    run.save_figure(plots.microkernel(frame), "fig10_microkernel", sources=["microkernel"])
    assert (run.figures / "fig10_microkernel.png").exists()


def test_the_figure_shows_every_transport_and_the_limit():
    random = np.random.default_rng(1)
    rows = [
        {"transport": name, "launch": launch, "operation": operation, "file_bytes": size, "value": random.uniform(1, 2) * size}
        for name in ("limit", *TRANSPORTS)
        for launch in range(4)
        for operation in ("read", "write", "noticed", "recovered")
        for size in (4096, 1 << 20)
    ]
    figure = plots.microkernel(pd.DataFrame(rows))
    assert [len(axes.lines) for axes in figure.axes] == [4, 4, 6]
