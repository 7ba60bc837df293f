"""The microkernel of the paper's Figure 1, alive: application, file server and device driver, three processes and their calls.

The servers are the same over every transport (`transports.py`); `system.py` starts and restarts them, `experiment.py` measures.
"""

from zcipc.lab.microkernel.experiment import microkernel

__all__ = ["microkernel"]
