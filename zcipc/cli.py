"""The command line `zcipc`: one module of `zcipc.commands` for each command, and what all of them share.

A command imports what it needs when it runs: `zcipc --version` and `zcipc clean` work without the packages of `zcipc[lab]`.
"""

import argparse
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import NoReturn

from zcipc._version import __version__
from zcipc.commands import (
    bench,
    claims,
    clean,
    compare,
    doctor,
    export,
    faults,
    figures,
    import_,
    ls,
    report,
    reproduce,
    soak,
    status,
    top,
    torture,
    trace,
)

_COMMANDS = (
    reproduce, figures, status, claims, trace, report, compare, export, import_, bench, torture, soak, faults, doctor, ls, top,
    clean,
)  # fmt: skip

_EXAMPLES = """\
examples:
  zcipc reproduce --profile smoke --run check     all of it, in under two minutes
  zcipc reproduce --only fig5 --set launches=3    one figure, measured with three launches
  zcipc status check                              what is done, stale or missing
  zcipc figures reference                         draw again from saved data, measure nothing
  zcipc trace reference C1                        what a claim, a figure or a number was made from
  zcipc bench --only round_trip --json -          one scenario of the bench, as JSON
  zcipc top                                       who is connected to whom, and what passes, live
  zcipc torture --seconds 600                     kill processes at every step, and count what others lose
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Its exit status: 0, 1 after a failure, 2 for what does not exist, 130 after Ctrl-C.

    Without `arguments` it is all that this process is for, with those of the command line: the first Ctrl-C ends the command,
    and no further one disturbs that.
    """
    if arguments is None:
        signal.signal(signal.SIGINT, _stop_once)
    try:
        return _run(arguments)
    except KeyboardInterrupt:  # while something else was being reported
        return 130


def _stop_once(_number: int, _frame: FrameType | None) -> NoReturn:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


def _run(arguments: Sequence[str] | None) -> int:
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith("zcipc"):
            raise
        print(f"zcipc: this command needs {error.name}: pip install 'zcipc[lab]'", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        sys.stderr.close()  # whoever read the output, `head` for one, has seen enough
        return 0
    except Exception as error:
        status = getattr(error, "exit_status", None)
        if status is None:
            raise
        print(f"zcipc: {error}", file=sys.stderr)
        return int(status)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="zcipc",
        description="Messages between two Python processes without copies, and the paper behind them.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"zcipc {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in _COMMANDS:
        name = command.__name__.rpartition(".")[2].rstrip("_")  # import_: Python has taken the word
        one = commands.add_parser(name, help=command.HELP, description=command.__doc__)
        command.add_arguments(one)
        one.set_defaults(command=command.run)
    return parser
