"""What models can do and need is known, and told, before anything is done."""

import pytest
import torch
from studio import MODEL

from storycli import catalogue, stages
from storycli.config import Settings
from storycli.errors import StoryError

LVDM = catalogue.MODELS["lvdm"]


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        (("--steps", 36, "--sampler", "ddim"), "36 DDIM steps run past a schedule of 1000"),
        (("--steps", 1000), "DPM-Solver++ takes between 1 and 999 steps, not 1000"),
        (("--size", "72x64"), "storybook cannot make a film of 72x64"),
    ],
)
def test_what_a_model_cannot_do_is_told_before_the_story_is_read(run, studio, script, teddy, wishes, message):
    done = run("render", script, "--llm", "none", "-c", teddy, *wishes)
    assert done.code == 1
    assert message in done.err
    assert studio.work() == []


def test_the_paper_s_model_makes_multiples_of_64():
    for size in ((256, 256), (512, 320), (64, 192)):
        LVDM.check(sampler="ddim", steps=50, size=size)
    with pytest.raises(StoryError, match="256x288") as refused:
        LVDM.check(sampler="ddim", steps=50, size=(256, 288))
    assert "multiples of 64" in refused.value.hint


def test_a_number_of_steps_is_one_for_the_sampler_that_will_be_used():
    LVDM.check(sampler="dpm", steps=36, size=LVDM.size)
    with pytest.raises(StoryError, match="36 DDIM steps"):
        LVDM.check(sampler="ddim", steps=36, size=LVDM.size)


def put(weights: catalogue.Weights, *names: str) -> None:
    weights.folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (weights.folder / name).write_bytes(b"weights of " + name.encode())


def test_a_model_is_whole_without_what_rendering_does_not_need():
    put(LVDM, "model_rm_wtm.ckpt", "adapter.pth", "dpt_hybrid-midas.pt")
    assert LVDM.missing() == []
    assert [file.name for file in LVDM.absent()] == ["frozen-in-time.pth.tar"]
    assert catalogue.choose("lvdm", "cpu") is LVDM


@pytest.mark.parametrize(("free", "name"), [(12, "lvdm"), (4, "storybook"), (None, "storybook")])
def test_auto_takes_the_paper_s_model_where_the_gpu_has_room_for_it(monkeypatch, free, name):
    put(LVDM, "model_rm_wtm.ckpt", "adapter.pth", "dpt_hybrid-midas.pt")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: free is not None)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (free * 2**30, 24 * 2**30))
    catalogue.gpu_memory.cache_clear()
    assert catalogue.choose("auto", "auto").name == name
    assert catalogue.choose("auto", "cpu").name == "storybook"
    catalogue.gpu_memory.cache_clear()


def test_auto_stays_with_its_model_when_its_own_work_has_filled_the_gpu(monkeypatch):
    put(LVDM, "model_rm_wtm.ckpt", "adapter.pth", "dpt_hybrid-midas.pt")
    free = [12, 1]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (free.pop(0) * 2**30, 24 * 2**30))
    catalogue.gpu_memory.cache_clear()
    assert [catalogue.choose("auto", "auto").name for _ in range(2)] == ["lvdm", "lvdm"]
    catalogue.gpu_memory.cache_clear()


def test_a_model_that_is_not_whole_names_what_it_lacks():
    put(LVDM, "adapter.pth")
    with pytest.raises(StoryError, match=r"not here: model_rm_wtm\.ckpt, dpt_hybrid-midas\.pt") as refused:
        catalogue.choose("lvdm", "cpu")
    assert refused.value.hint == "storycli models pull lvdm"


def test_depth_comes_from_the_network_that_the_model_learnt_with_or_the_one_that_is_asked_for():
    put(LVDM, "dpt_hybrid-midas.pt")
    put(catalogue.OTHERS["depth-anything-v2-small"], "config.json", "model.safetensors")
    assert catalogue.depth_network(None, MODEL).name == "storybook"
    assert catalogue.depth_network(None, LVDM).name == "dpt_hybrid"
    assert catalogue.depth_network("depth_anything_v2_small", LVDM).name == "depth_anything_v2_small"


def test_a_depth_network_that_is_not_here_is_told_with_how_to_get_it():
    with pytest.raises(StoryError, match=r"not here: config\.json, model\.safetensors") as refused:
        catalogue.depth_network("depth_anything_v2_small", MODEL)
    assert refused.value.hint == "storycli models pull depth-anything-v2-small"


def test_depth_is_made_again_for_another_network_and_for_other_weights_of_it():
    put(LVDM, "dpt_hybrid-midas.pt")
    before = catalogue.depth_network("dpt_hybrid", MODEL).identity()
    assert before != catalogue.depth_network("storybook", MODEL).identity()
    (LVDM.folder / "dpt_hybrid-midas.pt").write_bytes(b"others")
    catalogue._digest.cache_clear()
    assert before != catalogue.depth_network("dpt_hybrid", MODEL).identity()


def test_settings_without_wishes_fit_the_model(studio):
    assert stages.model_for(Settings()) is MODEL
