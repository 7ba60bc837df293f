"""Where commands write with colours and progress."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def console(stderr: bool = False) -> "Console":
    """Standard output, or standard error where the output is data for a program."""
    from rich.console import Console

    return Console(soft_wrap=False, stderr=stderr)
