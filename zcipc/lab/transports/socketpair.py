"""The other reading of the paper's baseline ("socket pipe"): a Unix stream socket pair of the kernel's default capacity."""

import socket

from zcipc.lab.transports.descriptors import DescriptorTransport


class SocketPair(DescriptorTransport):
    """socketpair(2), AF_UNIX, SOCK_STREAM."""

    def __init__(self, length: int) -> None:
        super().__init__(length)
        left, right = (end.detach() for end in socket.socketpair())
        self.descriptors = ((left, left), (right, right))
