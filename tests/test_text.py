"""Text encoders: ids as the reference has them, pseudo-words in their places, gradients to their vectors."""

import golden_weights as golden
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from models.checkpoint import build
from models.text import (
    ClipText,
    bert_tokenizer,
    clip_tokenizer,
    mean_pool,
    minilm_folder,
    package_folder,
    put,
)
from models.weights import load_minilm

CAT, HAT = "<new1>", "<new2>"


@pytest.fixture(scope="module")
def minilm():
    return load_minilm()


@pytest.fixture(scope="module")
def clip():
    """CLIP without weights: enough to tokenize."""
    return build(ClipText)


@pytest.fixture(params=["minilm", "clip"])
def text(request):
    return request.getfixturevalue(request.param)


def test_clip_ids_are_the_reference_ones_padded_with_the_end_token(clip):
    ids, mask = clip.tokenize(["astronaut riding a horse", "", "An ostrich walking in the desert, photorealistic, 4k"])
    assert torch.equal(ids, golden.load("clip")["input_ids"].long())
    assert mask is None


def test_clip_reads_a_tokenizer_from_a_folder(tmp_path):
    clip_tokenizer().save_pretrained(tmp_path)
    ids, _ = build(ClipText, tokenizer_dir=tmp_path).tokenize(["a horse"])
    assert ids[0, :5].tolist() == [49406, 320, 4558, 49407, 49407]


def test_the_bert_vocabulary_is_whole_and_its_words_known():
    tokenizer = bert_tokenizer()
    assert len(tokenizer) == 30522
    assert tokenizer.encode("A Caf\N{LATIN SMALL LETTER E WITH ACUTE}.") == [101, 1037, 7668, 1012, 102]


def test_a_bert_vocabulary_of_another_size_is_refused(tmp_path):
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\n")
    with pytest.raises(ValueError, match="has 6 entries"):
        bert_tokenizer(tmp_path / "vocab.txt")


def test_minilm_gives_the_states_of_transformers_own_loader(minilm):
    prompts = ["A dog is running.", "Snow falls over an old town while two children build a snowman"]
    tokenizer = AutoTokenizer.from_pretrained(minilm_folder())
    tokens = tokenizer(prompts, padding="max_length", truncation=True, max_length=24, return_tensors="pt")
    ids, mask = minilm.tokenize(prompts)
    assert torch.equal(ids, tokens["input_ids"])
    assert torch.equal(mask, tokens["attention_mask"].bool())
    with torch.no_grad():
        expected = AutoModel.from_pretrained(minilm_folder()).eval()(**tokens).last_hidden_state
        torch.testing.assert_close(minilm.encode(ids, mask)[mask], expected[mask])


def test_minilm_knows_what_is_near_what(minilm):
    ids, mask = minilm.tokenize(["a dog", "a puppy", "stock prices fell"])
    dog, puppy, stocks = mean_pool(minilm.encode(ids, mask), mask)
    assert dog.norm().item() == pytest.approx(1)
    assert dog @ puppy > 0.5
    assert dog @ stocks < 0.2


def test_padding_does_not_change_a_sentence(minilm):
    ids, mask = minilm.tokenize(["a dog runs"])
    words = int(mask.sum())
    padded, exact = minilm.encode(ids, mask), minilm.encode(ids[:, :words], mask[:, :words])
    torch.testing.assert_close(padded[:, :words], exact, rtol=1e-4, atol=1e-5)
    assert padded.shape[1] == 24 and not padded[:, words:].any()
    torch.testing.assert_close(mean_pool(padded, mask), mean_pool(exact, mask[:, :words]), rtol=1e-4, atol=1e-5)


def test_a_pseudo_word_is_one_token_where_it_stands(text):
    ids, _, where = text.tokenize_words(["a cat, in snow", f"a {CAT}, in {HAT} {CAT}'s", "snow"], [CAT, HAT])
    plain, _ = text.tokenize(["a cat, in snow"])
    assert torch.equal(ids[0], plain[0])
    assert where[CAT].nonzero().tolist() == [[1, 2], [1, 6]]
    assert where[HAT].nonzero().tolist() == [[1, 5]]
    others = [0, 1, 3, 4]
    assert torch.equal(ids[1, others], plain[0, others])


def test_long_prompts_are_cut_and_still_end(text):
    ids, mask = text.tokenize(["snow " * 100])
    start, end = text.tokenizer.encode("")
    snow = text.tokenizer.encode("snow", add_special_tokens=False)
    assert ids[0].tolist() == [start, *snow * (text.num_tokens - 2), end]
    assert mask is None or mask.all()


def test_a_pseudo_word_that_would_be_cut_off_is_an_error(text):
    last = "snow " * (text.num_tokens - 3)
    _, _, where = text.tokenize_words([last + CAT], [CAT])
    assert where[CAT][0, text.num_tokens - 2]
    with pytest.raises(ValueError, match=f"too long: {CAT}"):
        text.tokenize_words([last + "snow " + CAT], [CAT])


def test_gradients_reach_the_vector_of_a_pseudo_word_and_nothing_else(minilm):
    ids, mask, where = minilm.tokenize_words([f"a {CAT} runs", "a dog runs"], [CAT])
    vector = minilm.embed(torch.tensor(bert_tokenizer().convert_tokens_to_ids("dog"))).clone().requires_grad_()
    states = minilm.encode(ids, mask, inputs_embeds=put(minilm.embed(ids), where[CAT], vector))
    torch.testing.assert_close(states[0], states[1])  # the word's vector is that of "dog"
    states[1].sum().backward(retain_graph=True)
    assert not vector.grad.any()
    states[0, 3].square().sum().backward()
    assert vector.grad.norm() > 0
    assert all(parameter.grad is None for parameter in minilm.parameters())


def test_every_prompt_of_a_batch_can_have_its_own_vector():
    embeds, where = torch.zeros(2, 3, 4), torch.tensor([[False, True, False], [True, False, True]])
    vectors = torch.tensor([[1.0] * 4, [2.0] * 4])
    assert put(embeds, where, vectors)[..., 0].tolist() == [[0, 1, 0], [2, 0, 2]]


def test_a_missing_package_is_named():
    with pytest.raises(ModuleNotFoundError, match="no_such_tokenizers"):
        package_folder("no_such_tokenizers")


def test_clip_refuses_a_mask(clip):
    with pytest.raises(ValueError, match="no mask"):
        clip.encode(torch.zeros(1, 77, dtype=torch.long), torch.ones(1, 77, dtype=torch.bool))
