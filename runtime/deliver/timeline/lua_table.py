"""A Lua table of sounds and their frames, for programs whose scripts can load nothing else.

Such a program is the free DaVinci Resolve; `plugins/resolve` has the script that reads it.
"""

import re

from runtime.deliver.timeline.model import Timeline

VERSION = 1  # grows when a script that reads version 1 would have to change


def lua_text(timeline: Timeline) -> str:
    """The timeline as a .lua file: a chunk of Lua 5.1 that returns a table. Frames count from the first picture."""
    rate = timeline.rate
    lines = [
        f"-- Sounds for {timeline.video.name} by MaskVAT. A script of an editing program loads this file.",
        f'return {{ format = "maskvat-timeline", version = {VERSION},',
        f"  video = {_quote(str(timeline.video))}, frames = {timeline.frames},",
        f"  rate = {{ {rate.numerator}, {rate.denominator} }},",
        "  sounds = {",
    ]
    for sound in timeline.sounds:
        place = f"first = {sound.first}, frames = {sound.frames}"
        lines.append(f"    {{ path = {_quote(str(sound.path))}, name = {_quote(sound.name)}, {place} }},")
    return "\n".join([*lines, "  },", "}"]) + "\n"


def _quote(text: str) -> str:
    return '"' + re.sub(r'["\\]', r"\\\g<0>", text) + '"'
