"""Begin to read a file in the middle, where the decoder then gives the same frames as from the beginning."""

from contextlib import suppress
from fractions import Fraction

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from runtime.audio import PathLike, open_media
from runtime.media.clock import MAY_JUMP, NO_TIMESTAMPS
from runtime.media.packets import read_packets

MARGIN = 1  # seconds: frames shown shortly before a key frame may need frames before it
FULL_REFRESH = {"h264": 5}  # codecs whose key frames may be less than a new beginning -> NAL unit type of one that is
FORMATS = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "mxf"}  # that have an index
CODECS = {"h264", "hevc", "vp8", "vp9", "av1", "mpeg4", "mpeg2video", "prores", "dnxhd", "mjpeg", "ffv1", "rawvideo"}


def seek_before(path: PathLike, container: InputContainer, stream: VideoStream, time: Fraction) -> bool:
    """Continue reading at a key frame at least a second before `time` (seconds on the file's clock).

    Returns False, and does nothing, if the format or the codec cannot do this safely. `path` is the open file's: it is
    opened once more to try.
    """
    unit = stream.time_base
    unsafe = container.format.flags & (NO_TIMESTAMPS | MAY_JUMP)
    known = container.format.name in FORMATS and stream.codec_context.name in CODECS
    if not unit or unsafe or not known:
        return False
    target = int((time - MARGIN) / unit)
    if target <= (stream.start_time or 0):
        return False
    with suppress(av.FFmpegError), open_media(path) as trial:
        if _begins_anew(trial, trial.streams.video[container.streams.video.index(stream)], target):
            container.seek(target, stream=stream)
            return True
    return False


def _begins_anew(container: InputContainer, stream: VideoStream, target: int) -> bool:
    """Whether the packet to which a seek leads needs nothing before it, and is shown not after `target` (ticks)."""
    container.seek(target, stream=stream)
    packet = next((p for p in read_packets(container, stream) if p.size), None)
    if packet is None or packet.pts is None or not packet.is_keyframe or packet.pts > target:
        return False
    wanted = FULL_REFRESH.get(stream.codec_context.name)
    return wanted is None or wanted in _nal_types(bytes(packet), bytes(stream.codec_context.extradata or b""))


def _nal_types(data: bytes, extradata: bytes) -> set[int]:
    """Types of the H.264 NAL units in a packet, whose lengths precede them as its header (avcC) says."""
    if len(extradata) < 7 or extradata[0] != 1:
        return set()  # another form: not read here
    size, at, types = (extradata[4] & 3) + 1, 0, set()
    while at + size < len(data):
        length = int.from_bytes(data[at : at + size], "big")
        types.add(data[at + size] & 31)
        at += size + length
    return types
