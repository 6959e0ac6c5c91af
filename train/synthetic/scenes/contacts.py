"""Turns the contacts of a simulation into audible events: blows, rolling and scraping."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from train.synthetic.events import Event
from train.synthetic.scenes.motion import Vector, strength_of
from train.synthetic.scenes.world import SOFTEST, STEP, Body

AudibleEvent = tuple[Event, Vector]  # an event and its position [3] in metres
APART = 40  # steps without contact that separate two blows
BLOW = 10  # steps over which a blow's impulse is summed
REBOUND = 0.65  # share of a blow's impulse that stops the body; the rest throws it back
STEADY = 0.16  # shortest rolling or scraping, in seconds
SLOW = 0.1  # m/s; slower rolling and scraping is inaudible


@dataclass
class ContactLog:
    """All contacts of a simulation, one per row, and the motion of the free bodies.

    step [N]; pair [N, 2]: the numbers of both bodies, -1 for the ground; force [N]: normal force in newtons;
    place [N, 3] in metres. Per free body: its mass in kg, and its velocities [steps, 6] in m/s and rad/s.
    """

    step: NDArray[np.int64]
    pair: NDArray[np.int64]
    force: NDArray[np.float64]
    place: NDArray[np.float64]
    mass: dict[int, float]
    speed: dict[int, NDArray[np.float64]]


def find_blows(force: NDArray[np.float64], mass: float) -> list[tuple[int, float]]:
    """The blows between two bodies, from the force [steps] between them: (step at which it begins, speed in m/s)."""
    total = np.concatenate([[0.0], np.cumsum(force)]) * STEP / mass
    steps = len(force)
    ahead = total[np.minimum(np.arange(steps) + BLOW, steps)] - total[:-1]
    behind = total[:-1] - total[np.maximum(np.arange(steps) - 2 * BLOW, 0)]
    fresh = np.cumsum(force > 0)
    found: list[tuple[int, float]] = []
    last = -APART
    candidates = np.flatnonzero((force > 0) & (ahead - behind / 2 > 0.06))
    for k in candidates:
        if k - last < APART:
            continue
        touched = fresh[k - 1] - fresh[max(0, k - APART)] if k else 0
        speed = ahead[k] - behind[k] / 2
        # A body that already rests, rocks or rolls is struck only if the force rises far above what it was.
        if touched and not (speed > 0.35 and force[k] * STEP / mass > 3 * behind[k] / (2 * BLOW) + 0.02):
            continue
        found.append((int(k), float(speed)))
        last = int(k)
    return found


def drop_masked(events: list[AudibleEvent]) -> list[AudibleEvent]:
    """Drop contacts that a listener would not notice.

    A contact within 60 ms of the same object's last one is dropped unless it is twice as strong. A contact within
    80 ms of one that is three times as strong is dropped too.
    """
    kept: list[AudibleEvent] = []
    last: dict[int, Event] = {}
    loud, loudest = -1.0, 0.0
    for item in sorted(events, key=lambda item: item[0].time):
        event = item[0]
        before = last.get(event.voice)
        if not event.end:
            if event.time - loud < 0.08 and event.strength < loudest / 3:
                continue
            if event.time - loud >= 0.08 or event.strength > loudest:
                loud, loudest = event.time, event.strength
        if before and not event.end and event.time - before.time < 0.06 and event.strength < 2 * before.strength:
            continue
        last[event.voice] = event
        kept.append(item)
    return kept


def find_sliding(
    contact: NDArray[np.bool_], speeds: NDArray[np.float64]
) -> list[tuple[float, float, tuple[float, ...], float]]:
    """The spans in which a body rolls or slides on another one: (start, end, levels at even steps, peak level)."""
    filled = np.convolve(contact.astype(float), np.ones(31), "same") > 10
    moving = filled & (speeds > SLOW)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], moving.astype(np.int8), [0]])))
    found = []
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        if (end - start) * STEP >= STEADY:
            inside = speeds[start:end:20]
            level = np.minimum(1.0, (np.maximum(0, inside - SLOW * 0.7) / 3) ** 0.7)
            peak = float(level.max())
            found.append(
                (float(start * STEP), float(end * STEP), tuple(np.round(level / max(peak, 1e-6), 3).tolist()), peak)
            )
    return found


def pair_events(log: ContactLog, rows: NDArray[np.int64], bodies: list[Body], ground: str) -> list[AudibleEvent]:
    """The events of two bodies that touch. The lighter one of those that are free gives the sound."""
    a, b = log.pair[rows[0]]
    free = sorted((k for k in (a, b) if k in log.mass), key=lambda k: log.mass[k])
    if not free:
        return []
    mover = free[0]
    partner = b if mover == a else a
    body, other = bodies[mover], ground if partner < 0 else bodies[partner].material
    mass = log.mass[mover] if len(free) == 1 else 1 / sum(1 / log.mass[k] for k in free)
    steps = len(log.speed[mover])
    force = np.bincount(log.step[rows], log.force[rows], steps)
    first = {int(s): int(r) for s, r in zip(log.step[rows][::-1], rows[::-1], strict=True)}
    found: list[AudibleEvent] = []
    for step, speed in find_blows(force, mass):
        time, strength = max(0.0, (step - 0.5) * STEP), strength_of(speed * REBOUND)
        found.append(
            (Event(time, "impact", body.material, body.size, strength, body.voice, other=other), log.place[first[step]])
        )
    if len(free) == 1:
        moves = log.speed[mover]
        speeds, spins = np.linalg.norm(moves[:, :3], axis=1), np.linalg.norm(moves[:, 3:], axis=1)
        for start, end, levels, peak in find_sliding(force > 0, speeds):
            part = slice(int(start / STEP), int(end / STEP))
            turning = spins[part].mean() * body.size / 2 / speeds[part].mean()
            if turning > 0.5 and not body.round:
                continue  # The body tips over an edge.
            kind = "roll" if turning > 0.5 else "scrape"
            event = Event(start, kind, body.material, body.size, peak, body.voice, end, other, levels)
            middle = rows[np.searchsorted(log.step[rows], (part.start + part.stop) // 2).clip(0, len(rows) - 1)]
            found.append((event, log.place[middle]))
    return [item for item in found if item[0].strength >= SOFTEST]


def audible_events(log: ContactLog, bodies: list[Body], ground: str) -> list[AudibleEvent]:
    """All audible events of a simulation, in the order of time."""
    if not len(log.step):
        return []
    keys = (log.pair[:, 0] + 1) * 100_000 + log.pair[:, 1] + 1
    found: list[AudibleEvent] = []
    for key in np.unique(keys):
        found += pair_events(log, np.flatnonzero(keys == key), bodies, ground)
    return drop_masked(found)
