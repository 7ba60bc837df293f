"""The figures, drawn from made-up frames of the shape the experiments give."""

import io
import re
from collections.abc import Callable
from itertools import combinations

import matplotlib
import numpy as np
import pandas as pd
import pytest
import yaml
from IPython.core.formatters import DisplayFormatter
from matplotlib.axes import Axes
from matplotlib.axis import Axis, Tick
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text

from zcipc.lab import plots
from zcipc.lab.measurements.effects import effects
from zcipc.lab.measurements.headlines import beside
from zcipc.lab.peers import PEERS
from zcipc.lab.plots import style
from zcipc.lab.plots.claims import verdicts
from zcipc.lab.plots.labels import ENGLISH
from zcipc.lab.runs import translation
from zcipc.lab.runs.results import ROOT, Run
from zcipc.lab.verdicts import related_work
from zcipc.lab.verdicts.claims import load as load_claims

Figures = dict[str, Callable[[], Figure]]
"""Draws each figure anew, by name."""

SIZES = [64 << doubling for doubling in range(8)]
LAUNCHES = 6
FLOOR_NS = {
    "compiled": {
        "pipe": 11_000,
        "socketpair": 14_000,
        "paper": 6_000,
        "zcipc_block": 7_500,
        "zcipc": 200,
        "zcipc_loan": 170,
        "limit": 125,
    },
    "python": {
        "pipe": 16_000,
        "socketpair": 21_000,
        "paper": 9_000,
        "zcipc_block": 9_500,
        "zcipc": 800,
        "zcipc_loan": 1_900,
    },
}
"""Plausible round trips of an empty message; what a byte costs is the same for all but the loaned."""


def series() -> pd.DataFrame:
    """runtime, transport, launch, message_bytes, time_ns, rng-made and always the same."""
    rng = np.random.default_rng(1)
    rows = [
        (runtime, transport, launch, size, (floor + size * per_byte) * rng.lognormal(0, 0.08))
        for runtime, floors in FLOOR_NS.items()
        for transport, floor in floors.items()
        for per_byte in [0.02 if transport in ("zcipc_loan", "limit") else 0.25]
        for launch in range(LAUNCHES)
        for size in SIZES
    ]
    return pd.DataFrame(rows, columns=["runtime", "transport", "launch", "message_bytes", "time_ns"])


@pytest.fixture(scope="module")
def pingpong() -> pd.DataFrame:
    return series().rename(columns={"time_ns": "round_trip_ns"})


@pytest.fixture(scope="module")
def latency() -> pd.DataFrame:
    return series().assign(p50_ns=lambda frame: frame["time_ns"] / 2)


@pytest.fixture(scope="module")
def latency_quantiles() -> pd.DataFrame:
    tail = pd.DataFrame({"quantile": [*(1 - np.geomspace(1, 1e-4, 60)), 1.0]})
    frame = series().merge(tail, how="cross")
    stretch = (1 - frame["quantile"]).clip(lower=1e-4) ** -0.35
    return frame.assign(latency_ns=frame["time_ns"] / 2 * 0.8 * stretch)


@pytest.fixture(scope="module")
def injection() -> pd.DataFrame:
    rng = np.random.default_rng(2)
    rows = []
    for runtime, floors in FLOOR_NS.items():
        for transport in ("pipe", "socketpair", "paper", "zcipc", "zcipc_loan"):
            for size in (64, 65_000):
                for volume in (100, 500, 1000, 2000):
                    for interval in (0.5, 1, 2, 3, 5):
                        for launch in range(LAUNCHES):
                            for burst in range(2):
                                rate = 2e9 / (floors[transport] + size * 0.25) * (volume / 100) ** 0.15
                                rate *= rng.lognormal(0, 0.1)
                                keys = (runtime, transport, launch, size, volume, interval, burst, burst == 0)
                                rows.append((*keys, rate))
    columns = [
        "runtime",
        "transport",
        "launch",
        "message_bytes",
        "volume_messages",
        "interval_s",
        "injection",
    ]
    return pd.DataFrame(rows, columns=[*columns, "warmup", "messages_per_s"])


