"""The storybook autoencoder and upscaler: linear start, shapes, normalised latents, files."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from models.autoencoder import AutoencoderConfig, StorybookAutoencoder
from models.upscaler import Upscaler, UpscalerConfig
from models.weights import load, save
from storycli.training import autoencoder as train_autoencoder
from storycli.training import upscaler as train_upscaler
from storycli.training.fit import FitSettings

WEIGHTS = Path(__file__).parents[1] / "models" / "weights"
SMALL = AutoencoderConfig(latent_channels=4, encoder_channels=(8, 16), decoder_channels=(8, 8, 16))


def pictures(count: int = 6, size: int = 32) -> torch.Tensor:
    """Smooth random pictures (n, 3, size, size) in [-1, 1]."""
    noise = torch.randn(count, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    return F.interpolate(noise, (size, size), mode="bilinear").clamp(-1, 1)


def trained_a_little(images: torch.Tensor) -> StorybookAutoencoder:
    """A network whose corrections are not zero."""
    torch.manual_seed(1)
    network = StorybookAutoencoder(SMALL)
    network.init_linear(images)
    for last in (network.encoder[-1], network.decoder[-2]):
        torch.nn.init.normal_(last.weight, std=0.05)
    return network.eval()


@torch.no_grad()
def test_before_training_it_is_the_projection_on_principal_components() -> None:
    images = pictures()
    network = StorybookAutoencoder(SMALL)
    network.init_linear(images)
    network.eval()
    blocks = images.unfold(2, 8, 8).unfold(3, 8, 8).permute(0, 2, 3, 1, 4, 5).reshape(-1, 192).double()
    mean = blocks.mean(0)
    components = torch.linalg.svd(blocks - mean, full_matrices=False).Vh[:4]
    projected = (blocks - mean) @ components.T @ components
    expected = projected.reshape(6, 4, 4, 3, 8, 8).permute(0, 3, 1, 4, 2, 5).reshape(6, 3, 32, 32)
    # The transposed convolution has one bias per colour, so the mean block is kept only as its mean colour.
    colour = mean.reshape(3, 64).mean(1)[:, None, None]
    torch.testing.assert_close(network.decode(network.encode(images)), (expected + colour).float(), atol=1e-4, rtol=0)


@torch.no_grad()
def test_before_training_latents_are_uncorrelated_with_unit_variance() -> None:
    images = pictures()
    network = StorybookAutoencoder(SMALL)
    network.init_linear(images)
    latents = network.encode(images).permute(1, 0, 2, 3).flatten(1)
    torch.testing.assert_close(torch.cov(latents), torch.eye(4), atol=1e-3, rtol=0)


@torch.no_grad()
def test_normalised_latents_have_zero_mean_and_unit_variance_and_decode_alike() -> None:
    images = pictures()
    network = trained_a_little(images)
    before = network.decode(network.encode(images))
    network.latent_mean.fill_(0.3)
    network.latent_std.fill_(2.0)
    network.normalise(images)
    latents = network.encode(images)
    torch.testing.assert_close(latents.mean((0, 2, 3)), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(latents.std((0, 2, 3)), torch.ones(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(network.decode(latents), before, atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_video_is_coded_frame_by_frame() -> None:
    images = pictures()
    network = trained_a_little(images)
    video = images.reshape(2, 3, 3, 32, 32).transpose(1, 2)
    latents = network.encode(video)
    assert latents.shape == (2, 4, 3, 4, 4)
    torch.testing.assert_close(latents[1, :, 2], network.encode(images[5:])[0], atol=1e-5, rtol=1e-5)
    decoded = network.decode(latents)
    assert decoded.shape == video.shape
    torch.testing.assert_close(decoded[0, :, 1], network.decode(latents[:1, :, 1])[0], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_saved_autoencoder_gives_the_same_pixels(tmp_path: Path) -> None:
    images = pictures()
    network = trained_a_little(images)
    network.normalise(images)
    save(network, tmp_path / "a.safetensors", network.config)
    again = load(tmp_path / "a.safetensors", StorybookAutoencoder, AutoencoderConfig)
    assert again.config == SMALL
    torch.testing.assert_close(
        again.decode(again.encode(images)), network.decode(network.encode(images)), atol=0, rtol=0
    )


def test_training_betters_the_linear_codec_and_saves_what_it_learnt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stills(world, seeds, split="train"):
        images = pictures(8)
        start = seeds.start % 7
        return images[start : start + 2], (images[start : start + 2, :1] > 0).float()

    monkeypatch.setattr(train_autoencoder, "World", lambda assets, tier: None)
    monkeypatch.setattr(train_autoencoder, "stills", stills)
    monkeypatch.setattr(train_autoencoder, "CROP", 24)
    settings = FitSettings(samples=240, batch_size=4, learning_rate=3e-3, warmup=20, average_over=40)
    out = tmp_path / "a.safetensors"
    trained = train_autoencoder.train(tmp_path, out, settings=settings, config=SMALL)
    linear = StorybookAutoencoder(SMALL)
    linear.init_linear(stills(None, range(2 * 10**8, 0))[0])
    images = pictures(8)
    assert train_autoencoder.psnr(trained, images) > train_autoencoder.psnr(linear, images) + 0.5
    again = load(out, StorybookAutoencoder, AutoencoderConfig)
    torch.testing.assert_close(again.encode(images), trained.encode(images), atol=0.02, rtol=0)  # half precision
    assert not list(tmp_path.glob("*.ckpt"))


@torch.no_grad()
def test_an_untrained_upscaler_is_bicubic() -> None:
    images = pictures()
    expected = F.interpolate(images, scale_factor=4, mode="bicubic", align_corners=False)
    torch.testing.assert_close(Upscaler()(images), expected, atol=0, rtol=0)


def test_training_an_upscaler_betters_bicubic_and_saves_what_it_learnt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = (255 * pictures(8, 48).gt(0)).byte().permute(0, 2, 3, 1).numpy()
    high = train_upscaler.pixels(drawn)
    small = F.avg_pool2d(high, 2)
    monkeypatch.setattr(train_upscaler, "World", lambda assets, size=0: None)
    monkeypatch.setattr(train_upscaler, "pairs", lambda *_: (small, drawn))
    monkeypatch.setattr(train_upscaler, "decoded", lambda autoencoder, z: z)
    monkeypatch.setattr(train_upscaler, "BLUR", (0.2, 0.4))
    monkeypatch.setattr(train_upscaler, "LATENT_NOISE", 0.02)
    monkeypatch.setattr(train_upscaler, "CROP", 16)
    settings = FitSettings(samples=1200, batch_size=4, learning_rate=5e-3, warmup=20, average_over=40)
    sizes, out = UpscalerConfig(factor=2, channels=16, blocks=1), tmp_path / "u.safetensors"
    trained = train_upscaler.train(tmp_path, StorybookAutoencoder(SMALL), out, settings=settings, config=sizes)
    with torch.no_grad():
        before, after = ((network(small) - high).abs().mean() for network in (Upscaler(sizes), trained))
    assert after < 0.85 * before
    assert load(out, Upscaler, UpscalerConfig).config == sizes
    still = FitSettings(samples=8, batch_size=4, learning_rate=0.0)
    again = train_upscaler.train(tmp_path, StorybookAutoencoder(SMALL), tmp_path / "v", settings=still, start=out)
    with torch.no_grad():
        torch.testing.assert_close(again(small), trained(small), atol=0.01, rtol=0)  # half precision
    assert not list(tmp_path.glob("*.ckpt"))


@torch.no_grad()
def test_an_upscaler_treats_frames_alone() -> None:
    network = Upscaler(UpscalerConfig(factor=2, channels=8, blocks=1))
    torch.nn.init.normal_(network.last.weight, std=0.05)
    video = pictures().reshape(2, 3, 3, 32, 32).transpose(1, 2)
    upscaled = network(video)
    assert upscaled.shape == (2, 3, 3, 64, 64)
    torch.testing.assert_close(upscaled[1, :, 2], network(video[1:, :, 2])[0], atol=1e-5, rtol=1e-5)


@pytest.fixture(scope="module")
def film_frames() -> torch.Tensor:
    """Frames of the clips that ship with the tool, at the model's size: (n, 3, 128, 128)."""
    from storycli.config import EXAMPLES
    from storycli.media import video

    clips = sorted((EXAMPLES / "clips").glob("walk-*.mp4"))[:2]
    frames = [video.read(clip, indices=[0, 8, 16], size=(128, 128)) for clip in clips]
    return torch.cat([torch.from_numpy(part.copy()) for part in frames]).permute(0, 3, 1, 2).float() / 127.5 - 1


