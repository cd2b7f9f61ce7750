"""The published networks, part by part, against the reference implementation with the same weights."""

import golden_weights as golden
import pytest
import torch
import torch.nn.functional as F
from einops import rearrange

from models import autoencoder_kl, depth_net, layers, structure, text
from models.checkpoint import build, fill
from models.unet import LVDM, VideoUNet

KEYS = golden.keys("lvdm")
CLOSE = 1e-5  # relative L2, for parts


def part(network, name, prefix, rename=None):
    """A network with golden weights: the keys under ``prefix`` of a published part."""
    shapes = {key: shape for key, shape in KEYS[name]["keys"].items() if key.startswith(prefix)}
    state = {key.removeprefix(prefix): golden.weight(key, shape) for key, shape in shapes.items()}
    state = {key: tensor[:, :, 0] if tensor.ndim == 5 else tensor for key, tensor in state.items()}
    fill(network, rename(state) if rename else state, "goldens")
    return network.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def modules():
    return golden.load("modules")


def run_resblock(block):
    x = rearrange(3e-3 * golden.randn(50, 1, 320, 2, 4, 4), "b c f h w -> (b f) c h w")
    h = block(x, golden.randn(51, 1, 1280).expand(2, -1), 2)
    return rearrange(h, "(b f) c h w -> b c f h w", b=1)


def run_transformer(block):
    x = rearrange(1e-4 * golden.randn(52, 1, 320, 18, 2, 2), "b c f h w -> (b f) c h w")
    h = block(x, golden.randn(1, 1, 77, 768), None, 18, True)
    return rearrange(h, "(b f) c h w -> b c f h w", b=1)


@pytest.fixture
def resblock():
    return part(build(VideoUNet, LVDM).input_blocks[1][0], "unet", "input_blocks.1.0.")


@pytest.fixture
def transformer():
    return part(build(VideoUNet, LVDM).input_blocks[1][1], "unet", "input_blocks.1.1.")


def test_the_residual_block_is_the_reference_one(resblock, modules):
    assert golden.relative(run_resblock(resblock), modules["resblock_small"]) < CLOSE


def test_the_transformer_is_the_reference_one_with_distances_beyond_its_table(transformer, modules):
    assert golden.relative(run_transformer(transformer), modules["stt_small"]) < CLOSE


def test_temporal_attention_is_the_reference_one(transformer, modules):
    x = rearrange(golden.randn(54, 2, 18, 320), "(b n) f c -> b f n c", b=1)
    out = rearrange(transformer.transformer_blocks[0].attn1_tmp(x), "b f n c -> (b n) f c")
    assert golden.relative(out, modules["temporal_attn1"]) < CLOSE


def test_feed_forward_is_the_reference_one(transformer, modules):
    out = transformer.transformer_blocks[0].ff(golden.randn(58, 1, 4, 320))
    assert golden.relative(out, modules["ff"]) < CLOSE


def test_the_structure_block_is_the_reference_one(modules):
    block = part(structure.StructureBlock(320, 640, down=True), "adapter", "body.2.")
    assert golden.relative(block(golden.randn(64, 1, 320, 4, 4)), modules["adapter_body2"]) < CLOSE


def test_depth_is_unshuffled_as_in_the_reference(modules):
    assert torch.equal(F.pixel_unshuffle(golden.randn(65, 1, 1, 16, 8), 8), modules["pixel_unshuffle8"])


def test_time_is_embedded_as_in_the_reference():
    reference = golden.load("unet")
    sinusoid = layers.timestep_embedding(torch.tensor([500]), 320)
    assert golden.relative(sinusoid, reference["timestep_embedding_500_320"]) < CLOSE
    embedded = part(build(VideoUNet, LVDM).time_embed, "unet", "time_embed.")(sinusoid)
    assert golden.relative(embedded, reference["time_embed_500"]) < CLOSE


# The goldens must notice the mistakes that are easy to make here.


def wrong_eps(block):
    for layer in block.modules():
        if isinstance(layer, torch.nn.GroupNorm):
            layer.eps = 1e-5 if layer.eps == 1e-6 else 1e-6


def norms_in_order_of_execution(block):
    inner = block.transformer_blocks[0]
    inner.norm4, inner.norm2, inner.norm5, inner.norm3 = inner.norm2, inner.norm3, inner.norm4, inner.norm5


