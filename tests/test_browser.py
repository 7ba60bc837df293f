"""The notebook for interactive analysis, in JupyterLab, in a browser, with a person's clicks."""

import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright
from support import require_tool

ROOT = Path(__file__).resolve().parents[1]
PATIENCE_MS = 60_000


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A root with the committed run, in which measuring leaves no trace in the repository."""
    root = tmp_path_factory.mktemp("home")
    shutil.copytree(ROOT / "data/reference", root / "data/reference")
    shutil.copytree(ROOT / "notebooks", root / "notebooks")
    return root


@pytest.fixture(scope="module")
def lab(home):
    """The address of a JupyterLab of this interpreter that serves the notebooks."""
    token = secrets.token_hex(16)
    options = ["--no-browser", "--allow-root", "--ServerApp.port_retries=50", f"--IdentityProvider.token={token}"]
    settings = home / "settings"
    environment = os.environ | {"ZCIPC_HOME": str(home), "JUPYTER_CONFIG_DIR": str(settings), "JUPYTER_DATA_DIR": str(settings)}
    log = (home / "jupyter.log").open("w+")
    server = subprocess.Popen(
        [sys.executable, "-m", "jupyter", "lab", *options],
        cwd=home / "notebooks",
        env=environment,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + PATIENCE_MS / 1000
        while not (found := re.search(r"http://(?:localhost|127\.0\.0\.1):\d+", (home / "jupyter.log").read_text())):
            assert server.poll() is None, (home / "jupyter.log").read_text()
            assert time.monotonic() < deadline, "JupyterLab did not start"
            time.sleep(0.1)
        urllib.request.urlopen(f"{found[0]}/api?token={token}").close()
        yield f"{found[0]}/lab/tree/explore.ipynb?token={token}&reset"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)
        log.close()


@pytest.fixture(scope="module")
def page(lab):
    program = require_tool("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1400, "height": 1300})
        page.set_default_timeout(PATIENCE_MS)
        page.goto(lab)
        page.get_by_role("heading", name="Explore a run").wait_for()
        # Asked to run before it has a kernel, JupyterLab runs nothing and says nothing.
        page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").wait_for()
        page.get_by_text("Run", exact=True).click()
        page.get_by_text("Run All Cells", exact=True).click()
        yield page
        browser.close()


@pytest.fixture
def picture(page):
    return page.locator(".jp-OutputArea-output img.widget-image")


def notice(page):
    return page.locator(".jp-OutputArea-output .widget-html-content")


def press(page, name):
    page.locator(".jp-OutputArea-output button.widget-button", has_text=name).click()


def choose(page, control, option):
    page.locator(".widget-dropdown", has=page.get_by_text(control, exact=True)).locator("select").select_option(label=option)


def changed(picture, before):
    expect(picture).not_to_have_attribute("src", before, timeout=PATIENCE_MS)
    return picture.get_attribute("src")


def test_the_figure_is_there_and_answers_to_every_widget(page, picture):
    picture.wait_for()
    shown = picture.get_attribute("src")
    assert picture.evaluate("image => image.naturalWidth") > 500
    for control, option in [
        ("view", "times the limit"),
        ("statistic", "99th percentile"),
        ("runtime", "interpreted loop"),
        ("experiment", "latency"),
        ("view", "distribution"),
    ]:
        choose(page, control, option)
        shown = changed(picture, shown)


def test_a_measurement_is_started_and_stopped(page, home):
    press(page, "measure")
    expect(notice(page)).to_contain_text("measuring")
    press(page, "stop")
    expect(notice(page)).to_contain_text("stopped: nothing was kept")
    assert not list((home / "data").glob("interactive/*.parquet"))


def test_a_measurement_ends_in_a_run_that_can_be_chosen(page, picture, home):
    choose(page, "experiment", "ping-pong")
    choose(page, "view", "over sizes")
    series, sizes = page.locator(".widget-select-multiple select").all()
    series.select_option(label="zcipc (copying)")
    sizes.select_option(label=["64 B", "1 KiB"])
    launches = page.get_by_label("launches")
    launches.fill("1")
    launches.press("Enter")
    before = picture.get_attribute("src")
    press(page, "measure")
    expect(notice(page)).to_contain_text("rows of run interactive", timeout=PATIENCE_MS)
    changed(picture, before)
    assert (home / "data/interactive/pingpong.parquet").exists()


def test_figure_and_data_are_exported(page, home):
    press(page, "export")
    expect(notice(page)).to_contain_text("saved")
    saved = {path.suffix for path in (home / "notebooks").glob("explore_interactive_ping-pong_over-sizes.*")}
    assert saved == {".svg", ".pdf", ".png", ".csv"}
