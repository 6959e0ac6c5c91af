"""Tables of data sets, lists and splits: every known naming finds its file, and errors are reported."""

import json
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the extra train")
pytestmark = pytest.mark.torch

from train.prepare.clip_lists import choose, parse_name, read_list
from train.prepare.sources import Clip, Files, SourceError, audioset, folder, music21, stratified, vggsound

A, B, C, D = "-_a_b_c_d_e", "3qesirWAGt4", "ZYc410CE4Rg", "1234567_000"  # ids with every trap in them


def files(root: Path, *names: str) -> Files:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return Files(root)


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_vggsound_in_all_namings(tmp_path: Path) -> None:
    table = write(
        tmp_path / "vggsound.csv",
        f'{A},30,"playing violin, fiddle",train\n{B},20,dog barking,test\n{C},0,hail,train\n{D},1,hail,train\n',
    )
    names = (f"train/{A}_000030.mp4", f"{B}_20000_30000.mp4", f"{C}.mkv", f"{D}_000002.mp4")
    clips, left = vggsound(files(tmp_path / "videos", *names), table)
    assert [(c.id, c.file, c.begin, c.seconds, c.start) for c in clips] == [
        (f"{A}_000030", f"train/{A}_000030.mp4", 0, 10, 30),
        (f"{B}_000020", f"{B}_20000_30000.mp4", 0, 10, 20),
        (f"{C}_000000", f"{C}.mkv", 0, 10, 0),
    ]
    assert [(c.label, c.split) for c in clips[:2]] == [("playing violin, fiddle", "train"), ("dog barking", "test")]
    assert [(entry.clip, entry.reason) for entry in left] == [(f"{D}_000001", "missing")]
    whole, _ = vggsound(files(tmp_path / "whole", f"{A}.mp4"), table)
    assert [(c.begin, c.seconds) for c in whole] == [(30, 10)]


def test_duplicates_are_taken_once_and_reported(tmp_path: Path) -> None:
    table = write(tmp_path / "vggsound.csv", f"{A},30,x,train\n{A},30,x,train\n")
    found = files(tmp_path / "videos", f"a/{A}_000030.mp4", f"b/{A}_000030.mp4", f"{A}_30000_40000.mp4")
    clips, left = vggsound(found, table)
    assert [c.file for c in clips] == [f"a/{A}_000030.mp4"]
    assert [entry.reason for entry in left] == ["duplicate", "duplicate"]
    assert "table lists it twice" in left[1].detail and f"{A}_30000_40000.mp4" in left[0].detail
    clips, left = folder(files(tmp_path / "folder", "a.mkv", "a.mp4", "sub/a.mp4", "sub/.hidden.mp4", "notes.txt"))
    assert [c.id for c in clips] == ["a", "sub/a"] and [(e.clip, e.reason) for e in left] == [("a.mp4", "duplicate")]


def test_audioset(tmp_path: Path) -> None:
    text = f'# Segments csv created\n# num_ytids=2\n{A}, 30.000, 40.000, "/m/03fwl,/m/04"\n{B}, 0.500, 10.500, "/m/0"\n'
    table = write(tmp_path / "eval_segments.csv", text)
    clips, left = audioset(files(tmp_path / "v", f"{A}_30.000_40.000.mp4", f"{B}_500_10500.mp4"), table)
    assert [(c.id, c.label, c.seconds) for c in clips] == [
        (f"{A}_30000_40000", "/m/03fwl,/m/04", 10), (f"{B}_500_10500", "/m/0", 10)
    ]  # fmt: skip
    assert not left and audioset(files(tmp_path / "w", f"{B}.mp4"), table)[0][0].begin == 0.5


def test_music21(tmp_path: Path) -> None:
    table = write(tmp_path / "MUSIC21.json", json.dumps({"version": 1.0, "videos": {"tuba": [A, B], "erhu": [C]}}))
    clips, left = music21(files(tmp_path / "v", f"tuba/{A}.mp4", f"{C}.webm"), table)
    assert [(c.id, c.label, c.seconds, c.begin) for c in clips] == [(A, "tuba", None, 0), (C, "erhu", None, 0)]
    assert [(e.clip, e.reason) for e in left] == [(B, "missing")]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"{A},30,x\n", "line 1: 3 columns; 4 are needed"),
        (f"{A},thirty,x,train\n", "'thirty' is not a number"),
        (f"{A},30,x,valid\n", "split 'valid' is neither train nor test"),
    ],
)
def test_bad_tables_say_where(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=words):
        vggsound(files(tmp_path / "v", "a.mp4"), write(tmp_path / "t.csv", text))


