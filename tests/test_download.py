"""Fetching weights from a server of our own: it goes on where it stopped; only the right file appears."""

import hashlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from storycli.download import fetch
from storycli.errors import StoryError

CONTENT = bytes(range(256)) * 5000


class Server(BaseHTTPRequestHandler):
    """Serves CONTENT; ``behaviour`` says how badly, ``asked`` lists the ranges that were asked for."""

    behaviour = ""
    asked: list[str]

    def do_GET(self):
        self.asked.append(self.headers["Range"])
        start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
        if self.behaviour == "missing":
            return self.send_error(404)
        if start >= len(CONTENT):
            return self.send_error(416)
        if self.behaviour == "no ranges":
            start = 0
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        self.wfile.write(CONTENT[start : start + 1000 if self.behaviour == "breaks" else None])
        return None

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    handler = type("Handler", (Server,), {"asked": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        thread = Thread(target=http.serve_forever)
        thread.start()
        handler.url = f"http://127.0.0.1:{http.server_port}/weights"
        yield handler
        http.shutdown()
        thread.join()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "weights" / "model.ckpt"


def part(path: Path) -> Path:
    return path.with_name("model.ckpt.part")


def test_a_file_is_fetched_whole(server, path):
    seen = []
    fetch(server.url, path, sha256=hashlib.sha256(CONTENT).hexdigest(), report=lambda *now: seen.append(now))
    assert path.read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert not part(path).exists()


def test_a_broken_fetch_is_told_and_goes_on_where_it_stopped(server, path):
    server.behaviour = "breaks"
    with pytest.raises(StoryError, match="the connection broke after 1000 of"):
        fetch(server.url, path)
    assert not path.exists()
    server.behaviour = ""
    fetch(server.url, path)
    assert path.read_bytes() == CONTENT
    assert server.asked == ["bytes=0-", "bytes=1000-"]


def test_a_server_without_ranges_is_asked_for_all_of_it_again(server, path):
    path.parent.mkdir()
    part(path).write_bytes(b"an old beginning")
    server.behaviour = "no ranges"
    fetch(server.url, path)
    assert path.read_bytes() == CONTENT


def test_a_part_that_is_already_whole_is_taken(server, path):
    path.parent.mkdir()
    part(path).write_bytes(CONTENT)
    fetch(server.url, path, sha256=hashlib.sha256(CONTENT).hexdigest()[:8])
    assert path.read_bytes() == CONTENT


def test_another_file_than_was_expected_does_not_appear(server, path):
    with pytest.raises(StoryError, match="not the file that was expected"):
        fetch(server.url, path, sha256="0" * 64)
    assert list(path.parent.iterdir()) == []


def test_a_refusal_is_told(server, path):
    server.behaviour = "missing"
    with pytest.raises(StoryError, match="the server answers 404"):
        fetch(server.url, path)


def test_a_server_that_is_not_there_is_told(path):
    with pytest.raises(StoryError, match="Connection refused") as refused:
        fetch("http://127.0.0.1:9/weights", path)
    assert "goes on where this stopped" in refused.value.hint
