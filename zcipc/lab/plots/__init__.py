"""Every figure of the reproduction: the paper's diagrams, redrawn, and its measurements."""

from zcipc.lab.plots.charts import injection, latency, machine_timer, ping_pong
from zcipc.lab.plots.design import design_choices
from zcipc.lab.plots.diagrams import (
    fig1_microkernel,
    fig2_shared_memory,
    fig3_message_copy,
    fig4_implementation,
)
from zcipc.lab.plots.headlines import headlines
from zcipc.lab.plots.microkernel import microkernel
from zcipc.lab.plots.peers import peers, peers_by_size
from zcipc.lab.plots.realtime import realtime

__all__ = [
    "design_choices",
    "fig1_microkernel",
    "fig2_shared_memory",
    "fig3_message_copy",
    "fig4_implementation",
    "headlines",
    "injection",
    "latency",
    "machine_timer",
    "microkernel",
    "peers",
    "peers_by_size",
    "ping_pong",
    "realtime",
]
