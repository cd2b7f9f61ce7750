"""Several characters in one clip, each confined to its region."""

import pytest
import torch
import torch.nn.functional as F
from tiny import UNET, randomise, video_model
from torch import nn
from torch._dynamo.testing import CompileCounter

from models.confined import ConfinedConvolution, Regions, confinable, confined, standing_apart
from models.personal import TimeInv, convolutions, modulated, projections
from models.unet import VideoUNet
from storycli.characters.personal import Personal
from storycli.errors import StoryError
from storycli.render import line_of, sample

CELLS = (8, 8)
FIRST = "input_blocks.1.1.transformer_blocks.0.attn2"


@pytest.fixture(scope="module")
def unet():
    return randomise(VideoUNet(UNET)).eval().requires_grad_(False)


def inputs(b=2, f=2):
    g = torch.Generator().manual_seed(0)
    return torch.randn(b, 4, f, *CELLS, generator=g), torch.full((b,), 300), torch.randn(b, 5, 384, generator=g)


def branches(unet, seed, layers=projections):
    """A character that changes some layers: every projection, unless told otherwise."""
    g, tensors = torch.Generator().manual_seed(seed), {}
    for name in layers(unet):
        wide, *inner = unet.get_submodule(name).weight.shape
        tensors[f"{name}.up"] = torch.randn(wide, 1, *[1] * len(inner[1:]), generator=g)
        tensors[f"{name}.down"] = torch.randn(1, *inner, generator=g) / len(inner) ** 2
    return tensors


def everywhere(unet):
    return projections(unet) + convolutions(unet)


def regions(shares, contexts, now=300):
    whole = Regions(shares=shares, contexts={now: contexts}, masks=None)
    whole.turn_to(now)
    return whole


def test_a_character_that_has_the_whole_picture_is_as_if_it_were_alone(unet):
    x, t, context = inputs()
    cast = [branches(unet, 1, everywhere), branches(unet, 2, everywhere)]
    shares = torch.stack([torch.ones(2, *CELLS), torch.zeros(2, *CELLS)])
    other = torch.randn(context.shape, generator=torch.Generator().manual_seed(5))
    with modulated(unet, cast[0]):
        alone = unet(x, t, context)
    with confined(unet, cast, regions(shares, torch.stack([context, other]))):
        together = unet(x, t, context)
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


def test_words_and_weights_act_in_their_own_region_only(unet):
    """The first layers see it exactly; later ones mix places by convolution, as they do everything."""
    x, t, context = inputs()
    attention = unet.get_submodule(FIRST)
    shares = torch.zeros(2, 2, *CELLS)
    shares[0, :, :, :4], shares[1, :, :, 4:] = 1, 1
    seen = []

    def note(module, args, out):
        seen.append(out)

    for seeds, words in (((1, 2), (context, -context)), ((1, 3), (context, 2 * context))):
        with confined(unet, [branches(unet, seed) for seed in seeds], regions(shares, torch.stack(words))):
            hook = unet.get_submodule(FIRST).register_forward_hook(note)
            unet(x, t, context)
            hook.remove()
    first, second = (out.unflatten(1, (2, *CELLS)) for out in seen)
    torch.testing.assert_close(first[:, :, :, :4], second[:, :, :, :4])
    assert (first[:, :, :, 4:] - second[:, :, :, 4:]).abs().amin((0, 1, 2, 4)).min() > 0
    assert unet.get_submodule(FIRST) is attention


def test_a_place_is_drawn_by_whoever_has_it():
    g = torch.Generator().manual_seed(0)
    convolution, x = nn.Conv2d(3, 5, 3, padding=1), torch.randn(4, 3, *CELLS, generator=g)
    weights = [torch.randn(5, 3, 3, 3, generator=g) for _ in range(2)]
    shares = torch.zeros(2, 2, 16, 16)  # of two frames, twice as fine
    shares[0, 0], shares[1, 1, :, :8], shares[0, 1, :, 8:] = 1, 1, 1
    both = ConfinedConvolution(convolution, weights, regions(shares, torch.zeros(2, 2, 5, 384)))(x)
    first, second = (F.conv2d(x, weight, convolution.bias, padding=1) for weight in weights)
    torch.testing.assert_close(both[0::2], first[0::2])
    torch.testing.assert_close(both[1::2, :, :, :4], second[1::2, :, :, :4])
    torch.testing.assert_close(both[1::2, :, :, 4:], first[1::2, :, :, 4:])


def test_convolutions_that_nobody_changes_are_left_alone(unet):
    halves = regions(torch.full((2, 2, *CELLS), 0.5), torch.zeros(2, 2, 5, 384))
    plain = [unet.get_submodule(name) for name in convolutions(unet)]
    with confined(unet, [branches(unet, 1), branches(unet, 2)], halves):
        assert [unet.get_submodule(name) for name in convolutions(unet)] == plain
    with confined(unet, [branches(unet, 1), branches(unet, 2, everywhere)], halves):
        assert all(isinstance(unet.get_submodule(name), ConfinedConvolution) for name in convolutions(unet))