@pytest.fixture(scope="module")
def limits() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    columns = ["limit", "message_bytes", "launch", "value", "unit"]
    rows: list[tuple[str, int, int, float, str]] = []
    for launch in range(LAUNCHES):
        rows.append(("cache_line_round_trip", 64, launch, 125 * rng.lognormal(0, 0.05), "ns"))
        rows += [("memcpy", size, launch, 4e10 * size / (size + 500), "bytes/s") for size in SIZES]
    return pd.DataFrame(rows, columns=columns)


@pytest.fixture(scope="module")
def machine() -> pd.DataFrame:
    return pd.DataFrame({"name": ["timer_cost_ns"], "value": [24.0], "unit": ["ns"]})


@pytest.fixture(scope="module")
def figures(
    pingpong: pd.DataFrame,
    latency: pd.DataFrame,
    latency_quantiles: pd.DataFrame,
    injection: pd.DataFrame,
    limits: pd.DataFrame,
    machine: pd.DataFrame,
) -> Figures:
    return {
        "fig1_microkernel": plots.fig1_microkernel,
        "fig2_shared_memory": plots.fig2_shared_memory,
        "fig3_message_copy": plots.fig3_message_copy,
        "fig4_implementation": plots.fig4_implementation,
        "fig5_pingpong": lambda: plots.ping_pong(pingpong),
        "fig6_injection": lambda: plots.injection(injection),
        "fig7_latency": lambda: plots.latency(latency, latency_quantiles),
        "machine_timer": lambda: plots.machine_timer(limits, machine),
    }


FIGURES = (
    "fig1_microkernel",
    "fig2_shared_memory",
    "fig3_message_copy",
    "fig4_implementation",
    "fig5_pingpong",
    "fig6_injection",
    "fig7_latency",
    "machine_timer",
)
CHARTS = FIGURES[4:]


def rendered(figure: Figure, kind: str) -> bytes:
    image = io.BytesIO()
    figure.savefig(image, format=kind)
    return image.getvalue()


def drawn(figure: Figure) -> Figure:
    """The figure once everything in it has found its place."""
    FigureCanvasAgg(figure).draw()
    return figure


def lines_by_label(axes: Axes) -> dict[str, Line2D]:
    return {str(line.get_label()): line for line in axes.get_lines()}


def texts(figure: Figure) -> list[Text]:
    """Everything written in the figure that a reader sees."""
    return [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("kind", ["svg", "pdf"])
def test_the_same_figure_gives_the_same_bytes(figures: Figures, name: str, kind: str) -> None:
    """Whatever the reader's own settings are: the theme goes with the figure."""
    first = rendered(figures[name](), kind)
    with matplotlib.rc_context({"font.size": 20, "pdf.fonttype": 3, "axes.facecolor": "red"}):
        assert rendered(figures[name](), kind) == first
    assert b"date" not in first.lower()


def test_a_notebook_shows_a_figure_that_pyplot_does_not_know() -> None:
    shown, _ = DisplayFormatter().format(plots.fig1_microkernel())
    assert shown["image/png"].startswith(b"\x89PNG")


@pytest.mark.parametrize("name", FIGURES)
def test_fonts_are_embedded_as_truetype(figures: Figures, name: str) -> None:
    pdf = rendered(figures[name](), "pdf")
    assert b"/Type0" in pdf
    assert b"/Type3" not in pdf


@pytest.mark.parametrize("name", FIGURES)
def test_no_text_is_cut_off_at_the_edge(figures: Figures, name: str) -> None:
    figure = drawn(figures[name]())
    width, height = figure.bbox.width, figure.bbox.height
    inside = {tick.label1 for axes in figure.axes for axis in (axes.xaxis, axes.yaxis) for tick in outliers(axis)}
    for text in set(texts(figure)) - inside:
        box = text.get_window_extent()
        assert box.x0 >= 0, text.get_text()
        assert box.y0 >= 0, text.get_text()
        assert box.x1 <= width, text.get_text()
        assert box.y1 <= height, text.get_text()


def outliers(axis: Axis) -> list[Tick]:
    """The ticks that lie outside the view: matplotlib keeps them, and does not draw them."""
    low, high = sorted(axis.get_view_interval())
    return [tick for tick in axis.get_major_ticks() if not low <= tick.get_loc() <= high]


@pytest.mark.parametrize("name", FIGURES[:4])
def test_no_two_texts_of_a_diagram_overlap(figures: Figures, name: str) -> None:
    figure = drawn(figures[name]())
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts(figure)]
    for (one, first), (other, second) in combinations(boxes, 2):
        assert not first.overlaps(second), f"{one!r} and {other!r}"


