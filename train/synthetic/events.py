"""`Event`: one sound-making contact of a clip. Drawn clips and simulated scenes both use it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Event:
    """One contact at `time`, or one sustained sound from `time` to `end`."""

    time: float  # seconds
    kind: str
    material: str  # also the group of recordings that it sounds like
    size: float  # frame heights for a drawn shape, metres for a simulated body
    strength: float  # 0 to 1
    voice: int  # number of the object: its events share the recordings and the pitch
    end: float = 0.0  # seconds; 0 for a contact
    other: str = ""  # material of the object that was hit, if the scene knows it
    envelope: tuple[float, ...] = ()  # level 0 to 1 of a sustained sound, at even steps from `time` to `end`
