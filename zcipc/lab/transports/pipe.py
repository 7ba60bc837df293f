"""The baseline of the paper: two pipes, one each way, of the kernel's default capacity."""

import os

from zcipc.lab.transports.descriptors import DescriptorTransport


class Pipe(DescriptorTransport):
    """pipe(2) in both directions."""

    def __init__(self, length: int) -> None:
        super().__init__(length)
        (source_0, sink_1), (source_1, sink_0) = os.pipe(), os.pipe()
        self.descriptors = ((source_0, sink_0), (source_1, sink_1))