def test_a_diagram_takes_every_word_from_its_labels() -> None:
    """Another language needs another mapping, and no other drawing code."""
    foreign = {key: f"«{key}»" for key in ENGLISH}
    written = set()
    for name in FIGURES[:4]:
        for text in texts(getattr(plots, name)(foreign)):
            assert text.get_text().isdigit() or text.get_text().startswith("«")
            written.add(text.get_text().strip("«»"))
    assert written - set("12345") == set(ENGLISH)


def test_fig4_starts_the_semaphores_so_that_it_does_not_deadlock() -> None:
    words = [text.get_text() for text in texts(plots.fig4_implementation())]
    assert [words[words.index(name) + 1] for name in ("empty", "mutex", "full")] == ["slots", "1", "0"]


@pytest.mark.parametrize("name", CHARTS)
def test_every_axis_is_named_and_has_units(figures: Figures, name: str) -> None:
    """In its label or at its ticks; panels side by side share both."""
    figure = drawn(figures[name]())
    units = re.compile(r"\d (B|KiB|kB|ns|µs|ms|%)|\((s|ns|GB/s)\)|per second|share of")
    for axes in figure.axes:
        across = axes.get_shared_x_axes().get_siblings(axes)
        up = axes.get_shared_y_axes().get_siblings(axes)
        for label, axis_group in (
            (figure.get_supxlabel(), [panel.xaxis for panel in across]),
            (figure.get_supylabel(), [panel.yaxis for panel in up]),
        ):
            labels = " ".join([label, *(axis.get_label_text() for axis in axis_group)])
            ticks = [tick.get_text() for axis in axis_group for tick in axis.get_ticklabels()]
            assert labels.strip()
            assert units.search("\n".join([labels, *ticks]))


@pytest.mark.parametrize("name", ["fig5_pingpong", "fig7_latency"])
def test_every_transport_is_drawn_in_every_panel_in_its_own_look(figures: Figures, name: str) -> None:
    for axes in figures[name]().axes:
        lines = lines_by_label(axes)
        for look in style.TRANSPORTS.values():
            line = lines[look.label]
            assert (line.get_color(), line.get_marker()) == (look.color, look.marker)


def test_the_limit_is_drawn_and_named_in_every_panel(figures: Figures) -> None:
    for name in ("fig5_pingpong", "fig7_latency"):
        for axes in figures[name]().axes:
            assert [line.get_color() for line in axes.get_lines() if line.get_gid() == style.LIMIT] == [style.LIMIT_GREY]
            assert style.LIMIT_LABEL in [text.get_text() for text in axes.texts]


def test_ping_pong_draws_medians_over_launches(pingpong: pd.DataFrame) -> None:
    line = lines_by_label(plots.ping_pong(pingpong).axes[0])["pipe"]
    rows = pingpong[(pingpong["runtime"] == "compiled") & (pingpong["transport"] == "pipe")]
    assert np.asarray(line.get_ydata()) == pytest.approx(rows.groupby("message_bytes")["round_trip_ns"].median())


