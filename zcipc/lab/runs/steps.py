"""The pipeline, declared: what each step reads, what it makes, and about how long it takes."""

from collections.abc import Iterable
from dataclasses import dataclass, field

FIGURE_FORMATS = ("svg", "pdf", "png", "pt.svg")
TABLE_FORMATS = ("csv", "parquet", "provenance.json")


@dataclass(frozen=True)
class Step:
    """One step: a notebook, or the article or the report when `notebook` is False.

    `needs` and `needs_figures` name what other steps make; `sources` are further files, as patterns below the
    root, whose contents the result depends on. `seconds` is the expected duration by profile.
    """

    name: str
    title: str
    notebook: bool = True
    measures: bool = False
    needs: tuple[str, ...] = ()
    needs_figures: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    figures: tuple[str, ...] = ()
    papers: tuple[str, ...] = ()
    pages: tuple[str, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)

    def outputs(self, run: str) -> list[str]:
        """Every file the step promises, relative to the root."""
        return [
            *(f"data/{run}/{table}.{suffix}" for table in self.tables for suffix in TABLE_FORMATS),
            *(f"figures/{run}/{figure}.{suffix}" for figure in self.figures for suffix in FIGURE_FORMATS),
            *(f"paper/{run}/{paper}" for paper in self.papers),
            *(f"data/{run}/{page}" for page in self.pages),
        ]

    def names(self) -> tuple[str, ...]:
        """What `--only` may call this step: itself, what it makes, and `fig5` for `fig5_pingpong`."""
        made = (*self.tables, *self.figures, *self.papers)
        short = tuple(name.split("_")[0] for name in made if name.startswith(("fig", "table")))
        notebook = (self.name.split("_", 1)[-1], f"{self.name}.ipynb") if self.notebook else ()
        return tuple(dict.fromkeys((self.name, *notebook, *made, *short)))


def _seconds(smoke: float, quick: float, full: float) -> dict[str, float]:
    return {"smoke": smoke, "quick": quick, "full": full}


_MAKING: tuple[Step, ...] = (
    Step(
        "00_machine",
        "the machine, its timer and its limits",
        measures=True,
        tables=("machine", "limits"),
        figures=("machine_limits",),
        seconds=_seconds(12, 30, 100),
    ),
    Step(
        "01_concepts",
        "the paper's four diagrams",
        figures=("fig1_microkernel", "fig2_shared_memory", "fig3_message_copy", "fig4_implementation"),
        seconds=_seconds(8, 8, 8),
    ),
    Step(
        "02_related_work",
        "the table of related systems, and a row of our own with evidence",
        measures=True,
        tables=("table1_related_work", "table1_evidence"),
        seconds=_seconds(15, 15, 15),
    ),
    Step(
        "03_pingpong",
        "experiment 1: round trips",
        measures=True,
        tables=("pingpong", "pingpong_quantiles"),
        figures=("fig5_pingpong",),
        seconds=_seconds(10, 70, 300),
    ),
    Step(
        "04_injection",
        "experiment 2: injection rate",
        measures=True,
        tables=("injection",),
        figures=("fig6_injection",),
        seconds=_seconds(20, 150, 900),
    ),
    Step(
        "05_latency",
        "experiment 3: one-way latency",
        measures=True,
        tables=("latency", "latency_quantiles"),
        figures=("fig7_latency",),
        seconds=_seconds(10, 70, 300),
    ),
    Step(
        "06_claims",
        "a verdict on each claim",
        needs=("pingpong", "injection", "latency", "table1_evidence"),
        sources=("paper/claims.yml",),
        tables=("claims",),
        figures=("verdicts",),
        seconds=_seconds(8, 10, 20),
    ),
    Step(
        "07_peers",
        "other libraries, side by side",
        measures=True,
        tables=("peers", "peers_failures"),
        figures=("fig8_peers", "fig8_peers_by_size"),
        seconds=_seconds(12, 60, 350),
    ),
    Step(
        "08_design_choices",
        "what each design choice buys",
        measures=True,
        tables=("design_choices",),
        figures=("fig9_design_choices",),
        seconds=_seconds(15, 35, 240),
    ),
    Step(
        "09_microkernel",
        "application, file server and driver",
        measures=True,
        tables=("microkernel",),
        figures=("fig10_microkernel",),
        seconds=_seconds(12, 35, 110),
    ),
    Step(
        "10_headlines",
        "the headlines of the related work, and the closest here",
        measures=True,
        tables=("headlines",),
        figures=("fig11_headlines",),
        seconds=_seconds(12, 30, 60),
    ),
    Step(
        "11_realtime",
        "a periodic task beside load",
        measures=True,
        tables=("realtime",),
        figures=("fig12_realtime",),
        seconds=_seconds(15, 60, 260),
    ),
    Step(
        "article",
        "the article, with the numbers just measured",
        notebook=False,
        needs=(
            "machine",
            "limits",
            "table1_related_work",
            "table1_evidence",
            "pingpong",
            "pingpong_quantiles",
            "injection",
            "latency",
            "latency_quantiles",
            "claims",
            "peers",
            "peers_failures",
            "design_choices",
            "microkernel",
            "headlines",
            "realtime",
        ),
        needs_figures=(
            "fig1_microkernel",
            "fig2_shared_memory",
            "fig3_message_copy",
            "fig4_implementation",
            "fig5_pingpong",
            "fig6_injection",
            "fig7_latency",
            "fig8_peers",
            "fig9_design_choices",
            "fig10_microkernel",
            "fig11_headlines",
            "fig12_realtime",
        ),
        sources=("paper/*.typ", "paper/*.yml", "paper/*.bib"),
        papers=("zcipc.pdf", "zcipc.pt.pdf"),
        seconds=_seconds(3, 3, 3),
    ),
)

STEPS: tuple[Step, ...] = (
    *_MAKING,
    Step(
        "report",
        "all of it on one page",
        notebook=False,
        needs=tuple(table for step in _MAKING for table in step.tables),
        needs_figures=tuple(figure for step in _MAKING for figure in step.figures),
        sources=("paper/claims.yml",),
        pages=("report.html", "ro-crate-metadata.json"),
        seconds=_seconds(5, 5, 5),
    ),
)


def maker(name: str, steps: Iterable[Step] = STEPS) -> Step | None:
    """The step that makes the table, figure or article called `name`, or answers to it; else None."""
    return next((step for step in steps if name in step.names()), None)
