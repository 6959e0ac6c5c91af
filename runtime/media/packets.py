"""Read the packets of a file, also if it has streams that its beginning does not show."""

from collections.abc import Iterator
from typing import Any

from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream


def read_packets(container: InputContainer, streams: Stream | list[Stream]) -> Iterator["Packet[Any]"]:
    """Packets of the streams, in the file's order. Raises av.FFmpegError if the file breaks off.

    A stream may begin in the middle of a file (FLV, MPEG). PyAV knows the streams of the beginning only, and raises
    IndexError at a packet of another one. That packet is skipped: reading continues with the next.
    """
    while True:
        packets = container.demux(streams)
        while True:
            try:
                packet = next(packets, None)
            except IndexError:
                break
            if packet is None:
                return
            yield packet