def psnr(images: torch.Tensor, truth: torch.Tensor) -> float:
    return float(10 * torch.log10(4 / (images.clamp(-1, 1) - truth).square().mean()))


@torch.no_grad()
def test_the_built_in_autoencoder_keeps_the_picture(film_frames: torch.Tensor) -> None:
    network = load(WEIGHTS / "storybook-autoencoder.safetensors", StorybookAutoencoder, AutoencoderConfig)
    latents = network.encode(film_frames)
    assert latents.shape == (6, 8, 16, 16)
    assert 0.6 < latents.std() < 1.5
    assert psnr(network.decode(latents), film_frames) > 27


@torch.no_grad()
def test_the_built_in_upscaler_is_sharper_than_bicubic_and_as_faithful(film_frames: torch.Tensor) -> None:
    autoencoder = load(WEIGHTS / "storybook-autoencoder.safetensors", StorybookAutoencoder, AutoencoderConfig)
    network = load(WEIGHTS / "storybook-upscaler.safetensors", Upscaler, UpscalerConfig)
    decoded = autoencoder.decode(autoencoder.encode(film_frames)).clamp(-1, 1)
    upscaled = network(decoded)
    bicubic = F.interpolate(decoded, scale_factor=4, mode="bicubic", align_corners=False)
    assert steepness(upscaled) > 1.15 * steepness(bicubic)
    small = F.avg_pool2d(upscaled, 4)
    assert psnr(small, film_frames) > psnr(decoded, film_frames) - 0.3
    assert upscaled.abs().max() < 1.3  # no ringing beyond black and white


def steepness(images: torch.Tensor) -> float:
    """A mean of steps between neighbours that the steep ones rule."""
    return float(images.diff(dim=-1).pow(4).mean() ** 0.25)
