"""Fetching weights from a server of our own: it goes on where it stopped; only the right file appears."""

import hashlib
import os
import signal
import stat
import sys
from collections import namedtuple
from pathlib import Path

import pytest
from file_server import serving

from storycli import download
from storycli.download import fetch
from storycli.errors import StoryError

CONTENT = bytes(range(256)) * 5000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server():
    with serving({"/model.ckpt": CONTENT}) as server:
        yield server


@pytest.fixture
def url(server):
    return f"{server.url}/model.ckpt"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "weights" / "model.ckpt"


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    monkeypatch.setattr(download, "PAUSES", (0, 0))


def only(path: Path) -> bool:
    """Whether a file is whole and right, and nothing else is beside it."""
    return path.read_bytes() == CONTENT and list(path.parent.iterdir()) == [path]


def stop_at(server, size: int, url: str, path: Path, monkeypatch) -> None:
    """Fetch the first ``size`` bytes, and then lose patience."""
    server.breaks[:] = [size]
    with monkeypatch.context() as impatient:
        impatient.setattr(download, "PAUSES", ())
        with pytest.raises(StoryError, match=f"the connection broke after {size} of {len(CONTENT)}") as broken:
            fetch(url, path)
    assert "goes on where this stopped" in broken.value.hint
    assert not path.exists() and path.with_name("model.ckpt.part").stat().st_size == size


def test_a_file_is_fetched_whole(url, path):
    seen = []
    assert fetch(url, path, sha256=SHA256, report=lambda *now: seen.append(now)) == SHA256
    assert only(path)
    assert seen[-1] == (len(CONTENT), len(CONTENT))


def test_a_fetch_that_was_stopped_goes_on_where_it_was(server, url, path, monkeypatch):
    stop_at(server, 1000, url, path, monkeypatch)
    assert fetch(url, path) == SHA256
    assert only(path)
    assert [range for _, range in server.asked] == [None, "bytes=1000-"]


def test_a_connection_that_breaks_is_taken_up_again_as_long_as_it_brings_something(server, url, path):
    server.breaks[:] = [1000, 500, 0, 70_000]
    fetch(url, path)
    assert only(path)
    assert [range for _, range in server.asked] == [None, *(f"bytes={n}-" for n in (1000, 1500, 1500, 71_500))]


def test_a_connection_that_brings_nothing_more_is_given_up(server, url, path):
    server.breaks[:] = [1000, 0, 0, 0]
    with pytest.raises(StoryError, match="broke after 1000 of"):
        fetch(url, path)


def test_a_file_that_changed_at_its_source_is_fetched_anew_and_not_mixed(server, url, path, monkeypatch):
    stop_at(server, 1000, url, path, monkeypatch)
    server.files["/model.ckpt"] = changed = CONTENT[::-1] + b"more"
    fetch(url, path)
    assert path.read_bytes() == changed


def test_a_change_that_a_server_does_not_tell_is_seen_by_the_size(server, url, path, monkeypatch):
    server.tags = False
    stop_at(server, 1000, url, path, monkeypatch)
    server.files["/model.ckpt"] = changed = CONTENT[::-1] + b"more"
    with pytest.raises(StoryError, match="the server has another file now"):
        fetch(url, path)
    fetch(url, path)
    assert path.read_bytes() == changed


def test_a_part_of_another_source_is_not_gone_on_with(server, url, path, monkeypatch):
    stop_at(server, 1000, url, path, monkeypatch)
    server.files["/other"] = CONTENT[::-1]
    fetch(f"{server.url}/other", path)
    assert path.read_bytes() == CONTENT[::-1]


def test_a_server_without_ranges_is_asked_for_all_of_it_again(server, url, path, monkeypatch):
    stop_at(server, 1000, url, path, monkeypatch)
    server.ranges = False
    fetch(url, path)
    assert only(path)


def test_a_part_that_is_whole_is_taken(server, url, path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda file: 1 / 0)  # killed before the file got its name
    with pytest.raises(ZeroDivisionError):
        fetch(url, path)
    monkeypatch.undo()
    fetch(url, path, sha256=SHA256[:8])
    assert only(path)
    assert server.asked[-1][1] == f"bytes={len(CONTENT)}-"


def test_another_file_than_was_expected_does_not_appear(url, path):
    with pytest.raises(StoryError, match=f"not the file that was expected .sha256 {SHA256[:16]}..., not 0000"):
        fetch(url, path, sha256="0" * 64)
    assert list(path.parent.iterdir()) == []


def test_the_digest_that_the_hub_states_is_held_against_what_comes(server, url, path):
    server.states = "0" * 64
    with pytest.raises(StoryError, match="not the file that was expected"):
        fetch(url, path)
    assert list(path.parent.iterdir()) == []
    server.states = SHA256
    fetch(url, path)
    assert only(path)