def test_injection_has_a_row_a_transport_and_a_line_a_volume(injection: pd.DataFrame) -> None:
    axes = plots.injection(injection).axes
    assert len(axes) == 5 * 4
    assert {len(panel.get_lines()) for panel in axes} == {4}
    by_size = [{panel.get_ylim() for panel in axes[column::4]} for column in range(4)]
    assert by_size[0] == by_size[1]
    assert by_size[2] == by_size[3]
    assert len(by_size[0] | by_size[2]) == 2


def test_injection_leaves_warm_up_out(injection: pd.DataFrame) -> None:
    spoilt = injection.assign(
        messages_per_s=injection["messages_per_s"].where(~injection["warmup"], 1.0),
    )
    clean = injection[~injection["warmup"]]
    assert rendered(plots.injection(spoilt), "svg") == rendered(plots.injection(clean), "svg")


def test_injection_draws_the_limit_where_it_was_measured(injection: pd.DataFrame) -> None:
    rows = injection[(injection["transport"] == "zcipc") & (injection["runtime"] == "compiled")]
    bound = rows.assign(transport=style.LIMIT, messages_per_s=2 * rows["messages_per_s"])
    figure = plots.injection(pd.concat([injection, bound]))
    assert len(figure.axes) == 5 * 4
    assert all(any(line.get_gid() == style.LIMIT for line in axes.get_lines()) for axes in figure.axes)


@pytest.mark.parametrize("launches", [1, 2])
def test_few_launches_and_one_runtime_are_enough(
    pingpong: pd.DataFrame,
    latency: pd.DataFrame,
    latency_quantiles: pd.DataFrame,
    injection: pd.DataFrame,
    limits: pd.DataFrame,
    machine: pd.DataFrame,
    launches: int,
) -> None:
    def few(frame: pd.DataFrame) -> pd.DataFrame:
        rows = frame[frame["launch"] < launches]
        return rows[rows["runtime"] == "python"] if "runtime" in rows else rows

    for figure in (
        plots.ping_pong(few(pingpong)),
        plots.latency(few(latency), few(latency_quantiles), message_bytes=64),
        plots.injection(few(injection)[lambda frame: frame["interval_s"] < 1]),
        plots.machine_timer(few(limits), machine),
    ):
        assert rendered(figure, "png")


def test_a_transport_without_a_look_is_named(pingpong: pd.DataFrame, limits: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="'telepathy' has no look"):
        plots.ping_pong(pingpong.replace({"transport": {"pipe": "telepathy"}}))


def luminance(color: str) -> float:
    """How light a colour prints in grey, from 0 to 1 (Rec. 709)."""
    return float(np.dot(to_rgb(color), (0.2126, 0.7152, 0.0722)))


def test_transports_differ_in_colour_marker_and_line_style() -> None:
    looks = list(style.TRANSPORTS.values())
    for part in ("label", "color", "marker", "dashes"):
        assert len({getattr(look, part) for look in looks}) == len(looks)


def test_everything_drawn_is_dark_enough_to_print_in_grey() -> None:
    assert all(luminance(look.color) < 0.7 for look in style.TRANSPORTS.values())


def test_ordered_levels_grow_darker() -> None:
    shades = [luminance(look.color) for look in style.sequence(4)]
    assert shades == sorted(shades, reverse=True)
    assert min(-np.diff(shades)) > 0.08


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (64, "64 B"),
        (1000, "1 kB"),
        (1024, "1 KiB"),
        (8192, "8 KiB"),
        (65_000, "65 kB"),
        (1 << 20, "1 MiB"),
        (1500, "1,500 B"),
    ],
)
def test_bytes_are_written(size: int, text: str) -> None:
    assert style.format_bytes(size) == text


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [(20, "20 ns"), (125.4, "125 ns"), (1000, "1 µs"), (11_300, "11.3 µs"), (2e6, "2 ms"), (3e9, "3 s")],
)
def test_times_are_written(nanoseconds: float, text: str) -> None:
    assert style.format_time(nanoseconds) == text


