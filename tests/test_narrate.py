import io
import json
import sys
import threading
import types
import wave
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest

from storycli import narrate
from storycli.errors import StoryError
from storycli.media import sound


class FakeHibari:
    """A voice that hums: a tenth of a second for each letter."""

    sample_rate = 24000
    heard: list[str]

    def __init__(self, *, model: str, voice: str):
        type(self).heard = []

    def __call__(self, text: str, *, seed: int) -> np.ndarray:
        self.heard.append(text)
        return np.full(2400 * len(text), 0.5, np.float32)


@pytest.fixture
def hibari(monkeypatch):
    def voice_path(name, download_missing=True):
        if name != "heart" and not download_missing:
            raise FileNotFoundError(name)
        return "heart.onnx"

    package, voices = types.ModuleType("hibari"), types.ModuleType("hibari.voices")
    package.Hibari, voices.voice_path = FakeHibari, voice_path
    monkeypatch.setitem(sys.modules, "hibari", package)
    monkeypatch.setitem(sys.modules, "hibari.voices", voices)
    return FakeHibari


def samples(path) -> tuple[int, np.ndarray]:
    with wave.open(str(path)) as file:
        return file.getframerate(), np.frombuffer(file.readframes(file.getnframes()), "<i2")


def test_each_text_becomes_a_sound_of_its_length(tmp_path, hibari):
    told = []
    spoken = narrate.narrate(
        ["A bear.", " ... ", "Home"], tmp_path, progress=lambda done, total: told.append((done, total))
    )
    assert spoken[1] is None
    assert [sound.seconds(path) for path in spoken if path] == [pytest.approx(0.7), pytest.approx(0.4)]
    assert hibari.heard == ["A bear.", "Home"]
    assert told == [(1, 3), (2, 3), (3, 3)]
    rate, heard = samples(spoken[2])
    assert rate == 24000 and (heard == 16384).all()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["narration-01.wav", "narration-03.wav"]


def test_the_offline_voice_refuses_other_scripts(tmp_path, hibari):
    with pytest.raises(StoryError, match="English only, and this is in another script: \u5f88"):
        narrate.narrate(["A bear.", "\u5f88\u4e45\u4ee5\u524d"], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_offline_voice_downloads_nothing(tmp_path, hibari):
    with pytest.raises(StoryError, match="has no speaker 'emma' here"):
        narrate.narrate(["A bear."], tmp_path, speaker="emma")


def test_without_the_package_the_error_tells_the_fix(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "hibari", None)
    with pytest.raises(StoryError, match="not installed") as error:
        narrate.narrate(["A bear."], tmp_path)
    assert "storycli[narration]" in error.value.hint


def recording(seconds: float) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(b"\0\x10" * int(16000 * seconds))
    return buffer.getvalue()


@pytest.fixture
def service(monkeypatch):
    """A speech service on this machine; ``answers`` are given in turn, ``asked`` and ``keys`` are what it was sent."""
    answers: list[tuple[int, bytes]] = []
    asked: list[bytes] = []
    keys: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            keys.append(self.headers["Authorization"])
            asked.append(self.rfile.read(int(self.headers["Content-Length"])))
            status, body = answers.pop(0)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{server.server_port}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "key-of-the-test")
    yield types.SimpleNamespace(answers=answers, asked=asked, keys=keys)
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_service_reads_every_language(tmp_path, service):
    service.answers.append((200, recording(1.5)))
    (spoken,) = narrate.narrate(["\u5f88\u4e45\u4ee5\u524d"], tmp_path, voice="openai")
    assert sound.seconds(spoken) == pytest.approx(1.5)
    assert "\u5f88\u4e45\u4ee5\u524d".encode() in service.asked[0] and b'"alloy"' in service.asked[0]


def test_the_service_is_asked_for_the_chosen_model_with_the_bare_key(tmp_path, service, monkeypatch):
    service.answers += [(200, recording(0.5))] * 2
    monkeypatch.setenv("OPENAI_API_KEY", " key-of-the-test\n")
    narrate.narrate(["A bear."], tmp_path, voice="openai")
    narrate.narrate(["A bear."], tmp_path, voice="openai", tts_model="another-voice")
    assert [json.loads(asked)["model"] for asked in service.asked] == [narrate.SPEECH_MODEL, "another-voice"]
    assert service.keys == ["Bearer key-of-the-test"] * 2


def test_a_service_that_refuses_is_told_without_the_key(tmp_path, service):
    service.answers.append((401, b'{"error": {"message": "bad key key-of-the-test"}}'))
    with pytest.raises(StoryError, match="status 401") as error:
        narrate.narrate(["A bear."], tmp_path, voice="openai")
    assert "key-of-the-test" not in error.value.message + error.value.hint
    assert list(tmp_path.iterdir()) == []


def test_an_answer_that_is_no_sound_is_an_error(tmp_path, service):
    service.answers.append((200, b"<html>welcome</html>"))
    with pytest.raises(StoryError, match="something that is no sound"):
        narrate.narrate(["A bear."], tmp_path, voice="openai")
    assert list(tmp_path.iterdir()) == []


def test_without_a_key_nothing_is_asked(tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(StoryError, match="no OPENAI_API_KEY"):
        narrate.narrate(["A bear."], tmp_path, voice="openai")