def test_goldens_notice_a_wrong_norm_eps(resblock, transformer, modules):
    wrong_eps(resblock)
    wrong_eps(transformer)
    assert golden.relative(run_resblock(resblock), modules["resblock_small"]) > 10 * CLOSE
    assert golden.relative(run_transformer(transformer), modules["stt_small"]) > 10 * CLOSE


def test_goldens_notice_norms_over_single_frames(resblock, transformer, modules, monkeypatch):
    monkeypatch.setattr(layers.ClipGroupNorm, "forward", lambda self, x, f: torch.nn.GroupNorm.forward(self, x))
    assert golden.relative(run_resblock(resblock), modules["resblock_small"]) > 10 * CLOSE
    assert golden.relative(run_transformer(transformer), modules["stt_small"]) > 10 * CLOSE


def test_goldens_notice_swapped_residuals(transformer, modules, monkeypatch):
    def swapped(self, x, context, mask, f, temporal):
        """Each branch is added to the normed input instead of the input."""
        x = self.norm1(x) + self.attn1(self.norm1(x))
        x = x.unflatten(0, (-1, f))
        x = x + self.attn1_tmp(self.norm4(x))
        tokens = x.shape[2]
        x = x.flatten(1, 2)
        x = x + self.attn2(self.norm2(x), context, mask)
        x = x.unflatten(1, (f, tokens))
        x = x + self.attn2_tmp(self.norm5(x))
        x = x.flatten(0, 1)
        return x + self.ff(self.norm3(x))

    monkeypatch.setattr(layers.TransformerBlock, "forward", swapped)
    assert golden.relative(run_transformer(transformer), modules["stt_small"]) > 10 * CLOSE


def test_goldens_notice_norms_taken_in_the_order_of_execution(transformer, modules):
    norms_in_order_of_execution(transformer)
    assert golden.relative(run_transformer(transformer), modules["stt_small"]) > 10 * CLOSE


def test_goldens_notice_an_approximate_gelu(transformer, modules, monkeypatch):
    exact = F.gelu
    monkeypatch.setattr(layers.F, "gelu", lambda x: exact(x, approximate="tanh"))
    assert golden.relative(run_transformer(transformer), modules["stt_small"]) > 2 * CLOSE


def test_goldens_notice_relative_positions_that_are_turned_around(transformer, modules, monkeypatch):
    turned = layers.RelativePosition.forward
    monkeypatch.setattr(layers.RelativePosition, "forward", lambda self, f: turned(self, f).transpose(0, 1))
    assert golden.relative(run_transformer(transformer), modules["stt_small"]) > 10 * CLOSE


# Whole networks


def test_the_unet_has_the_published_keys():
    ours = {key: tensor.shape.numel() for key, tensor in build(VideoUNet, LVDM).state_dict().items()}
    assert ours == {key: torch.Size(shape).numel() for key, shape in KEYS["unet"]["keys"].items()}


@pytest.fixture(scope="module")
def structure_features():
    encoder = part(build(structure.StructureEncoder, structure.LVDM), "adapter", "")
    depth = rearrange(golden.uniform(2, 16, 1, 128, 128), "(b f) c h w -> b c f h w", b=1)
    return encoder(depth)


def test_the_structure_encoder_gives_the_reference_features(structure_features):
    reference = golden.load("unet")
    feature0, feature1, feature2, feature3 = structure_features
    assert golden.relative(feature3, reference["adapter_b_feat3"]) < CLOSE
    assert golden.relative(feature0[:, :8, :2], reference["adapter_b_feat0_slice"]) < CLOSE
    assert golden.relative(feature1[:, ::80, ::5], reference["adapter_b_feat1_slice"]) < CLOSE
    assert golden.relative(feature2[:, ::160, ::5], reference["adapter_b_feat2_slice"]) < CLOSE


@pytest.fixture(scope="module")
def autoencoder():
    return part(build(autoencoder_kl.FrameAutoencoder).model, "first_stage_model", "", autoencoder_kl.from_published)


@pytest.fixture(scope="module")
def frames(autoencoder):
    network = build(autoencoder_kl.FrameAutoencoder)
    network.model = autoencoder
    return network