@pytest.mark.parametrize(("rate", "text"), [(50, "50"), (20_000, "20 k"), (1.5e6, "1.5 M"), (2e9, "2 G")])
def test_rates_are_written(rate: float, text: str) -> None:
    assert style.format_rate(rate) == text


# In another language

NAMES = re.compile(
    r"\([a-f]\)|[\W\d_]|\b(?:[a-z]?B|[KMG]i?B|[nµm]?s|k?Hz|Gbit|[kMGT]|p\d+|pipe|zcipc|memcpy|PID|P[12]|IPC|ipc\w*|kernel|"
    r"microkernel|heap|buffer|first_pid|second_pid|empty|full|mutex|wait|signal|send|receive|futex|FIFO|pickle|driver|"
    r"mp\.\w+|ping-pong|C\d+)\b"
)
"""What is the same in every language: units, and the names of calls and of what the paper calls by its English name."""

SYSTEMS = re.compile(
    "|".join(
        re.escape(name)
        for name in sorted(
            {*PEERS, *(peer.title for peer in PEERS.values()), *(system.name for system in related_work.SYSTEMS)},
            key=len,
            reverse=True,
        )
    )
)
"""Names of programs."""

MEASURED: dict[str, Callable[[Run], Figure]] = {
    "fig8_peers": lambda run: plots.peers(run.load("peers")),
    "fig8_peers_by_size": lambda run: plots.peers_by_size(run.load("peers")),
    "fig9_design_choices": lambda run: plots.design_choices(effects(run.load("design_choices"))),
    "fig10_microkernel": lambda run: plots.microkernel(run.load("microkernel")),
    "fig11_headlines": lambda run: plots.headlines(beside(run.load("headlines"))),
    "fig12_realtime": lambda run: plots.realtime(run.load("realtime")),
    "verdicts": lambda run: verdicts(run.load("claims"), {claim.id: claim.title for claim in load_claims()}),
}
"""The figures that only a run can fill, from the reference run."""


def english(label: str, phrases: dict[str, str]) -> str:
    """What is left of a translated label without the phrases in Portuguese, the names and the units."""
    for phrase in sorted(phrases.values(), key=len, reverse=True):
        label = re.sub(rf"(?<!\w){re.escape(phrase)}(?!\w)", " ", label)
    return NAMES.sub("", SYSTEMS.sub(" ", label))


def labels(figure: Figure) -> set[str]:
    figure.savefig(io.BytesIO(), format="png", dpi=40)  # ticks have no text before
    return {text.get_text() for text in figure.findobj(Text)} - {""}


@pytest.mark.parametrize("name", [*FIGURES, *MEASURED])
def test_nothing_in_a_portuguese_figure_is_english(figures: Figures, name: str) -> None:
    figure = figures[name]() if name in figures else MEASURED[name](Run.open("reference"))
    phrases = yaml.safe_load((ROOT / "paper" / "pt.yml").read_text(encoding="utf-8"))
    translate = translation.load(ROOT, "pt")
    left = {label: rest for label in labels(figure) if (rest := english(translate(label), phrases))}
    assert left == {}


def test_a_half_translated_label_is_found() -> None:
    phrases = {"message size": "tamanho da mensagem"}
    assert english("tamanho da mensagem, 64 B", phrases) == ""
    assert english("tamanho da mensagem of a file, 64 B", phrases) == "ofafile"


def test_a_figure_is_translated_for_as_long_as_the_block_lasts(figures: Figures) -> None:
    figure = figures["fig5_pingpong"]()
    before = labels(figure)
    with translation.translated(figure, translation.load(ROOT, "pt")):
        assert {"tempo de ida e volta", "tamanho da mensagem", "(a)  laço compilado"} <= labels(figure)
    assert labels(figure) == before


def test_the_longest_phrase_counts_and_marks_are_swapped() -> None:
    translate = translation.load(ROOT, "pt")
    assert translate("interpreted round trip, 64 B") == "ida e volta interp., 64 B"
    assert translate("1,000 messages: p99.9") == "1.000 mensagens: p99,9"
    assert translate("spinning") == "spinning"
