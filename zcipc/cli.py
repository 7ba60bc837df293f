"""The command line: `zcipc reproduce`, `status`, `claims`, `figures`, `bench`, `doctor`, `clean`.

The research side is imported by the commands that need it: `zcipc --version` and `zcipc clean` work without
the packages of `zcipc[lab]`.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from zcipc._version import __version__

if TYPE_CHECKING:
    from rich.console import Console

    from zcipc.lab.runner import StepStatus

_EXAMPLES = """\
examples:
  zcipc reproduce --profile smoke --run check     all of it, in under two minutes
  zcipc reproduce --only fig5 --set launches=3    one figure, measured with three launches
  zcipc status check                              what is done, stale or missing
  zcipc figures reference                         draw again from saved data, measure nothing
  zcipc bench --only round_trip --json -          one scenario of the bench, as JSON
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Its exit status: 0, 1 after a failure, 2 for what does not exist, 130 after Ctrl-C."""
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

    reproduce = commands.add_parser(
        "reproduce",
        help="measure, draw, judge and typeset whatever is not up to date",
        description="Bring a run up to date. What is unchanged is kept; a stopped run goes on where it was.",
    )
    reproduce.add_argument("--profile", default="quick", help="how thorough: smoke, quick (default) or full")
    reproduce.add_argument(
        "--run", metavar="NAME", help="where results go: data/NAME, ... (default: the profile)"
    )
    reproduce.add_argument(
        "--only",
        metavar="NAME",
        action="append",
        default=[],
        help="a figure, table, step or notebook; may be repeated",
    )
    reproduce.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="a notebook's parameter, in YAML: launches=3, sizes=64,4096; may be repeated",
    )
    reproduce.add_argument(
        "--force", action="store_true", help="do again what is done; begin anew a run of another profile"
    )
    reproduce.add_argument("--no-measure", action="store_true", help="draw again from saved data only")
    reproduce.set_defaults(command=_reproduce)

    figures = commands.add_parser("figures", help="draw figures and article again from saved data")
    figures.add_argument("run", metavar="RUN", nargs="?", default="reference", help="default: reference")
    figures.add_argument("--only", metavar="NAME", action="append", default=[], help="as for reproduce")
    figures.set_defaults(command=_figures)

    status = commands.add_parser("status", help="what of a run is done, stale or missing")
    status.add_argument("run", metavar="RUN", nargs="?", help="default: every run")
    status.set_defaults(command=_status)

    claims = commands.add_parser("claims", help="the verdict on each claim of the paper")
    claims.add_argument("run", metavar="RUN", nargs="?", default="reference", help="default: reference")
    claims.set_defaults(command=_claims)

    bench = commands.add_parser(
        "bench",
        help="zcipc against what the hardware allows, the kernel and its peers",
        description="Measure every scenario, interleaved, and judge each bar by what was measured in this run.",
    )
    bench.add_argument(
        "--only", metavar="SCENARIO", action="append", default=[], help="may be repeated; bars: the table of bars alone"
    )
    bench.add_argument("--profile", default="quick", help="how thorough: smoke, quick (default) or full")
    bench.add_argument(
        "--peers", action=argparse.BooleanOptionalAction, default=True, help="the other libraries that are installed (default)"
    )
    bench.add_argument("--json", metavar="FILE", help="write rows and bars there; -: to standard output, and nothing else")
    bench.set_defaults(command=_bench)

    doctor = commands.add_parser(
        "doctor", help="what on this machine disturbs a measurement or limits the library"
    )
    doctor.set_defaults(command=_doctor)

    clean = commands.add_parser("clean", help="remove the shared memory that dead processes left")
    clean.set_defaults(command=_clean)
    return parser


def _reproduce(options: argparse.Namespace) -> int:
    from zcipc.lab import runner

    name = options.run if options.run is not None else options.profile
    if options.no_measure:
        runner.redraw(name, only=options.only, console=_console())
    else:
        runner.reproduce(
            name,
            options.profile,
            only=options.only,
            settings=options.set,
            force=options.force,
            console=_console(),
        )
    return 0


def _figures(options: argparse.Namespace) -> int:
    from zcipc.lab import runner

    runner.redraw(options.run, only=options.only, console=_console())
    return 0


def _status(options: argparse.Namespace) -> int:
    from zcipc.lab import results, runner

    names = [options.run] if options.run else results.run_names()
    if not names:
        print("no run yet: zcipc reproduce")
    for name in names:
        _print_status(name, runner.status(name), results.Run.open(name).profile)
    return 0


def _print_status(name: str, lines: "Sequence[StepStatus]", profile: str) -> None:
    from rich.table import Table

    from zcipc.lab.display import clock

    table = Table(title=f"{name} ({profile})", title_justify="left", box=None, pad_edge=False)
    for heading in ("step", "state", "finished (UTC)", "took", ""):
        table.add_column(heading)
    for line in lines:
        finished = (line.finished or "").replace("T", " ").removesuffix("+00:00")
        took = clock(line.seconds) if line.seconds is not None else ""
        table.add_row(line.step.name, line.state.state, finished, took, line.state.reason)
    _console().print(table)


def _claims(options: argparse.Namespace) -> int:
    from zcipc.lab import claims, results

    _console().print(claims.render(results.Run.open(options.run).load("claims")))
    return 0


def _bench(options: argparse.Namespace) -> int:
    from zcipc.lab.bench import report

    console = _console(stderr=options.json == "-")
    report.bench(options.only, options.profile, options.peers, options.json, console)
    return 0


def _doctor(_: argparse.Namespace) -> int:
    from zcipc.lab import machine

    console = _console()
    colours = {"ok": "green", "note": "cyan", "warn": "yellow", "bad": "bold red"}
    for finding in machine.doctor():
        console.print(f"[{colours[finding.level]}]{finding.level:>4}[/]  ", end="")
        console.print(finding.what, markup=False, highlight=False)
        for detail in (finding.why, finding.remedy and f"-> {finding.remedy}"):
            if detail:
                console.print(f"      {detail}", markup=False, highlight=False)
    return 0


def _clean(_: argparse.Namespace) -> int:
    from zcipc import segment

    removed = segment.clean()
    for name in removed:
        print(f"removed /dev/shm/{name}")
    if not removed:
        print("nothing to remove")
    return 0


def _console(stderr: bool = False) -> "Console":
    from rich.console import Console

    return Console(soft_wrap=False, stderr=stderr)
