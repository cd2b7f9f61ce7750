"""Webdataset shards: videos inside a tar archive are indexed, searched and read where they are."""

import errno
import io
import json
import os
import tarfile
from pathlib import Path

import clips
import library
import numpy as np
import pytest

from storycli.errors import StoryError
from storycli.library.sources import Failure, find, in_shard
from storycli.media import shards, video
from storycli.retrieve import Library


@pytest.fixture
def dog(tmp_path):
    return library.clip(tmp_path / "dog.mp4", seed=1)


def packed(path, **members: bytes | str):
    """A tar archive; a dot in a member's name is written as two underscores."""
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            data = data.encode() if isinstance(data, str) else data
            entry = tarfile.TarInfo(name.replace("__", "."))
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return path


def test_members_come_with_what_is_said_of_them(tmp_path, dog):
    said = json.dumps({"caption": "a dog  runs", "license": "CC0", "url": "somewhere"})
    movie = dog.read_bytes()
    tar = packed(
        tmp_path / "0.tar", a__mp4=movie, a__json=said, b__txt="a cat\n", b__mp4=movie, c__mp4=movie, d__jpg=""
    )
    told = {source.path.relative_to(tar).as_posix(): source.told for source in find([tar])}
    assert list(told) == ["a.mp4", "b.mp4", "c.mp4"]
    assert (told["a.mp4"].caption, told["a.mp4"].licence, told["a.mp4"].source) == ("a dog runs", "CC0", "somewhere")
    assert (told["b.mp4"].caption, told["c.mp4"].caption) == ("a cat", "")


def test_a_member_is_read_as_the_file_that_it_was(tmp_path, dog):
    tar = packed(tmp_path / "0.tar", x__txt="x" * 700, dog__mp4=dog.read_bytes())
    assert video.probe(tar / "dog.mp4") == video.probe(dog)
    whole, inside = (video.read(path, indices=[7, 2, 3], size=(32, 24)) for path in (dog, tar / "dog.mp4"))
    assert np.abs(whole.astype(int) - inside).mean() < 2


def test_shards_are_indexed_like_files_and_found_again(tmp_path, encoder, dog):
    cat = library.clip(tmp_path / "cat.mp4", seed=2).read_bytes()
    (tmp_path / "shards").mkdir()
    tar = packed(tmp_path / "shards" / "0.tar", a__mp4=dog.read_bytes(), a__txt="a dog", b__mp4=cat, b__txt="a cat")
    shelf = Library(tmp_path / "index", encoder)
    assert shelf.add([tmp_path / "shards"]).added == 2
    assert shelf.add([tar]).unchanged == 2
    best = shelf.search("a cat", 1)[0].clip
    assert (best.path, best.caption) == (tar / "b.mp4", "a cat")
    assert len(video.read(best.path, start=best.start, end=best.end)) == 12
    assert shelf.add([dog]).duplicates == 1
    assert shelf.status().missing == shelf.prune() == ()
    packed(tar, a__mp4=dog.read_bytes())
    assert shelf.prune() == (tar / "b.mp4",)


def test_a_damaged_shard_is_listed_and_its_whole_members_are_in(tmp_path, encoder, dog):
    tar = packed(tmp_path / "0.tar", a__mp4=dog.read_bytes(), b__mp4=b"no video", c__mp4=dog.read_bytes() + b"0")
    last = list(shards.members(tar))[-1]
    tar.write_bytes(tar.read_bytes()[: last.offset_data + last.size // 2])
    (tmp_path / "1.tar").write_text("no archive at all " * 100)
    (tmp_path / "2.tar").touch()
    report = Library(tmp_path / "index", encoder).add([tmp_path / "0.tar", tmp_path / "1.tar", tmp_path / "2.tar"])
    assert report.added == 1
    reasons = {failure.path.name: failure.reason for failure in report.failures}
    assert reasons.keys() == {"b.mp4", "c.mp4", "0.tar", "1.tar", "2.tar"}
    assert "the shard is cut off" in reasons["c.mp4"]
    assert all("damaged, cut off or not a plain tar" in reasons[name] for name in ("0.tar", "1.tar", "2.tar"))


def test_a_member_cannot_lead_out_of_its_shard(tmp_path, dog):
    secret = library.clip(tmp_path / "secret.mp4", seed=3)
    tar = packed(tmp_path / "0.tar", **{str(secret): dog.read_bytes(), "../secret.mp4": dog.read_bytes()})
    outward, inside = sorted(find([tar]), key=lambda found: not isinstance(found, Failure))
    assert "leads out of it" in outward.reason
    assert inside.path == tar / str(secret).lstrip("/")
    with shards.opened(inside.path) as file:
        assert file.read() == dog.read_bytes()


def test_paths_into_nothing_are_told(tmp_path, dog):
    tar = packed(tmp_path / "0.tar", a__mp4=dog.read_bytes())
    for path in (tar / "b.mp4", dog / "a.mp4"):
        assert not shards.exists(path)
        with pytest.raises(StoryError, match="does not exist"):
            video.probe(path)


def test_what_cannot_be_looked_at_is_not_taken_for_gone(tmp_path, monkeypatch):
    def locked(path, **_):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "stat", locked)
    assert shards.exists(tmp_path / "a.mp4")
    with pytest.raises(StoryError, match="cannot be read: Permission denied"):
        next(find([tmp_path / "a.mp4"]))


def test_a_window_is_a_file_of_its_own(tmp_path):
    (tmp_path / "f").write_bytes(bytes(range(100)))
    window = shards.Window(tmp_path / "f", 10, 20)
    assert window.read() == bytes(range(10, 30))
    assert window.seek(-5, os.SEEK_END) == 15
    assert window.read(50) == bytes(range(25, 30))
    assert window.seek(3) == 3 and window.tell() == 3
    assert window.read(2) == bytes([13, 14])
    window.close()


def test_a_member_with_hidden_sound_is_told_apart(tmp_path):
    clips.run(["-f", "lavfi", "-i", "sine=d=1", str(tmp_path / "s.mp4")], doing="make a test clip")
    tar = packed(tmp_path / "0.tar", s__mp4=(tmp_path / "s.mp4").read_bytes())
    with pytest.raises(StoryError, match="no moving picture"):
        video.probe(tar / "s.mp4")


@pytest.mark.parametrize(("said", "caption"), [(b'{"caption": "a dog \\ud83d"}', "a dog"), (b"[" * 60_000, "")])
def test_odd_json_of_a_member_is_no_obstacle(said, caption):
    told = in_shard({".json": said})
    assert told.caption == caption
