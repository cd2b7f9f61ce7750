"""``storycli models``: weights from a publisher, a mirror, a folder or files at hand, asked about and checked."""

import hashlib
import io
import json
import os
import shutil
import threading
from contextlib import suppress
from dataclasses import replace
from types import SimpleNamespace

import published
import pytest
import torch
from file_server import serving
from filelock import FileLock
from safetensors.torch import save

from models.weights import read_state_dict
from storycli import catalogue, download, pins, store
from storycli.catalogue import WeightFile, Weights
from storycli.cli import models as command
from storycli.errors import StoryError


def stored(number: float) -> bytes:
    """A file of weights in the layout of torch."""
    file = io.BytesIO()
    torch.save({"weight": torch.full((400, 400), number)}, file)
    return file.getvalue()


BIG, SMALL = stored(1.0), stored(2.0)
SHA256 = hashlib.sha256(SMALL).hexdigest()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(download, "PAUSES", ())
    with serving({"/files/big-v2.ckpt": BIG, "/small.pt": SMALL}) as server:
        yield server


@pytest.fixture
def toy(server, monkeypatch) -> Weights:
    """A model of two files, one of which is called otherwise at its publisher's."""
    model = Weights(
        name="toy",
        about="a toy",
        licence="play",
        limits="Not for sale.",
        files=(
            WeightFile(name="big.ckpt", remote=f"{server.url}/files/big-v2.ckpt", gigabytes=4),
            WeightFile(name="small.pt", remote=f"{server.url}/small.pt", gigabytes=0.2, sha256=SHA256[:8]),
        ),
    )
    monkeypatch.setitem(catalogue.OTHERS, "toy", model)
    return model


@pytest.fixture
def terminal(monkeypatch):
    """Someone who can be asked, and the answer that they give."""
    person = SimpleNamespace(answer=True, asked=[])
    tty = SimpleNamespace(isatty=lambda: True)
    monkeypatch.setattr(command, "sys", SimpleNamespace(stdin=tty, stderr=tty))
    monkeypatch.setattr(command, "confirm", lambda text, err: person.asked.append(text) or person.answer)
    return person


def files(model: Weights) -> dict[str, bytes]:
    found = (path for path in model.folder.rglob("*") if path.name != store.TERMS)
    return {path.name: path.read_bytes() for path in found}


# Asking and telling


def test_gigabytes_are_not_fetched_unasked(run, toy, server):
    done = run("models", "pull", "toy")
    assert (done.code, done.out) == (2, "")
    assert "toy: this would fetch 4.2 GB, and there is nobody to ask" in done.err
    assert "--yes" in done.err
    assert server.asked == [] and files(toy) == {}


def test_with_yes_all_files_come_and_the_folder_is_the_answer(run, toy):
    done = run("models", "pull", "toy", "--yes")
    assert (done.code, done.out) == (0, f"{toy.folder}\n")
    assert files(toy) == {"big.ckpt": BIG, "small.pt": SMALL}


@pytest.mark.parametrize(("says", "code"), [(True, 0), (False, 1)])
def test_at_a_terminal_a_person_decides(run, toy, terminal, says, code):
    terminal.answer = says
    assert run("models", "pull", "toy").code == code
    assert terminal.asked == ["Fetch 4.2 GB?"]
    assert len(files(toy)) == (2 if says else 0)


def test_what_is_here_is_not_asked_about_again(run, toy, terminal, server):
    toy.folder.mkdir(parents=True)
    toy.path(toy.files[0]).write_bytes(BIG)
    assert run("models", "pull", "toy").code == 0
    assert terminal.asked == [] and [path for path, _ in server.asked] == ["/small.pt"]
    assert run("models", "pull", "toy").code == 0
    assert len(server.asked) == 1


def test_the_limits_of_the_licence_are_told_once_before_anything_is_fetched(run, toy, server):
    server.refuses = 503
    assert "toy: play. Not for sale." in run("models", "pull", "toy", "--yes").err
    assert "Not for sale" not in run("models", "pull", "toy", "--yes").err
    run("models", "rm", "toy")
    assert "Not for sale" in run("models", "pull", "toy", "--yes").err


def test_the_limits_are_told_to_those_who_want_quiet_too(run, toy):
    done = run("models", "pull", "toy", "--yes", "-q")
    assert (done.out, done.err) == (f"{toy.folder}\n", "toy: play. Not for sale.\n")


def test_the_limits_are_told_to_those_who_put_the_files_there_by_hand(toy):
    assert store.first_use(toy)
    assert not store.first_use(toy)
    assert not store.first_use(catalogue.named("storybook"))


# Where from


