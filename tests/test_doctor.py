"""``doctor``: what it says of what is not well, and that it gives no secret away."""

from http.server import BaseHTTPRequestHandler

import file_server
import pytest
import torch

from storycli import catalogue, doctor


class Endpoint(BaseHTTPRequestHandler):
    """A language model's server that says ``says`` and keeps what it was told of who asks."""

    authorization: list[str | None]
    says: bytes

    def do_GET(self):
        self.authorization.append(self.headers["Authorization"])
        self.wfile.write(self.says)

    def log_message(self, *_):
        pass


def saying(says: bytes = b"HTTP/1.0 200 OK\r\n\r\n"):
    """A server that answers everything with ``says``."""
    return file_server.answering(type("Handler", (Endpoint,), {"authorization": [], "says": says}))


@pytest.fixture
def endpoint():
    with saying() as endpoint:
        yield endpoint


def test_doctor_says_how_to_mend_what_is_not_well(run, monkeypatch):
    monkeypatch.setattr(catalogue, "PARTS", ())
    monkeypatch.setattr(doctor, "LOOKS", {k: v for k, v in doctor.LOOKS.items() if k in ("ffmpeg", "disk", "llm")})
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    done = run("doctor")
    lines = done.out.splitlines()
    assert done.code == 1
    assert lines[0].startswith("ok   ffmpeg:")
    assert lines[1].startswith("ok   disk:")
    assert lines[2].startswith("MEND llm:      http://127.0.0.1:9/v1 does not answer")
    assert "--llm offline" in lines[3]
    assert "sk-secret" not in done.out + done.err


def told_of_the_language_model(run, monkeypatch, **environment) -> str:
    """What ``doctor`` says when nothing but the language model is looked at."""
    monkeypatch.setattr(doctor, "LOOKS", {"llm": doctor.LOOKS["llm"]})
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    done = run("doctor")
    return done.out + done.err


@pytest.mark.parametrize(
    ("key", "address", "said"),
    [
        ("sk-SECRET\n", "http://me:SECRET@127.0.0.1:9/v1\n", "http://127.0.0.1:9/v1 does not answer: [Errno "),
        ("sk-SECRET\nmore", "", "OPENAI_API_KEY holds characters that no key has"),
        ("sk-SECRET\N{EURO SIGN}", "", "OPENAI_API_KEY holds characters that no key has"),
        ("", "http://me:SECRET@host:9:9/v1", "OPENAI_BASE_URL is not an address"),
        ("", "http://me:SECRET/@host/v1", "OPENAI_BASE_URL is not an address"),
        ("", "http://me:SECRET@host name/v1", "OPENAI_BASE_URL is not an address"),
        ("", "http://me:SECRET@host:99999", "OPENAI_BASE_URL is not an address"),
        ("", "me:SECRET@host", "OPENAI_BASE_URL is not an address"),
    ],
)
def test_doctor_shows_no_secret_whatever_is_wrong(run, monkeypatch, key, address, said):
    told = told_of_the_language_model(run, monkeypatch, OPENAI_API_KEY=key, OPENAI_BASE_URL=address)
    assert told.startswith(f"MEND llm:      {said}")
    assert "SECRET" not in told and "Traceback" not in told


@pytest.mark.parametrize(
    ("key", "login", "authorization"),
    [("sk-1\n", "", "Bearer sk-1"), ("sk-1", "me:p%40w@", "Basic bWU6cEB3"), ("", "", None)],
)
def test_doctor_asks_as_the_language_model_is_asked(run, monkeypatch, endpoint, key, login, authorization):
    address = endpoint.url.replace("//", f"//{login}")
    told = told_of_the_language_model(run, monkeypatch, OPENAI_API_KEY=key, OPENAI_BASE_URL=f"{address}/v1/")
    assert told == f"ok   llm:      {endpoint.url}/v1 answers\n"
    assert endpoint.authorization == [authorization]


def test_doctor_hands_the_key_to_nobody_else(run, monkeypatch, endpoint):
    with saying(b"HTTP/1.0 307 Elsewhere\r\nLocation: %s\r\n\r\n" % endpoint.url.encode()) as first:
        told_of_the_language_model(run, monkeypatch, OPENAI_API_KEY="sk-1", OPENAI_BASE_URL=first.url)
    assert first.authorization == ["Bearer sk-1"]
    assert endpoint.authorization == [None]


def test_doctor_tells_a_server_that_speaks_something_else(run, monkeypatch):
    with saying(b"SSH-2.0-\x1b[2J\r\n") as other:
        told = told_of_the_language_model(run, monkeypatch, OPENAI_BASE_URL=other.url)
    assert told.startswith(f"MEND llm:      {other.url} does not answer: what it says is not HTTP\n")


def told_of(run, monkeypatch, name: str) -> tuple[int, str]:
    monkeypatch.setattr(doctor, "LOOKS", {name: doctor.LOOKS[name]})
    done = run("doctor")
    return done.code, done.out


def test_doctor_says_how_much_of_a_gpu_is_free(run, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "A GPU")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (5 * 2**30, 24 * 2**30))
    assert told_of(run, monkeypatch, "device") == (0, "ok   device:   A GPU, 5 of 24 GiB free\n")


@pytest.mark.skipif(torch.cuda.is_available() or torch.backends.mps.is_available(), reason="there is a GPU here")
def test_doctor_tells_of_a_driver_whose_gpu_torch_does_not_find(run, monkeypatch, tmp_path):
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    assert told_of(run, monkeypatch, "device")[0] == 0
    monkeypatch.setenv("PATH", str(tmp_path))
    code, told = told_of(run, monkeypatch, "device")
    assert code == 1 and "there is an NVIDIA driver, but torch" in told


def test_doctor_names_what_a_model_lacks_that_came_in_part(run, monkeypatch):
    assert told_of(run, monkeypatch, "weights") == (0, "ok   weights:  storybook; --model auto takes storybook\n")
    lvdm = catalogue.MODELS["lvdm"]
    lvdm.folder.mkdir(parents=True)
    lvdm.path(lvdm.files[0]).touch()
    code, told = told_of(run, monkeypatch, "weights")
    assert code == 1 and f"of lvdm there is no {lvdm.files[1].name}" in told and "storycli models pull lvdm" in told