def test_a_file_that_is_refused_on_a_closer_look_does_not_appear(url, path):
    def refuse(part):
        raise StoryError("no weights")

    with pytest.raises(StoryError, match="no weights"):
        fetch(url, path, inspect=refuse)
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("status", "hint"),
    [
        *((status, "from elsewhere: storycli models pull --from PLACE") for status in (401, 403, 404)),
        *((status, "goes on where this stopped") for status in (429, 500, 503)),
    ],
)
def test_a_refusal_is_told_with_what_helps(server, url, path, status, hint):
    server.refuses = status
    with pytest.raises(StoryError, match=f"the server answers {status}") as refused:
        fetch(url, path)
    assert hint in refused.value.hint


def test_a_server_that_is_not_there_is_told(path):
    with pytest.raises(StoryError, match="Connection refused") as refused:
        fetch("http://127.0.0.1:9/weights", path)
    assert "goes on where this stopped" in refused.value.hint


def test_a_redirect_out_of_https_is_not_followed():
    request = download.urllib.request.Request("https://hub.example/model.ckpt")
    with pytest.raises(download.urllib.error.URLError, match="not https"):
        download.Redirects().redirect_request(request, None, 302, "Found", {}, "http://elsewhere.example/model.ckpt")


def test_a_disk_without_room_is_told_before_anything_is_fetched(server, url, path, monkeypatch):
    usage = namedtuple("usage", "total used free")(10**6, 10**6 - 1000, 1000)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(StoryError, match=r"model\.ckpt\.part: No space left on device") as full:
        fetch(url, path)
    assert "free some space" in full.value.hint
    assert path.with_name("model.ckpt.part").stat().st_size == 0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/dev/full is Linux's")
def test_a_disk_that_fills_is_told_and_is_not_taken_for_the_network(server, url, path, monkeypatch):
    real = Path.open

    def to_a_full_disk(self, mode="r", *args, **kwargs):
        full = self.name.endswith(".part") and mode == "ab"
        return real(Path("/dev/full") if full else self, mode, *args, **kwargs)

    monkeypatch.setattr(Path, "open", to_a_full_disk)
    with pytest.raises(StoryError, match=r"model\.ckpt\.part: No space left on device"):
        fetch(url, path)
    assert len(server.asked) == 1
    monkeypatch.undo()
    fetch(url, path)
    assert only(path)


def test_a_local_file_is_taken_without_a_copy(tmp_path, path):
    source = tmp_path / "mine.ckpt"
    source.write_bytes(CONTENT)
    assert fetch(source, path, sha256=SHA256) == SHA256
    assert only(path)
    assert path.stat().st_ino == source.stat().st_ino


def test_a_local_file_on_another_disk_is_copied(tmp_path, path, monkeypatch):
    def another_disk(*_):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", another_disk)
    (tmp_path / "mine.ckpt").write_bytes(CONTENT)
    fetch(tmp_path / "mine.ckpt", path)
    assert only(path)


def interrupted(monkeypatch, source: Path, path: Path) -> None:
    """Take a local file, until Ctrl-C while its digest is taken."""
    with monkeypatch.context() as impatient:
        impatient.setattr(download.digest, "file", lambda part: signal.raise_signal(signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            fetch(source, path)
    assert not path.exists() and path.with_name("model.ckpt.part").samefile(source)


def test_a_fetch_after_an_interrupted_import_leaves_the_file_that_was_imported_as_it_is(
    tmp_path, url, path, monkeypatch
):
    mine = tmp_path / "mine.ckpt"
    mine.write_bytes(b"mine")
    interrupted(monkeypatch, mine, path)
    assert download.have(path) == 0
    fetch(url, path)
    assert only(path)
    assert mine.read_bytes() == b"mine"


def test_an_import_into_a_part_that_was_fetched_is_not_gone_on_with(server, tmp_path, url, path, monkeypatch):
    stop_at(server, 1000, url, path, monkeypatch)
    mine = tmp_path / "mine.ckpt"
    mine.write_bytes(CONTENT[:500])
    interrupted(monkeypatch, mine, path)
    fetch(url, path)
    assert only(path)
    assert mine.read_bytes() == CONTENT[:500]
    assert server.asked[-1][1] is None


def test_a_local_file_may_be_taken_twice(tmp_path, path):
    source = tmp_path / "mine.ckpt"
    source.write_bytes(CONTENT)
    for _ in range(2):
        fetch(source, path)
        assert only(path)


def test_a_local_file_that_can_only_be_read_is_taken(tmp_path, path, monkeypatch):
    def as_anybody(self, mode="r", *args, **kwargs):
        if set(mode) & set("wa+") and self.exists() and not self.stat().st_mode & stat.S_IWUSR:
            raise PermissionError(13, "Permission denied", str(self))
        return real(self, mode, *args, **kwargs)

    source, real = tmp_path / "mine.ckpt", Path.open
    source.write_bytes(CONTENT)
    source.chmod(0o444)
    monkeypatch.setattr(Path, "open", as_anybody)  # whoever runs the tests may be allowed more
    fetch(source, path)
    assert only(path)


def test_a_local_file_that_is_not_there_is_told(tmp_path, path):
    with pytest.raises(StoryError, match=r"mine\.ckpt: cannot be read: No such file"):
        fetch(tmp_path / "mine.ckpt", path)