def test_files_come_from_the_hub_that_the_environment_names(server, toy, monkeypatch, run):
    monkeypatch.setenv("HF_ENDPOINT", f"{server.url}/")
    moved = replace(toy.files[0], repo="them/toy", remote="v2/big.ckpt")
    monkeypatch.setitem(catalogue.OTHERS, "toy", replace(toy, files=(moved,)))
    server.files["/them/toy/resolve/main/v2/big.ckpt"] = BIG
    assert run("models", "pull", "toy", "--yes").code == 0
    assert files(toy) == {"big.ckpt": BIG}


def test_files_come_from_a_mirror(run, toy, server):
    server.files |= {"/mirror/toy/big.ckpt": BIG, "/mirror/toy/small.pt": SMALL}
    assert run("models", "pull", "toy", "--yes", "--from", f"{server.url}/mirror/").code == 0
    assert [path for path, _ in server.asked] == ["/mirror/toy/big.ckpt", "/mirror/toy/small.pt"]
    assert files(toy) == {"big.ckpt": BIG, "small.pt": SMALL}


def test_files_come_from_a_folder_under_any_of_their_names(run, toy, tmp_path, monkeypatch, server):
    (tmp_path / "share" / "toy").mkdir(parents=True)
    (tmp_path / "share" / "toy" / "small.pt").write_bytes(SMALL)
    (tmp_path / "share" / "big-v2.ckpt").write_bytes(BIG)
    monkeypatch.setenv("STORYCLI_MIRROR", str(tmp_path / "share"))
    assert run("models", "pull", "toy", "--yes").code == 0
    assert files(toy) == {"big.ckpt": BIG, "small.pt": SMALL}
    assert server.asked == []


def test_a_folder_that_lacks_a_file_is_told(run, toy, tmp_path):
    done = run("models", "pull", "toy", "--yes", "--from", tmp_path)
    assert done.code == 1
    assert f"{tmp_path} does not hold big.ckpt" in done.err


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_file_that_rendering_does_not_need_may_fail_to_come(run, toy, tmp_path, monkeypatch, mirrored):
    more = WeightFile(name="more.pt", remote=toy.files[1].remote.replace("small", "gone"), optional=True)
    toy = replace(toy, files=(toy.files[0], more, toy.files[1]))
    monkeypatch.setitem(catalogue.OTHERS, "toy", toy)
    if mirrored:
        (tmp_path / "big.ckpt").write_bytes(BIG)
        (tmp_path / "small.pt").write_bytes(SMALL)
    done = run("models", "pull", "toy", "--yes", *(("--from", tmp_path) if mirrored else ()))
    assert (done.code, done.out) == (0, f"{toy.folder}\n")
    assert "warning: " in done.err and "it is left out, as rendering does not need it" in done.err
    assert files(toy) == {"big.ckpt": BIG, "small.pt": SMALL}


# Going on, and on disk


def test_a_pull_that_was_stopped_is_shown_and_goes_on(run, toy, server):
    server.breaks[:] = [300_000]
    assert run("models", "pull", "toy", "--yes").code == 1
    listed = {row["name"]: row for row in json.loads(run("models", "list", "--json").out)}["toy"]
    assert [file["state"] for file in listed["files"]] == ["0.0 GB of it", "not here"]
    assert run("models", "pull", "toy", "--yes").code == 0
    assert [range for _, range in server.asked] == [None, "bytes=300000-", None]
    assert files(toy) == {"big.ckpt": BIG, "small.pt": SMALL}


def test_the_list_says_what_is_here_and_where_the_rest_is_from(run, toy):
    run("models", "pull", "toy", "--yes")
    toy.path(toy.files[0]).unlink()
    lines = run("models", "list").out.splitlines()
    (first,) = [n for n, line in enumerate(lines) if line.startswith("toy")]
    told = " ".join(" ".join(lines[first:]).split())
    assert "1 of 2 a toy licence: play. Not for sale." in told
    assert f"big.ckpt: 4.0 GB, not here from {toy.files[0].url}" in told
    assert f"small.pt: 0.2 GB, here, sha256 {SHA256[:8]}..." in told


def test_deleting_takes_parts_of_files_too(run, toy, server):
    server.breaks[:] = [300_000]
    run("models", "pull", "toy", "--yes")
    assert files(toy)
    done = run("models", "rm", "toy")
    assert (done.code, done.out) == (0, "")
    assert not toy.folder.exists()


def test_two_pulls_at_a_time_do_not_meet(toy, server):
    toy.folder.mkdir(parents=True)
    with FileLock(toy.folder.parent / ".toy.lock"), pytest.raises(StoryError, match="another command is at work"):
        store.pull(toy)
    assert server.asked == []


# The right files


def test_a_file_with_another_digest_than_the_published_is_refused(run, toy, server):
    server.files["/small.pt"] = stored(3.0)
    done = run("models", "pull", "toy", "--yes")
    assert done.code == 1
    assert "not the file that was expected" in done.err
    assert files(toy) == {"big.ckpt": BIG}


