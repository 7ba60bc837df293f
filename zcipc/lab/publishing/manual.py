"""The reference documentation: a page of each public module, made from its docstrings, and in front of them CHOOSING.md.

`python -m zcipc.lab.publishing.manual DIRECTORY`, or `make docs`.
"""

import sys
from importlib import import_module
from pathlib import Path

from pdoc import doc, render

import zcipc
from zcipc.lab.publishing.choosing import DOCUMENT
from zcipc.lab.runs.provenance import write_bytes
from zcipc.lab.runs.results import ROOT

MODULES = ("zcipc", "zcipc.rpc", "zcipc.aio", "zcipc.operations")


def build(directory: Path) -> None:
    """Write the pages into `directory`; the first is `index.html`."""
    render.configure(
        docformat="google",
        show_source=False,
        footer_text=f"zcipc {zcipc.__version__}",
        template_directory=Path(__file__).parents[1] / "templates",
    )
    render.env.globals["guide"] = (ROOT / DOCUMENT).read_text(encoding="utf-8")
    modules = {name: _described(name) for name in MODULES}
    for module in modules.values():
        for one in module.own_members:
            if isinstance(one, doc.Class):
                _show_inherited(one)
    for name, module in modules.items():
        page = directory / name.replace(".", "/")
        write_bytes(page.with_suffix(".html"), render.html_module(module, modules).encode())
    write_bytes(directory / "index.html", render.html_index(modules).encode())
    write_bytes(directory / "search.js", render.search_index(modules).encode())


def _described(name: str) -> doc.Module:
    module = import_module(name)
    for public in getattr(module, "__all__", ()):
        getattr(module, public)  # some come when they are first named, and pdoc takes only what is there
    return doc.Module(module)


def _show_inherited(cls: doc.Class) -> None:
    """Count what a class has from a base of ours, which has no page, as its own: a reader looks for `Connection.loan`."""
    cls._bases = cls.obj.__mro__  # else, of a generic class, what it overrides would be shown as its base has it
    inherited = [members for (module, _), members in cls.inherited_members.items() if module.startswith("zcipc.")]
    cls.own_members = sum(inherited, cls.own_members)


if __name__ == "__main__":
    build(Path(sys.argv[1]))