def test_afterwards_the_network_is_what_it_was(unet):
    before, modules = {k: v.clone() for k, v in unet.state_dict().items()}, dict(unet.named_modules())
    halves = regions(torch.full((2, 2, *CELLS), 0.5), torch.zeros(2, 2, 5, 384))
    cast = [branches(unet, 1, everywhere), branches(unet, 2, everywhere)]
    with pytest.raises(RuntimeError, match="on the way"), confined(unet, cast, halves):
        raise RuntimeError("on the way")
    assert dict(unet.named_modules()) == modules
    assert all(torch.equal(before[key], value) for key, value in unet.state_dict().items())


def figures(*lefts, frames=3, shift=0, width=12):
    """Depth with figures before flat ground, which all move by ``shift`` pixels a frame."""
    depth = torch.full((1, 1, frames, 64, 64), 0.3)
    for frame in range(frames):
        for left in lefts:
            start = left + shift * frame
            depth[0, 0, frame, 20:60, start : start + width] = 0.9
    return depth


def test_two_figures_share_the_picture_between_them():
    shares = standing_apart(figures(8, 44), 2, CELLS)
    torch.testing.assert_close(shares.sum(0), torch.ones(3, *CELLS))
    assert (shares[0, :, :, :3] > 0.9).all() and (shares[1, :, :, 5:] > 0.9).all()


def test_regions_follow_their_figures():
    shares = standing_apart(figures(0, 24, frames=8, shift=4), 2, CELLS)
    borders = (shares[0] > 0.5).sum(-1)[:, 0]  # of columns that belong to the first
    assert borders[0] in (2, 3) and borders[-1] in (5, 6)
    assert (borders.diff() >= 0).all()


def test_figures_that_fill_most_of_the_picture_share_it_where_they_meet():
    shares = standing_apart(figures(0, 21, width=20), 2, CELLS)
    assert (shares[0, 0, 0] > 0.5).sum() == 3


def test_three_figures_have_three_regions():
    shares = standing_apart(figures(2, 26, 50), 3, CELLS)
    assert [shares[:, 0, 0, column].argmax().item() for column in (0, 4, 7)] == [0, 1, 2]


@pytest.mark.parametrize(
    ("prompt", "first", "second"),
    [
        ("{a} and {b} dancing", "{a} dancing", "{b} dancing"),
        ("a {a} with a {b} in the snow", "a {a} in the snow", "a {b} in the snow"),
        ("the {a} next to the {b}", "the {a}", "the {b}"),
        ("{a} meets {b}", "{a} meets", "meets {b}"),
    ],
)
def test_each_character_reads_a_prompt_without_the_other(prompt, first, second):
    assert " ".join(line_of("a", prompt).split()) == first
    assert " ".join(line_of("b", prompt).split()) == second


def character(unet, seed, class_word):
    word = TimeInv(torch.randn(384, generator=torch.Generator().manual_seed(seed)), rows=2).requires_grad_(False)
    return Personal(class_word=class_word, word=word, tensors=branches(unet, seed, everywhere))


def test_two_characters_in_a_clip_differ_from_one_and_from_each_other_in_exchanged_places():
    model, options = video_model(), {"seed": 0, "steps": 3, "guidance": 3.0, "tau": 0.0}
    teddy, cat = character(model.unet, 1, "bear"), character(model.unet, 2, "cat")
    depth = figures(8, 44)
    both = sample(model, "{teddy} and {cat} dancing", depth, cast={"teddy": teddy, "cat": cat}, **options)
    again = sample(model, "{teddy} and {cat} dancing", depth, cast={"teddy": teddy, "cat": cat}, **options)
    exchanged = sample(model, "{teddy} and {cat} dancing", depth, cast={"cat": cat, "teddy": teddy}, **options)
    assert both.shape == (1, 4, 3, 8, 8) and torch.equal(both, again)
    assert not torch.allclose(both, exchanged)


def test_steps_of_two_characters_are_compiled_once():
    model, cast = video_model(), {}
    for seed, name in enumerate(("teddy", "cat")):
        cast[name] = character(model.unet, seed, name)
    compiled = CompileCounter()
    model.unet.compile(backend=compiled)
    torch._dynamo.reset()
    options = {"seed": 0, "guidance": 3.0, "tau": 0.0, "cast": cast}
    sample(model, "{teddy} and {cat} dancing", figures(8, 44), steps=2, **options)
    sample(model, "{teddy} and {cat} dancing", figures(8, 44), steps=6, **options)
    assert compiled.frame_count == 1


def test_a_character_that_changes_everything_cannot_share_a_clip():
    model = video_model()
    teddy, cat = character(model.unet, 1, "bear"), character(model.unet, 2, "cat")
    everything = {name: parameter.data for name, parameter in model.unet.named_parameters()}
    assert confinable(model.unet, cat.tensors) and not confinable(model.unet, everything)
    whole = Personal(class_word="bear", word=teddy.word, tensors=everything)
    with pytest.raises(StoryError, match="teddy changes the whole network"):
        sample(
            model, "{teddy} and {cat}", figures(8, 44), cast={"teddy": whole, "cat": cat},
            seed=0, steps=2, guidance=3.0, tau=0.0,
        )  # fmt: skip
