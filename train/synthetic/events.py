"""What happens in a made-up clip: the contacts that are heard. Drawn clips (train.synthetic.drawn) and simulated scenes
(train.synthetic.scenes) share it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Event:
    """One contact, or from `time` to `end` one sustained sound."""

    time: float  # seconds
    kind: str
    material: str  # also the name of the group of recordings it sounds like
    size: float  # of a drawn shape in frame heights, of a simulated body in metres
    strength: float  # 0 to 1
    voice: int  # events of one object share it: the same recordings, the same pitch
    end: float = 0.0  # 0 for a contact
    other: str = ""  # material of what was hit, where the scene knows it
    envelope: tuple[float, ...] = ()  # of a sustained sound: level 0 to 1 at even steps from `time` to `end`
