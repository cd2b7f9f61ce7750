"""One command makes a film that players take: narrated, subtitled, crossfaded, with a title and music."""

import subprocess
import wave
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import av
import numpy as np
import pytest

from storycli.media import ffmpeg, sound, video

STORY = "A cat sat in the forest.\nA cat ran on the beach.\nThe cat ate in the kitchen.\n"
FPS = 8
TITLE, FADE, PAUSE = 20, 4, 0.2  # frames, frames, seconds
SPOKEN = 1.5  # seconds of each narration


def tone(path: Path, seconds: float, hertz: float) -> Path:
    t = np.arange(int(seconds * 24000)) / 24000
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(24000)
        file.writeframes((np.sin(2 * np.pi * hertz * t) * 0.2 * 32767).astype("<i2").tobytes())
    return path


@pytest.fixture
def speech(tmp_path, monkeypatch):
    """A speech service that reads everything as a tone of 1.5 seconds."""
    spoken = tone(tmp_path / "spoken.wav", SPOKEN, 440).read_bytes()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", str(len(spoken)))
            self.end_headers()
            self.wfile.write(spoken)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{server.server_port}/v1")
    yield
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def film(run, studio, speech, tmp_path):
    Path("story.txt").write_text(STORY)
    music = tone(tmp_path / "music.wav", 0.7, 200)
    finish = ["--transition", "crossfade", "--title-card", "--subtitles", "soft", "--narrate", "--voice", "openai"]
    done = run("render", "story.txt", "--llm", "none", *finish, "--music", music, "--aspect", "16:9", "-o", "film.mp4")
    assert done.code == 0, done.err
    return tmp_path / "film.mp4"


def boxes(path: Path) -> list[bytes]:
    """The kinds of an mp4's top-level boxes, in order."""
    data, at, found = path.read_bytes(), 0, []
    while at < len(data):
        found.append(data[at + 4 : at + 8])
        at += int.from_bytes(data[at : at + 4])
    return found


def loudness(path: Path) -> float:
    command = [ffmpeg.find().path, "-nostdin", "-hide_banner", "-i", path, "-af", "ebur128", "-f", "null", "-"]
    told = subprocess.run(command, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL).stderr
    return float(told.rsplit("I:", 1)[1].split()[0])


def test_the_film_is_what_players_take(film):
    assert boxes(film).index(b"moov") < boxes(film).index(b"mdat")  # it starts before all of it is there
    with av.open(str(film)) as container:
        (picture,), (track,), (text,) = container.streams.video, container.streams.audio, container.streams.subtitles
        assert (picture.codec.name, picture.pix_fmt) == ("h264", "yuv420p")
        assert (picture.width, picture.height) == (114, 64)
        assert (track.codec.name, track.layout.name, track.rate) == ("aac", "stereo", 48000)
        assert text.codec_context.name == "mov_text"
        times = sorted(packet.pts * packet.time_base for packet in container.demux(picture) if packet.pts is not None)
    steps = {later - earlier for earlier, later in zip(times, times[1:], strict=False)}
    assert steps == {Fraction(1, FPS)}


def test_every_stream_is_as_long_as_it_should_be(film):
    clip = int(np.ceil((SPOKEN + 2 * PAUSE) * FPS)) + FADE  # a clip lasts as long as what is said over it
    frames = TITLE + 3 * clip - 3 * FADE
    info = video.probe(film)
    assert info.num_frames == frames
    with av.open(str(film)) as container:
        samples = sum(frame.samples for frame in container.decode(audio=0))
    assert abs(samples / 48000 - frames / FPS) < 1 / FPS
    with av.open(str(film)) as container:
        packets = [packet for packet in container.demux(subtitles=0) if len(bytes(packet)) > 2]
    starts = [round(float(packet.pts * packet.time_base) * FPS) for packet in packets]
    assert starts == [TITLE - FADE, TITLE - 2 * FADE + clip, TITLE - 3 * FADE + 2 * clip]
    assert b"A cat ran on the beach." in bytes(packets[1])


def test_the_loudness_is_that_of_web_video_whatever_is_said_and_played(film):
    assert loudness(film) == pytest.approx(sound.LOUDNESS, abs=1)