def test_a_digest_that_nobody_published_is_remembered(run, toy, server):
    run("models", "pull", "toy", "--yes")
    run("models", "rm", "toy")
    server.files["/files/big-v2.ckpt"] = stored(4.0)
    done = run("models", "pull", "toy", "--yes")
    assert done.code == 1
    assert "not the file that was expected" in done.err
    assert files(toy) == {}
    run("models", "rm", "toy", "--forget")
    assert run("models", "pull", "toy", "--yes").code == 0
    assert files(toy)["big.ckpt"] == stored(4.0)


def test_weights_that_changed_after_they_were_pulled_are_not_used(toy):
    store.pull(toy)
    before = toy.identity()
    assert catalogue._digest.__wrapped__((toy.path(toy.files[0]), toy.path(toy.files[1])), False) == before["sha256"]
    toy.path(toy.files[0]).write_bytes(BIG[:-1])
    catalogue._digest.cache_clear()
    with pytest.raises(StoryError, match=f"big.ckpt is not the file any more that came from {toy.files[0].url}"):
        toy.identity()


def test_weights_that_someone_put_there_may_change_and_are_read_once(toy, monkeypatch):
    toy.folder.mkdir(parents=True)
    for file in toy.files:
        toy.path(file).write_bytes(BIG)
    catalogue._digest.cache_clear()
    before = toy.identity()
    catalogue._digest.cache_clear()
    with monkeypatch.context() as blind:
        blind.setattr("storycli.digest.file", lambda path: 1 / 0)
        assert toy.identity() == before
    toy.path(toy.files[0]).write_bytes(SMALL + b" ")
    catalogue._digest.cache_clear()
    assert toy.identity() != before


def test_what_two_commands_remember_at_a_time_is_all_kept(toy, monkeypatch):
    toy.folder.mkdir(parents=True)
    both, read = threading.Barrier(2, timeout=0.2), pins._all

    def slowly():
        found = read()
        with suppress(threading.BrokenBarrierError):  # the other one, if it may, reads the same now
            both.wait()
        return found

    monkeypatch.setattr(pins, "_all", slowly)
    for file in toy.files:
        toy.path(file).write_bytes(BIG)
    at_work = [threading.Thread(target=pins.pin, args=(toy.path(file), SHA256)) for file in toy.files]
    for thread in at_work:
        thread.start()
    for thread in at_work:
        thread.join()
    assert read().keys() == {"toy/big.ckpt", "toy/small.pt"}