def test_the_autoencoder_gives_the_reference_latents_and_pixels(frames):
    reference = golden.load("vae")
    z = golden.randn(3, 1, 4, 1, 16, 16)
    pixels = frames.decode(z * autoencoder_kl.SCALE)[:, :, 0]
    assert golden.relative(pixels, reference["vae_decode"]) < CLOSE
    mean = frames.encode(golden.uniform(4, 1, 3, 1, 128, 128))[:, :, 0] / autoencoder_kl.SCALE
    assert golden.relative(mean, reference["vae_encode_mean"]) < CLOSE


def test_the_autoencoder_takes_every_frame_as_an_image(frames):
    video = golden.uniform(7, 2, 3, 3, 16, 16)
    together = frames.encode(video)
    assert together.shape == (2, 4, 3, 2, 2)
    torch.testing.assert_close(together[1:, :, 2:], frames.encode(video[1:, :, 2:]))
    assert frames.decode(together[:1, :, :2]).shape == (1, 3, 2, 16, 16)


def test_the_autoencoder_can_draw_from_its_posterior(frames):
    video = golden.uniform(8, 1, 3, 1, 16, 16)
    mean, drawn, again = (
        frames.encode(video),
        *(frames.encode(video, torch.Generator().manual_seed(0)) for _ in range(2)),
    )
    assert torch.equal(drawn, again)
    assert not torch.allclose(mean, drawn)


@torch.no_grad()
def test_large_frames_are_coded_in_tiles_that_overlap(monkeypatch):
    monkeypatch.setattr(autoencoder_kl, "TILE", 64)
    torch.manual_seed(0)
    small = autoencoder_kl.FrameAutoencoder((32, 32, 32, 32)).eval()
    z = golden.randn(9, 1, 4, 2, 12, 12)
    pixels = small.decode(z)
    assert pixels.shape == (1, 3, 2, 96, 96)
    alone = small.decode(z[..., :8, :8])
    torch.testing.assert_close(pixels[..., :48, :48], alone[..., :48, :48])  # a quarter of a tile is shared
    assert not torch.allclose(pixels[..., 48:64, :48], alone[..., 48:64, :48])
    assert small.encode(pixels).shape == z.shape


@pytest.fixture(scope="module")
def clip():
    network = build(text.ClipText)
    prefix = "transformer.text_model."
    shapes = {k: s for k, s in KEYS["cond_stage_model"]["keys"].items() if not k.endswith("position_ids")}
    fill(network.model, {k.removeprefix(prefix): golden.weight(k, s) for k, s in shapes.items()}, "goldens")
    return network.requires_grad_(False)


def test_clip_gives_the_reference_states(clip):
    reference = golden.load("clip")
    states = clip.encode(reference["input_ids"].long())
    assert states.shape == (3, 77, 768)
    assert golden.relative(states[:, [0, 1, 2, 3, 8, 20, 76]], reference["out_rows"]) < CLOSE


def test_clip_states_from_embeddings_are_those_from_ids_and_pass_gradients(clip):
    ids, _, where = clip.tokenize_words(["a <new1> runs"], ["<new1>"])
    assert torch.equal(clip.encode(ids), clip.encode(ids, inputs_embeds=clip.embed(ids)))
    vector = torch.zeros(768, requires_grad=True)
    states = clip.encode(ids, inputs_embeds=text.put(clip.embed(ids), where["<new1>"], vector))
    states[:, 5].sum().backward()
    assert vector.grad.norm() > 0


MIDAS = golden.keys("midas")


@pytest.fixture(scope="module")
def midas():
    """dpt_hybrid with golden weights, and 12 added before the last ReLU, which would zero almost all."""
    network = build(depth_net.DptHybrid)
    state = golden.weights(MIDAS["state_dict"])
    network.bias = state["scratch.output_conv.4.bias"].item()
    state["scratch.output_conv.4.bias"] = torch.tensor([12.0])
    fill(network.model, depth_net.from_midas(state), "goldens")
    return network.requires_grad_(False)


def test_midas_names_become_the_names_of_transformers():
    expected = golden.keys("midas_to_transformers")["map"]
    for key, names in expected.items():
        renamed = depth_net.from_midas({key: torch.zeros(3)})
        assert list(renamed) == ([] if names is None else names if isinstance(names, list) else [names])


