"""Divides recordings among train, val and test, and maps their labels to groups of materials.

`split_files` is for folders whose labels belong to material groups, `split_sessions` for folders whose labels are
sound classes.
"""

import hashlib
import re
from collections import Counter

TEST_SHARE, VAL_SHARE = 0.14, 0.11
LARGE_SESSION = 100  # recordings; a larger session would dominate a small split
SPLITS = ("train", "val", "test")
SPEECH = ("speech", "hurt", "zombie", "monster", "scream", "crowd", "radio", "news", "roar", "fatigue", "humming")
# Group -> parts of labels. A label belongs to the first group that names a part of it; labels in no group are unused.
GROUPS = {
    "clap": ("handclap", "fingerclap"),
    "kick": ("kdrum",),
    "hihat": ("hihat",),
    "tom": ("tom1", "tom2", "tom3", "tom4"),
    "snare": ("snare",),
    "cymbal": ("crashl", "crashr", "china", "ride"),
    "cajon": ("cajon",),
    "boards": ("footstep_wood", "body_heel"),
    "floor": ("footstep_concrete", "walk_t_floor", "body_stomp"),
    "grass": ("footstep_grass", "walk_grass", "walk_t_grass"),
    "snow": ("footstep_snow",),
    "grating": ("walk_metal",),
    "carpet": ("footstep_carpet", "walk_t_carpet"),
    "chop": ("chop", "knife_slice", "small_cutting"),
    "card": ("card_place", "card_shove", "card_slide", "book_"),
    "chip": ("chip_lay", "chips_stack", "chips_collide"),
    "bell": ("impact_bell",),
    "glass": ("impact_glass", "fail_glass"),
    "ceramic": ("ceramic", "impact_plate"),
    "wood": ("impact_wood", "impact_plank", "fail_door_wood", "fail_wood"),
    "stone": ("mining", "brick", "fail_concrete"),
    "metal": ("impact_metal", "impact_tin", "fail_metal", "metal_pot", "gun_safe"),
    "plastic": ("plastic", "impact_generic"),
    "soft": ("impact_soft", "impact_punch", "body_belly", "chestthump", "drop_leather", "flesh_default"),
    "ambience": ("environment", "rain"),
}


def group_of(label: str, groups: dict[str, tuple[str, ...]] = GROUPS) -> str | None:
    """The group of a label, or None for speech and for labels in no group."""
    if any(part in label for part in SPEECH):
        return None
    return next((group for group, parts in groups.items() if any(part in label for part in parts)), None)


def check_split(split: str) -> None:
    """Raises ValueError for a name that is not a split."""
    if split not in SPLITS:
        raise ValueError(f"unknown split {split}; the splits are {', '.join(SPLITS)}")


def split_files(rows: list[dict[str, str]], split: str, groups: dict[str, tuple[str, ...]] = GROUPS) -> set[str]:
    """The file names of a split ("train", "val" or "test").

    Each group's files are ordered by the hash of their names and divided: test first, then val, then train. A group
    of three or more files is in all splits, one of two in train and test, and a single file is in train. Raises
    ValueError for an unknown split.
    """
    check_split(split)
    files: dict[str | None, list[str]] = {}
    for row in rows:
        files.setdefault(group_of(row["label"], groups), []).append(row["file"])
    parts: dict[str, set[str]] = {name: set() for name in SPLITS}
    for names in files.values():
        names.sort(key=lambda name: hashlib.sha256(name.encode()).digest())
        test = max(1, round(TEST_SHARE * len(names))) if len(names) > 1 else 0
        val = max(1, round(VAL_SHARE * len(names))) if len(names) > 2 else 0
        parts["test"].update(names[:test])
        parts["val"].update(names[test : test + val])
        parts["train"].update(names[test + val :])
    return parts[split]


def split_sessions(rows: list[dict[str, str]], split: str) -> set[str]:
    """The file names of a split, for rows of a sounds.csv whose labels are sound classes.

    Files of one session stay together: those with the same author and source, and those whose names differ only in a
    last _N, which are pieces of one recording. A session of more than LARGE_SESSION files goes to train, and so does
    the last remaining session of a class. Raises ValueError for an unknown split.
    """
    check_split(split)
    parents: dict[object, object] = {}

    def root(key: object) -> object:
        while parents.setdefault(key, key) != key:
            key = parents[key]
        return key

    for row in rows:
        stem = re.sub(r"_\d+$", "", row["file"].rpartition(".")[0])
        parents[root(stem)] = root((row["author"], row["source"]))
    sessions: dict[object, list[dict[str, str]]] = {}
    for row in rows:
        sessions.setdefault(root((row["author"], row["source"])), []).append(row)
    left = Counter(label for session in sessions.values() for label in {row["label"] for row in session})
    parts: dict[str, set[str]] = {name: set() for name in SPLITS}
    keys = {
        hashlib.sha256(min(row["file"] for row in session).encode()).digest(): session for session in sessions.values()
    }
    for key, session in sorted(keys.items()):
        place = int.from_bytes(key[:4], "big") / 2**32
        labels = {row["label"] for row in session}
        part = "test" if place < TEST_SHARE else "val" if place < TEST_SHARE + VAL_SHARE else "train"
        if len(session) > LARGE_SESSION or any(left[label] == 1 for label in labels):
            part = "train"
        if part != "train":
            left.subtract(labels)
        parts[part].update(row["file"] for row in session)
    return parts[split]
