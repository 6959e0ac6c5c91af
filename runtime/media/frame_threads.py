"""Decode the frames of a video side by side, up to the first damage.

libav's frame threads lose good frames around a damaged one, so such a file is read without them.
"""

from collections import deque
from typing import Any

from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

# Decoders that give the same frames with frame threads, or say that something is damaged. HEVC's, VP8's and FFV1's say
# nothing, or not always.
DECODERS = ("h264", "prores", "vp9")
THREADS = 4  # more take memory for more frames; on two cores three are a little slower
HELD = 20  # frames: a decoder holds back at most 16 for others that are shown before them


class DamagedError(Exception):
    """Something is damaged or unusual, so that frames which are decoded one after the other may be others."""


class FrameThreads:
    """Frame threads for one pass over a stream, if they are wanted and its decoder is fit for them.

    Without them nothing is ever raised or held back.
    """

    def __init__(self, stream: VideoStream, wanted: bool) -> None:
        self.used = wanted and stream.codec_context.name in DECODERS
        stream.thread_type = "FRAME" if self.used else "SLICE"
        stream.codec_context.thread_count = THREADS if self.used else 0
        if self.used:  # H.264's would swallow some errors, and count a frame less or more
            stream.codec_context.options = {"err_detect": "explode"}
        self._count = 0
        self._sent: dict[int | None, int] = {}  # time stamps of packets whose frames have not come -> their number
        self._held: deque[tuple[int, VideoFrame]] = deque()

    def damaged(self) -> None:
        """Note damage. Raises DamagedError."""
        if self.used:
            raise DamagedError

    def settled(self, packet: "Packet[Any] | None", frames: list[VideoFrame]) -> list[VideoFrame]:
        """The frames that no damage of an earlier packet can have reached. `packet` gave `frames`; None is the end.

        A frame waits for those that were decoded before it and are shown later. Raises DamagedError if a frame has no
        packet, or a packet no frame: libav loses errors at the end.
        """
        if not self.used:
            return frames
        if packet is not None and not packet.is_discard:
            self._count += 1
            self._sent[packet.pts] = self._count
        for frame in frames:
            if frame.is_corrupt or frame.pts is None or frame.pts not in self._sent:
                raise DamagedError
            self._held.append((self._sent.pop(frame.pts), frame))
        if len(self._held) > HELD or (packet is None and self._sent):
            raise DamagedError
        oldest, ready = min(self._sent.values(), default=self._count + 1), list[VideoFrame]()
        while self._held and self._held[0][0] < oldest:
            ready.append(self._held.popleft()[1])
        return ready
