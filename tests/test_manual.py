"""The reference documentation builds without a complaint and has everything public; the guide shows what was measured."""

import inspect
import re
import warnings
from importlib import import_module

import pytest

from zcipc.lab.publishing import choosing, manual
from zcipc.lab.runs.results import ROOT, Run

GUIDE = (ROOT / choosing.DOCUMENT).read_text(encoding="utf-8")


def public(module):
    """`(name, object)` of all that is public in a module, and of the members of its classes, from our own bases, too."""
    if hasattr(module, "__all__"):
        named = [(name, getattr(module, name)) for name in module.__all__ if name != "__version__"]
    else:
        own = [(name, one) for name, one in vars(module).items() if getattr(one, "__module__", None) == module.__name__]
        named = [(name, one) for name, one in own if name[0] != "_"]
    for name, one in named:
        yield name, one
        bases = [base for base in getattr(one, "__mro__", ()) if base.__module__.startswith("zcipc")]
        for member, value in ((member, value) for base in bases for member, value in vars(base).items()):
            if member[0] != "_" and (inspect.isroutine(value) or isinstance(value, property)):
                yield f"{name}.{member}", value


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    directory = tmp_path_factory.mktemp("manual")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        manual.build(directory)
    return directory


@pytest.mark.parametrize("name", manual.MODULES)
def test_everything_public_is_described_and_has_its_place(pages, name):
    module = import_module(name)
    page = (pages / name.replace(".", "/")).with_suffix(".html").read_text(encoding="utf-8")
    expected = {one: thing for one, thing in public(module) if not one.startswith("SimpleQueue.")}  # another name of Queue
    assert inspect.getdoc(module)
    assert [one for one, thing in expected.items() if not inspect.getdoc(thing)] == []
    assert expected.keys() <= set(re.findall(r'id="([\w.]+)"', page))


def test_what_a_class_overrides_is_shown_as_it_has_it(pages):
    page = (pages / "zcipc.html").read_text(encoding="utf-8")
    broadcast = page.partition('<section id="Broadcast">')[2].partition("</section>")[0]
    assert "Leave: the readers receive what was sent" in broadcast  # close(), in place of its base's
    assert "AnonymousMemory" not in broadcast  # which the constructor of that base takes


def test_the_guide_comes_first(pages):
    first = (pages / "index.html").read_text(encoding="utf-8")
    for heading in re.findall("^##? (.*)", GUIDE, re.MULTILINE):
        assert re.search(rf"<h[12][^>]*>{heading}</h", first), heading
    for name in manual.MODULES:
        assert f'href="{name.replace(".", "/")}.html"' in first


def test_the_guide_shows_what_was_measured():
    assert choosing.filled(GUIDE, Run.open("reference")) == GUIDE, "renew it: python -m zcipc.lab.publishing.choosing"
