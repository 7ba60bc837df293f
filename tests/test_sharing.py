"""A run leaves and comes back whole or not at all; it is described, shown and compared from what it holds."""

import json
import re
import shutil
import zipfile
from pathlib import Path

import pytest

from zcipc.lab.errors import UsageError
from zcipc.lab.harness.stats import Estimate
from zcipc.lab.publishing import archive, compare, crate, report
from zcipc.lab.publishing.archive import BadArchive
from zcipc.lab.runs import machine, provenance
from zcipc.lab.runs.results import Run

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A root that holds a copy of the reference run, without what is large and says nothing new."""
    root = tmp_path_factory.mktemp("home")
    for kind in ("data", "figures", "paper"):
        shutil.copytree(
            ROOT / kind / "reference",
            root / kind / "reference",
            ignore=shutil.ignore_patterns("report.html", "*quantiles*", "injection*", "peers*", "0[1-8]*.ipynb"),
        )
    return root


@pytest.fixture(scope="module")
def run(home):
    return Run.open("reference", None, home)


@pytest.fixture(scope="module")
def packed(run, tmp_path_factory):
    return archive.export(run, tmp_path_factory.mktemp("packed") / "run.zip")


@pytest.fixture(scope="module")
def page(run):
    return report.build(run).read_text(encoding="utf-8")


def repacked(packed, target, change):
    """The archive with `change` done to its `{name: content}`."""
    with zipfile.ZipFile(packed) as old:
        contents = {name: old.read(name) for name in old.namelist()}
    change(contents)
    with zipfile.ZipFile(target, "w") as new:
        for name, content in contents.items():
            new.writestr(name, content)
    return target


def promise(contents, name, content):
    """Put a file into an archive with everything in the metadata that it needs."""
    metadata = json.loads(contents[crate.NAME])
    metadata["@graph"] = [entity for entity in metadata["@graph"] if entity["@id"] != name]
    metadata["@graph"].append({"@id": name, "@type": "File", "sha256": provenance.sha256_of(content)})
    contents |= {name: content, crate.NAME: json.dumps(metadata).encode()}


class TestArchive:
    def test_the_same_run_gives_the_same_bytes(self, run, packed, tmp_path):
        assert archive.export(run, tmp_path / "again.zip").read_bytes() == packed.read_bytes()

    def test_comes_back_as_it_was(self, run, packed, tmp_path):
        back = archive.take_in(packed, root=tmp_path)
        assert {name: path.read_bytes() for name, path in crate.files(back).items()} == {
            name: path.read_bytes() for name, path in crate.files(run).items()
        }

    def test_under_another_name_its_records_name_its_files(self, packed, tmp_path):
        back = archive.take_in(packed, "guest", tmp_path)
        assert back.profile == "full"
        for table in back.tables():
            for name, digest in back.provenance(table)["files"].items():
                assert provenance.sha256(tmp_path / name) == digest

    def test_never_replaces_a_run(self, packed, home):
        with pytest.raises(UsageError, match="a run 'reference' already"):
            archive.take_in(packed, root=home)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda files: files.update({"../evil.csv": b"x"}), "no file of a run"),
            (lambda files: files.update({"/etc/evil.csv": b"x"}), "no file of a run"),
            (lambda files: files.update({"evil.sh": b"x"}), "no file of a run"),
            (lambda files: files.update({"pingpong.csv": b"x"}), "changed after it was exported"),
            (lambda files: files.pop("pingpong.csv"), "lacks pingpong.csv"),
            (lambda files: files.pop(crate.NAME), "lacks ro-crate-metadata.json"),
            (lambda files: files.update({"more.csv": b"x"}), "does not name: more.csv"),
            (lambda files: promise(files, "evil.csv", b"x"), "evil is no table"),
            (lambda files: promise(files, "pingpong.csv", b"launch\n1\n"), "do not hold the same rows"),
            (lambda files: promise(files, "pingpong.parquet", b"x"), "cannot be read"),
            (lambda files: promise(files, "run.json", b"[]"), "not a mapping"),
            (lambda files: promise(files, "run.json", b'{"run": "../x", "profile": "full"}'), "cannot name a run"),
        ],
    )
    def test_what_was_tampered_with_is_refused_and_leaves_nothing(self, packed, tmp_path, change, message):
        bad = repacked(packed, tmp_path / "bad.zip", change)
        with pytest.raises((BadArchive, UsageError), match=re.escape(message)):
            archive.take_in(bad, root=tmp_path / "home")
        assert not (tmp_path / "home").exists()

    def test_what_unpacks_to_too_much_is_refused_before_it_is_unpacked(self, packed, tmp_path, monkeypatch):
        monkeypatch.setattr(archive, "MOST_BYTES", 1000)
        with pytest.raises(BadArchive, match="more than 1,000 bytes"):
            archive.take_in(packed, root=tmp_path)

    def test_what_is_no_archive_is_refused(self, tmp_path):
        (tmp_path / "x.zip").write_bytes(b"hello")
        with pytest.raises(BadArchive, match="not an archive"):
            archive.take_in(tmp_path / "x.zip", root=tmp_path)


class TestCrate:
    def test_is_an_ro_crate(self, run):
        found = crate.describe(run, crate.files(run))
        assert found["@context"] == "https://w3id.org/ro/crate/1.1/context"
        entities = {entity["@id"]: entity for entity in found["@graph"]}
        assert len(entities) == len(found["@graph"])
        assert entities[crate.NAME]["about"] == {"@id": "./"}
        assert {"name", "description", "datePublished", "license", "hasPart"} <= entities["./"].keys()
        assert all("@type" in entity for entity in entities.values())

    def test_every_reference_leads_somewhere(self, run):
        found = crate.describe(run, crate.files(run))["@graph"]
        known = {entity["@id"] for entity in found} | {"https://w3id.org/ro/crate/1.1"}
        assert set(re.findall(r'\{"@id": "([^"]*)"\}', json.dumps(found))) <= known

    def test_in_its_place_every_name_leads_to_its_file(self, run):
        path = crate.write(run)
        parts = [entity for entity in json.loads(path.read_text())["@graph"] if entity["@type"] == "File"]
        assert {"pingpong.csv", "../../figures/reference/verdicts.svg"} <= {part["@id"] for part in parts}
        for part in parts:
            assert provenance.sha256(path.parent / part["@id"]) == part["sha256"]

    def test_leads_from_a_figure_to_rows_notebook_commit_and_machine(self, run):
        actions = [entity for entity in crate.describe(run, crate.files(run))["@graph"] if entity["@type"] == "CreateAction"]
        (drawn,) = (action for action in actions if {"@id": "figures/verdicts.svg"} in action["result"])
        assert {"@id": "pingpong.csv"} in drawn["object"]
        used = [reference["@id"] for reference in drawn["instrument"]]
        assert any(re.fullmatch(r"#notebooks/06_claims\.ipynb@[0-9a-f]{40}", name) for name in used)
        assert any(name.startswith("#machine-") for name in used)
        assert any(name.startswith("#numba-") for name in used)
        (measured,) = (action for action in actions if {"@id": "pingpong.csv"} in action["result"])
        assert measured["@id"] == "#03_pingpong"


class TestReport:
    def test_needs_nothing_from_anywhere(self, page):
        outside = re.findall(r'(?:src|href)="(?!#|data:)([^"]*)"', re.sub(r'srcdoc="[^"]*"', "", page))
        assert outside == []
        assert "<script" not in page

    def test_every_link_leads_somewhere(self, page):
        shell = re.sub(r'srcdoc="[^"]*"', "", page)
        places = set(re.findall(r'id="([^"]*)"', shell))
        assert set(re.findall(r'href="#([^"]*)"', shell)) <= places

    def test_states_every_verdict_with_its_evidence(self, page, run):
        for number in range(1, 11):
            assert f'id="C{number}"' in page
        assert page.count('class="claim"') == 10
        assert "four runs in five would decide" in page

    def test_is_the_same_again(self, page, run):
        assert report.build(run).read_text(encoding="utf-8") == page

    def test_of_an_empty_run_says_what_is_missing(self, tmp_path):
        page = report.build(Run.open("new", "smoke", tmp_path)).read_text(encoding="utf-8")
        assert "No claim was judged in this run." in page
        assert "No figure was drawn in this run." in page


class TestCompare:
    @pytest.mark.parametrize(
        ("other", "judgement"),
        [
            (Estimate(2.1, 2.0, 2.2, 12), compare.AGREE),
            (Estimate(4.0, 3.8, 4.2, 12), compare.DIFFER),
            (Estimate(2.4, 1.8, 3.2, 12), compare.OPEN),
            (Estimate(2.0, float("nan"), float("nan"), 1), compare.OPEN),
        ],
    )
    def test_agreement_is_judged_by_ratio_and_interval(self, other, judgement):
        assert compare.agreement(Estimate(2.0, 1.9, 2.1, 12), other) == judgement

    def test_a_run_agrees_with_itself_and_a_machine_twice_as_fast_changes_nothing(self, run, packed, tmp_path):
        faster = archive.take_in(packed, "faster", tmp_path)
        for table in ("pingpong", "latency"):
            frame = faster.load(table)
            times = [column for column in frame if column.endswith("_ns")]
            frame[times] /= 2
            frame.to_parquet(faster.data / f"{table}.parquet")
        found = compare.ratios([faster, run])
        assert len(found) > 20
        assert (found["faster"] == found["reference"]).mean() > 0.9
        assert compare.DIFFER not in set(found["judgement"])

    def test_machines_are_told_apart_by_what_they_recorded(self, run, packed, tmp_path):
        other = archive.take_in(packed, "small", tmp_path)
        for path in other.data.glob("*.provenance.json"):
            record = json.loads(path.read_text())
            record["machine"] |= {"cores_online": 1, "cores_usable": 1}
            path.write_text(json.dumps(record))
        found = compare.machines([other, run])
        assert {"cores_online", "cores_usable"} <= set(found["property"])
        assert found["property"].str.startswith("one core is usable: ").any()


class TestOneMachine:
    def test_a_run_refuses_what_a_second_one_measures(self, run, monkeypatch):
        here = machine.describe() | {key: run.machine()[key] for key in provenance.IDENTITY}
        monkeypatch.setattr(machine, "describe", lambda: here)
        run.check_machine()
        monkeypatch.setattr(machine, "describe", lambda: here | {"cpu": "Another"})
        with pytest.raises(UsageError, match=f"another machine .*cpu {re.escape(here['cpu'])} there, Another here"):
            run.save("pingpong", run.load("pingpong").head(3))
        assert run.save("claims", run.load("claims")) is not None  # judging what was measured elsewhere is no mixing