def test_weights_in_a_folder_that_may_only_be_read_have_a_digest_all_the_same(toy, monkeypatch):
    def closed(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(pins, "FileLock", closed)
    toy.folder.mkdir(parents=True)
    toy.path(toy.files[1]).write_bytes(SMALL)
    assert pins.digest_of(toy.path(toy.files[1])) == SHA256


class Bomb:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


def bad_files(target):
    bomb = io.BytesIO()
    torch.save({"weight": Bomb(target)}, bomb)
    return {
        "a page": (b"<!DOCTYPE html><html>Sign in</html>", "is not a weights file"),
        "a pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is not a weights file"),
        "half a file": (BIG[: len(BIG) // 2], "is cut short"),
        "a program": (bomb.getvalue(), "is refused: it is no plain weights file"),
        "nothing": (b"", "cannot be read"),
    }


@pytest.mark.parametrize("kind", bad_files(None))
def test_what_is_no_weights_file_is_neither_pulled_nor_run(run, toy, server, tmp_path, kind):
    server.files["/files/big-v2.ckpt"], message = bad_files(tmp_path / "ran")[kind]
    done = run("models", "pull", "toy", "--yes")
    assert done.code == 1
    assert message in done.err
    assert files(toy) == {} and not (tmp_path / "ran").exists()


# Files at hand


def test_files_at_hand_are_taken_by_name_without_a_copy(run, toy, tmp_path):
    (tmp_path / "big-v2.ckpt").write_bytes(BIG)
    done = run("models", "import", "toy", "big-v2.ckpt")
    assert (done.code, done.out) == (0, f"{toy.folder}\n")
    assert "still missing: small.pt" in done.err and "Not for sale" in done.err
    assert files(toy) == {"big.ckpt": BIG}
    assert toy.path(toy.files[0]).stat().st_ino == (tmp_path / "big-v2.ckpt").stat().st_ino


def test_a_folder_of_files_is_taken(run, toy, tmp_path):
    (tmp_path / "old").mkdir()
    for name, content in (("big.ckpt", BIG), ("small.pt", SMALL), ("notes.txt", b"mine")):
        (tmp_path / "old" / name).write_bytes(content)
    assert run("models", "import", "toy", "old").code == 0
    assert files(toy) == {"big.ckpt": BIG, "small.pt": SMALL}


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """A folder with the paper's model as it was published, with narrow layers."""
    folder = published.write(tmp_path_factory.mktemp("release"))
    (folder / "adapter.pth").rename(folder / "adapter_t2v_depth_rm_wtm.pth")
    return folder


def test_the_paper_s_model_is_known_by_what_its_files_hold(run, release, tmp_path):
    assert run("models", "import", "lvdm", release).code == 0
    lvdm = catalogue.named("lvdm")
    assert lvdm.absent() == []
    torch.save({"a": torch.zeros(1)}, tmp_path / "model_rm_wtm.ckpt")
    other = release / "adapter_t2v_depth_rm_wtm.pth"
    for given in ("model_rm_wtm.ckpt", f"model_rm_wtm.ckpt={other}", f"dpt_hybrid-midas.pt={other}"):
        done = run("models", "import", "lvdm", given)
        name = given.partition("=")[0]
        assert done.code == 1 and f"error: this is not {name}: it holds no " in done.err
        assert lvdm.path(lvdm.files[0]).samefile(release / "model_rm_wtm.ckpt")


@pytest.mark.parametrize("command", [("pull", "lvdm", "--yes", "--from"), ("import", "lvdm")])
def test_of_two_releases_in_a_folder_the_one_that_goes_together_is_taken(run, release, tmp_path, monkeypatch, command):
    lvdm = catalogue.named("lvdm")
    lvdm = replace(lvdm, files=lvdm.files[:2])  # of the others, narrow ones have not the digest that they must have
    monkeypatch.setitem(catalogue.MODELS, "lvdm", lvdm)
    folder = shutil.copytree(release, tmp_path / "both")
    torch.save({"body.7.block2.weight": torch.zeros(1)}, folder / "adapter.pth")
    done = run("models", *command, folder)
    assert (done.code, "warning" in done.err) == (0, False)
    assert lvdm.path(lvdm.files[1]).samefile(folder / "adapter_t2v_depth_rm_wtm.pth")
    (folder / "adapter_t2v_depth_rm_wtm.pth").unlink()
    run("models", "rm", "lvdm", "--forget")
    done = run("models", *command, folder)
    assert done.code == 0
    assert f"warning: {folder / 'adapter.pth'} may be the structure encoder of the first release" in done.err
    assert "published as adapter_t2v_depth_rm_wtm.pth" in done.err


def test_a_file_of_another_name_or_kind_is_taken_when_it_is_said_what_it_is(run, toy, tmp_path):
    (tmp_path / "mine.safetensors").write_bytes(save({"weight": torch.arange(3.0)}))
    done = run("models", "import", "toy", "mine.safetensors")
    assert done.code == 2
    assert "NAME=mine.safetensors, of: big.ckpt, small.pt" in done.err
    assert run("models", "import", "toy", "small.pt=mine.safetensors").code == 0
    assert read_state_dict(toy.path(toy.files[1]))["weight"].tolist() == [0, 1, 2]


def test_a_file_that_is_not_the_published_one_is_taken_with_a_warning(run, toy, tmp_path):
    (tmp_path / "small.pt").write_bytes(stored(5.0))
    done = run("models", "import", "toy", "small.pt")
    assert done.code == 0
    assert "warning: small.pt is not the published file" in done.err


def test_an_imported_file_does_not_stand_in_the_way_of_the_published_one(run, toy, tmp_path):
    (tmp_path / "big.ckpt").write_bytes(stored(5.0))
    run("models", "import", "toy", "big.ckpt")
    run("models", "rm", "toy")
    assert run("models", "pull", "toy", "--yes").code == 0
    assert files(toy) == {"big.ckpt": BIG, "small.pt": SMALL}


@pytest.mark.parametrize("kind", bad_files(None))
def test_what_is_no_weights_file_is_not_imported_and_the_old_one_stays(run, toy, tmp_path, kind):
    store.pull(toy)
    content, message = bad_files(tmp_path / "ran")[kind]
    (tmp_path / "big.ckpt").write_bytes(content)
    done = run("models", "import", "toy", "big.ckpt")
    assert done.code == 1
    assert message in done.err
    assert files(toy) == {"big.ckpt": BIG, "small.pt": SMALL}
    assert (tmp_path / "big.ckpt").exists() and not (tmp_path / "ran").exists()


def test_there_is_nothing_to_import_where_there_is_nothing(run, toy, tmp_path):
    assert "there is no file none.ckpt" in run("models", "import", "toy", "none.ckpt").err
    done = run("models", "import", "toy", tmp_path)
    assert done.code == 1
    assert "no files of toy in" in done.err