def test_dpt_hybrid_is_the_reference_one_layer_by_layer(midas):
    reference = golden.load("midas")
    seen = {}

    def watch(name, layer):
        layer.register_forward_hook(lambda _, __, out: seen.update({name: out[0] if isinstance(out, tuple) else out}))

    dpt = midas.model.dpt
    watch("stem_384", dpt.embeddings.backbone.bit.embedder)
    watch("block0_384", dpt.encoder.layer[0])
    watch("block11_384", dpt.encoder.layer[11])
    watch("path_4_384", midas.model.neck.fusion_stage.layers[0])
    watch("path_1_384", midas.model.neck.fusion_stage.layers[3])
    watch("prerelu", midas.model.head.head[4])
    depth = midas.inverse_depth(golden.randn(5, 1, 3, 384, 384))[0]

    torch.testing.assert_close(depth[::6, ::6], reference["outB_384_s6"], rtol=0, atol=2e-3)
    prerelu = seen["prerelu"][0, 0] - 12 + midas.bias
    torch.testing.assert_close(prerelu[::6, ::6], reference["prerelu_384_s6"], rtol=0, atol=2e-3)
    for name in ("block0_384", "block11_384"):
        assert golden.relative(seen[name][0, [0, 1, 24, 25, -1], ::8], reference[name]) < 1e-4, name
    for name in ("stem_384", "path_4_384", "path_1_384"):
        steps = [max(1, side // 8) for side in seen[name][0].shape]
        strided = seen[name][0][:: steps[0], :: steps[1], :: steps[2]]
        assert golden.relative(strided, reference[name]) < 1e-4, name


def test_dpt_hybrid_refuses_other_sizes(midas):
    with pytest.raises(ValueError, match="384x384"):
        midas.inverse_depth(torch.zeros(1, 3, 384, 512))


class Luminance(torch.nn.Module):
    """The goldens' stub depth network; remembers what it saw."""

    prepare = depth_net.DptHybrid.prepare
    SIZE = depth_net.DptHybrid.SIZE

    def inverse_depth(self, frames):
        self.frames = frames
        return 3 * (torch.tensor([0.299, 0.587, 0.114]) * frames.movedim(1, -1)).sum(-1) + 10


def test_video_is_prepared_and_depth_scaled_per_frame_as_in_the_reference(modules):
    network = Luminance()
    depth = depth_net.estimate(network, golden.uniform(66, 1, 3, 3, 32, 48))
    torch.testing.assert_close(
        network.frames[0][:, ::48][:, :8], modules["midas_input_lastframe_rows"], rtol=0, atol=1e-5
    )
    assert golden.relative(2 * depth_net.scale_frames(depth) - 1, modules["depth_norm"]) < CLOSE


def test_flat_depth_is_far_everywhere(modules):
    flat = torch.zeros(1, 1, 1, 32, 48)
    assert torch.equal(2 * depth_net.scale_frames(flat) - 1, modules["depth_norm_flat"])
    assert not depth_net.scale_clip(flat).any()


def test_clip_scaling_keeps_equal_depth_equal_across_frames_and_frame_scaling_does_not():
    depth = torch.stack([torch.full((4, 4), 2.0), torch.full((4, 4), 2.0)])[None, None]
    depth[0, 0, :, 0, 0] = 0.0
    depth[0, 0, 1, 3, 3] = 8.0
    clip, frames = depth_net.scale_clip(depth), depth_net.scale_frames(depth)
    assert clip[0, 0, 0, 1, 1] == clip[0, 0, 1, 1, 1] == pytest.approx(0.25)
    assert frames[0, 0, 0, 1, 1] == pytest.approx(1)
    assert frames[0, 0, 1, 1, 1] == pytest.approx(0.25)


def test_clip_scaling_can_ignore_outliers():
    depth = torch.arange(1000.0).reshape(1, 1, 10, 10, 10)
    depth[0, 0, 0, 0, 0], depth[0, 0, 9, 9, 9] = -1e6, 1e6
    scaled = depth_net.scale_clip(depth, cut=0.01)
    assert scaled.amin() == 0
    assert scaled.amax() == 1
    assert scaled[0, 0, 5, 0, 0] == pytest.approx(0.5, abs=0.01)