def test_what_is_not_a_table_or_folder(tmp_path: Path) -> None:
    some = files(tmp_path / "v", "a.mp4")
    with pytest.raises(SourceError, match="cannot be read"):
        vggsound(some, tmp_path / "none.csv")
    with pytest.raises(SourceError, match=r"ends at 3\.0 s, before it starts"):
        audioset(some, write(tmp_path / "t.csv", f"{A}, 5.0, 3.0, /m/0\n"))
    for text in ("[1, 2]", "{", '{"videos": {"tuba": 3}}'):
        with pytest.raises(SourceError, match="videos"):
            music21(some, write(tmp_path / "t.json", text))
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="holds no videos"):
        Files(tmp_path / "empty")
    with pytest.raises(SourceError, match="is not a folder"):
        Files(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (f"{A}_000030.mp4", (A, 30.0)), (f"x/y/{A}_30000_40000", (A, 30.0)), (A, (A, None)), (f"{D}.mp4", (D, None)),
        (f"{D}_000001", (D, 1.0)), (f"{B}_1.500_11.500", (B, 1.5)), ("my clip.v2.mp4", ("my clip.v2", None)),
    ],
)  # fmt: skip
def test_names_in_every_naming(name: str, expected: tuple[str, float | None]) -> None:
    assert parse_name(name) == expected


def vgg(video: str, start: int, label: str) -> Clip:
    return Clip(f"{video}_{start:06d}", None, video=video, start=float(start), label=label)


LISTS = {  # text -> which of the three clips it names
    "class\tis_sparse\ndog barking\ty\nhail\tn\n": [1],  # picked_sparse_classes.csv
    f"{A}_30000_40000\n{C}_0_10000\n": [0, 2],  # vggsound_test.txt, filtered_examples
    f"{A},30,hail,test\n{C},5,hail,test\n": [0],  # rows of vggsound.csv
    "dataset_name,video_id,start_sec,vid_is_missing,is_sync,is_sync_by_cls_obj\n"
    f"vggsound,{A},30,0,1,1\nvggsound,{B},20,0,0,1\n": [0],  # vggsound_sparse_clean.csv
    f"dataset_name,video_id,vstart_sec,offset_sec,is_sync\nvggsound,{B}_20000_30000,1.5,0.2,1\n": [1],
    f"path,offset_sec,vstart_sec\n{B}_20000_30000.mp4,0.2,1.5\n": [1],  # fixed offsets
    f"# whole videos\n{C}\n": [2],
}


@pytest.mark.parametrize("text", LISTS)
def test_lists_choose_and_leave_out(text: str, tmp_path: Path) -> None:
    clips = [vgg(A, 30, "hail"), vgg(B, 20, "dog barking"), vgg(C, 0, "hail")]
    path = write(tmp_path / "list.csv", text)
    expected = LISTS[text]
    kept, left = choose(clips, [path], [])
    assert kept == [clips[i] for i in expected] and {e.detail for e in left} <= {"not in list.csv"}
    kept, left = choose(clips, [], [path])
    assert kept == [c for i, c in enumerate(clips) if i not in expected] and len(left) == len(expected)
    with pytest.raises(SourceError, match="leave none of the 3 clips"):
        choose(clips, [path], [path])


def test_bad_lists(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="is empty"):
        read_list(write(tmp_path / "a", "\n"))
    with pytest.raises(SourceError, match="no class with y"):
        read_list(write(tmp_path / "b", "dog\tn\n"))
    with pytest.raises(SourceError, match="cannot be read"):
        read_list(tmp_path / "none")


def test_held_out_names_are_stratified_and_do_not_depend_on_others() -> None:
    names = {label: [f"{label}{n}" for n in range(count)] for label, count in (("a", 60), ("b", 29), ("c", 11))}
    chosen = stratified(names, 10, seed=0)
    assert sorted(sum(n.startswith(label) for n in chosen) for label in names) == [1, 3, 6]
    assert chosen == stratified(dict(reversed(names.items())), 10, seed=0) != stratified(names, 10, seed=1)
    fewer = {**names, "a": names["a"][:59]}
    assert {n for n in chosen if n[0] != "a"} == {n for n in stratified(fewer, 10, seed=0) if n[0] != "a"}
    with pytest.raises(SourceError, match="101 of 100"):
        stratified(names, 101, seed=0)
