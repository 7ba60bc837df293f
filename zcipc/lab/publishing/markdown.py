"""Tables in Markdown, and the places in a document that are filled from data: each between two comments, of which the first has
a name and says how to fill it."""

import re
from collections.abc import Mapping, Sequence

_BLOCK = re.compile(r"(<!-- (\w+): [^>]*-->\n).*?(<!-- end -->)", re.DOTALL)


def filled(text: str, contents: Mapping[str, str]) -> str:
    """`text` with the content of each name in its place."""
    return _BLOCK.sub(lambda block: f"{block[1]}\n{contents[block[2]]}\n\n{block[3]}", text)


def table(heading: Sequence[str], rows: Sequence[Sequence[str]], alignment: str) -> str:
    """A table whose columns are aligned by one letter each, `l` or `r`."""
    rules = ["---:" if side == "r" else "---" for side in alignment]
    return "\n".join(f"| {' | '.join(line)} |" for line in (heading, rules, *rows))
