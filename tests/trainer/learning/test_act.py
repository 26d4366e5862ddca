"""From examples to compressed texts, with a real compressor of one layer."""

from functools import partial

import numpy as np
import pytest
import torch

from trainer.learning.act import (
    deploy_batch,
    deployed_masks,
    locked_batch,
    mask_policy,
    sample_batch,
)
from trainer.learning.prepared import chunks_of, prepare_batch
from trainer.learning.sampled import describe_draws
from trainer.policy.compressor import PromptCompressorReinforce, word_keep_probs
from trainer.policy.contexts import ContextFilter, Target
from trainer.policy.inference import compress
from trainer.policy.sampling import uniform_noise
from trainer.policy.words import CompressionOptions
from trainer.tasks.data import load_examples
from trainer.types import Example, Question

NOISE = partial(uniform_noise, 0, 1)
SAMPLES = 3
TARGET = Target(rate=0.4)


@pytest.fixture(scope="module")
def compressor(base):
    """Loaded once; nothing here changes it."""
    return PromptCompressorReinforce(str(base), "cpu", length_tokenizer="policy")


@pytest.fixture(scope="module")
def examples(meetings):
    """Meetings of 75 to 86 words."""
    return load_examples(meetings)


def example(*contexts, id_="x"):
    """An example of these contexts."""
    return Example(id_, contexts, (Question(None, "x"),))


def act(compressor, examples, *, sampler="rate_held", options=None, target=TARGET, size=512):
    """Prepare and sample a batch: (prepared, policy, sampled)."""
    segmenter = compressor.segmenter(options or CompressionOptions(), size)
    prepared = prepare_batch(examples, compressor, segmenter, [target] * len(examples), None)
    pad = compressor.tokenizer.pad_token_id
    probs = word_keep_probs(compressor.model, chunks_of(prepared), pad, "cpu")
    policy = mask_policy(*probs, prepared, sampler)
    return (
        prepared,
        policy,
        sample_batch(policy, prepared, segmenter, NOISE, SAMPLES, [None] * len(prepared)),
    )


def test_given_masks_are_worth_what_drawn_ones_are(compressor, examples):
    """The texts, and log-probs under the policy of the moment: here of what it drew itself."""
    prepared, policy, sampled = act(compressor, examples[:2], size=24)
    masks = [
        [text.keep_mask for text in sampled.texts[start : start + SAMPLES]]
        for start in (0, SAMPLES)
    ]
    segmenter = compressor.segmenter(CompressionOptions(), 24)
    again = locked_batch(policy, prepared, segmenter, masks, [None] * 2)
    assert [text.text for text in again.texts] == [text.text for text in sampled.texts]
    assert as_lists(again.texts) == as_lists(sampled.texts)
    assert torch.equal(again.keep_mask_SCW, sampled.keep_mask_SCW)
    swapped = locked_batch(policy, prepared, segmenter, [row[::-1] for row in masks], [None] * 2)
    assert torch.equal(swapped.keep_mask_SCW, sampled.keep_mask_SCW.flip(0))


def test_what_was_drawn_is_described(compressor, examples):
    """One entry a rollout, in order; the log-prob is that of its mask."""
    _, policy, sampled = act(compressor, examples[:2])
    draws = list(describe_draws(sampled))
    assert [draw["compressed_prompt"] for draw in draws] == [text.text for text in sampled.texts]
    assert [draw["keep_mask"] for draw in draws] == [text.keep_mask for text in sampled.texts]
    prob_W = torch.sigmoid(policy.logits_CW[0]).detach()
    [mask] = draws[1]["keep_mask"]
    drawn_W = torch.where(torch.from_numpy(mask), prob_W[: len(mask)], 1 - prob_W[: len(mask)])
    assert draws[1]["log_prob"] == pytest.approx(drawn_W.log().sum().item(), rel=1e-4)


def log_probs(policy, sampled):
    """Log-probability of every rollout, (B, S)."""
    return sampled.per_example(policy.word_log_probs(sampled.keep_mask_SCW).sum(-1)).T


def words(policy, sampled):
    """How many actions each example has."""
    return sampled.per_example(policy.free_CW.sum(-1)).tolist()


def as_lists(texts):
    """Masks in a form that can be compared."""
    return [[mask.tolist() for mask in text.keep_mask] for text in texts]


def test_texts_come_in_the_order_of_example_and_sample(compressor, examples):
    """B * S of them, with the lengths that the length check needs."""
    _, policy, sampled = act(compressor, examples[:2])
    assert [(text.example.id, text.sample_index) for text in sampled.texts] == [
        (id_, sample) for id_ in ("0", "1") for sample in range(SAMPLES)
    ]
    assert log_probs(policy, sampled).shape == (2, SAMPLES)
    count = compressor.length_tokenizer.count
    for text in sampled.texts:
        assert text.original_tokens == count(text.example.original_prompt)
        assert text.compressed_tokens == count(text.text)
        assert 0.2 < text.compressed_tokens / text.original_tokens < 0.6
    assert len({text.text for text in sampled.texts}) == 2 * SAMPLES


@pytest.mark.parametrize("sampler", ["rate_held", "bernoulli"])
def test_masks_do_not_depend_on_the_batch(compressor, examples, sampler):
    """Alone, or beside longer and shorter texts, in another place: the same masks and texts."""
    long = example(" ".join(part.original_prompt for part in examples[5:8]), id_="long")
    _, policy, alone = act(compressor, [examples[3]], sampler=sampler)
    batch = [long, examples[0], examples[3], example("Short.", id_="short")]
    _, policy_beside, beside = act(compressor, batch, sampler=sampler)
    at = slice(2 * SAMPLES, 3 * SAMPLES)
    assert as_lists(beside.texts[at]) == as_lists(alone.texts)
    assert [text.text for text in beside.texts[at]] == [text.text for text in alone.texts]
    torch.testing.assert_close(
        log_probs(policy_beside, beside)[2], log_probs(policy, alone)[0], rtol=1e-4, atol=1e-4
    )


def test_the_deployed_text_comes_after_those_that_are_drawn(compressor, examples):
    """Which are the same as without it."""
    prepared, policy, drawn = act(compressor, examples[:2], size=24)
    segmenter = compressor.segmenter(CompressionOptions(), 24)
    last = deployed_masks(prepared, compressor, segmenter, exact=False)
    sampled = sample_batch(policy, prepared, segmenter, NOISE, SAMPLES, [None] * 2, last)
    deployed = deploy_batch(prepared, compressor, segmenter, exact=False)
    assert torch.equal(sampled.keep_mask_SCW[:SAMPLES], drawn.keep_mask_SCW)
    assert [text.text for text in sampled.texts[SAMPLES :: SAMPLES + 1]] == [
        text.text for text in deployed
    ]


def test_several_chunks_are_one_rollout(compressor, examples):
    """Log-prob, entropy and words are added up over the chunks; the text is all of them."""
    prepared, policy, sampled = act(compressor, examples[:2], size=24)
    chunk_counts = [len(part.prompt.chunks) for part in prepared]
    assert min(chunk_counts) >= 4
    first = slice(0, chunk_counts[0])
    for sample, text in enumerate(sampled.texts[:SAMPLES]):
        by_hand = 0.0
        for z_W, free_W, mask_W in zip(
            policy.logits_CW[first], policy.free_CW[first], text.keep_mask, strict=True
        ):
            p_W = torch.sigmoid(z_W[: len(mask_W)].detach().double()).numpy()
            assert free_W.sum() == len(mask_W)
            by_hand += np.log(np.where(mask_W, p_W, 1 - p_W)).sum()
        assert log_probs(policy, sampled)[0, sample].item() == pytest.approx(by_hand, rel=1e-5)
        assert text.text == compressor.segmenter(CompressionOptions(), 24).join(
            prepared[0].prompt, text.keep_mask
        )
        assert text.original_tokens == compressor.length_tokenizer.count(
            text.example.original_prompt
        )
        assert text.compressed_tokens == compressor.length_tokenizer.count(text.text)
    assert words(policy, sampled) == [
        sum(len(chunk.words) for chunk in part.prompt.chunks) for part in prepared
    ]


def test_the_noise_runs_through_a_rollouts_words_in_order(compressor, examples):
    """Cutting a text into more chunks moves no number from one word to another."""
    prepared, policy, sampled = act(compressor, examples[:2], size=24)
    row = len(prepared[0].prompt.chunks)
    sizes = [len(chunk.words) for chunk in prepared[1].prompt.chunks]
    numbers = NOISE("1", 2, sum(sizes))
    p_CW = torch.sigmoid(policy.logits_CW.detach()).numpy()
    expected = [
        part < p_CW[row + index, : len(part)]
        for index, part in enumerate(np.split(numbers, np.cumsum(sizes)[:-1]))
    ]
    assert as_lists(sampled.texts[-1:]) == [[mask.tolist() for mask in expected]]


def test_every_chunk_is_held_at_the_rate(compressor, examples):
    """Expected kept tokens of each are 0.4 of its own."""
    prepared, policy, _ = act(compressor, examples[:3], size=40)
    p_CW = torch.sigmoid(policy.logits_CW.detach()).numpy()
    for p_W, chunk in zip(p_CW, [c for part in prepared for c in part.prompt.chunks], strict=True):
        kept = (p_W[: len(chunk.words)] * chunk.word_tokens).sum()
        assert kept == pytest.approx(0.4 * chunk.word_tokens.sum(), rel=1e-3)


def test_forced_words_are_in_every_text_and_are_no_actions(compressor, examples):
    """Neither log-prob nor entropy knows them."""
    options = CompressionOptions(force_tokens=(".",), force_reserve_digit=True)
    _, plain_policy, plain = act(compressor, examples[:2])
    prepared, policy, sampled = act(compressor, examples[:2], options=options)
    for part, text in zip(prepared, sampled.texts[::SAMPLES], strict=True):
        assert text.text.count(".") == part.example.original_prompt.count(".") > 0
    forced = [sum(chunk.word_forced.sum() for chunk in part.prompt.chunks) for part in prepared]
    free = zip(words(plain_policy, plain), words(policy, sampled), strict=True)
    assert [before - after for before, after in free] == forced
    assert not (policy.free_CW & policy.forced_CW).any()


def test_where_forced_words_fill_the_budget_there_is_no_action(compressor):
    """They are the text; its log-prob is 0, whatever the policy."""
    options = CompressionOptions(force_tokens=("a", "b"))
    _, policy, sampled = act(compressor, [example("a b a b . .")], options=options)
    assert {text.text for text in sampled.texts} == {"a b a b"}
    assert words(policy, sampled) == [0]
    assert log_probs(policy, sampled).tolist() == [[0.0] * SAMPLES]


def test_the_action_is_recorded_before_repeats_are_dropped(compressor):
    """`drop_consecutive` changes the text; what was drawn stays what the log-prob is of."""
    options = CompressionOptions(force_tokens=(".",), drop_consecutive=True)
    _, _, sampled = act(compressor, [example("a . . . . b c d e f g h i j k")], options=options)
    for text in sampled.texts:
        [mask] = text.keep_mask
        assert mask[1:5].all()
        assert text.text.count(".") == 1


def test_a_length_in_tokens_overrides_the_rate(compressor, examples):
    """Each example's rate is target / its own length; a short text keeps everything."""
    target = Target(rate=0.4, target_token=30)
    short = example("Two words", id_="short")
    prepared, _, sampled = act(compressor, [examples[0], short], target=target)
    assert prepared[0].target_rate == 30 / prepared[0].prompt.original_tokens
    assert prepared[1].target_rate == 1.0
    assert {text.text for text in sampled.texts[SAMPLES:]} == {"Two words"}
    assert all(text.target_rate < 0.5 for text in sampled.texts[:SAMPLES])


def test_the_context_filter_drops_whole_contexts_first(compressor, examples):
    """Deterministically; what is left is the prompt whose length and rate count."""
    contexts = [part.original_prompt for part in examples[:3]]
    segmenter = compressor.segmenter(CompressionOptions())
    context_filter = ContextFilter(target_context=1)
    batch = [example(*contexts), example(contexts[0], id_="single")]
    first, again = (
        prepare_batch(batch, compressor, segmenter, [TARGET] * 2, context_filter) for _ in range(2)
    )
    counts = list(map(compressor.length_tokenizer.count, contexts))
    filtered, single = first
    assert len(filtered.prompt.contexts) == 1
    assert filtered.prompt.original_tokens in counts
    assert filtered.target_rate == 0.4
    assert single.prompt.original_tokens == counts[0]
    assert again[0].prompt.original_tokens == filtered.prompt.original_tokens


def test_contexts_stay_apart(compressor):
    """They are joined by an empty line, as the stock package joins them."""
    batch = [example("a b c d e f g", "h i j k l m n")]
    _, _, sampled = act(compressor, batch, target=Target(0.9))
    assert all(text.text.count("\n\n") == 1 for text in sampled.texts)
    assert len(sampled.texts[0].keep_mask) == 2


def test_a_text_without_words_takes_no_part_and_moves_nobody(compressor, examples):
    """Its texts are empty, which the length check calls over-compressed; the others stay."""
    unknown = example("你好", id_="unknown")
    _, _, alone = act(compressor, [examples[0], examples[1]])
    _, policy, sampled = act(compressor, [examples[0], unknown, examples[1]])
    assert [(text.text, text.compressed_tokens) for text in sampled.texts[3:6]] == (
        [("", 0)] * SAMPLES
    )
    assert as_lists(sampled.texts[:3] + sampled.texts[6:]) == as_lists(alone.texts)
    assert log_probs(policy, sampled)[1].tolist() == [0.0] * SAMPLES
    assert words(policy, sampled)[1] == sampled.per_example(policy.entropy())[1] == 0


@pytest.mark.parametrize("text", ["你好", "\x00", "你\n\n好"])
def test_a_batch_without_any_word_still_has_a_gradient(compressor, text):
    """Every process must run backward, whatever its share of the batch holds."""
    prepared, policy, sampled = act(compressor, [example(text)])
    assert log_probs(policy, sampled).tolist() == [[0.0] * SAMPLES]
    assert log_probs(policy, sampled).requires_grad
    segmenter = compressor.segmenter(CompressionOptions())
    for exact in (False, True):
        [deployed] = deploy_batch(prepared, compressor, segmenter, exact=exact)
        assert (deployed.text, deployed.compressed_tokens) == ("", 0)


@pytest.mark.parametrize("exact", [False, True])
def test_validation_compresses_as_deployed(compressor, examples, exact):
    """Word for word what `compress` gives, several chunks included."""
    options = CompressionOptions(force_tokens=("?",))
    segmenter = compressor.segmenter(options)
    long = example(" ".join(part.original_prompt for part in examples[:8]), id_="long")
    assert len(segmenter.segment(long.contexts).chunks) > 1
    batch = prepare_batch([examples[0], long], compressor, segmenter, [TARGET] * 2, None)
    texts = deploy_batch(batch, compressor, segmenter, exact=exact)
    for text in texts:
        expected = compress(
            compressor, text.example.contexts, options, rate=TARGET.rate, exact=exact
        )
        assert text.text == expected.text
        assert text.compressed_tokens == expected.compressed_tokens


def test_a_process_without_validation_examples_has_nothing_to_do(compressor):
    """Several processes share few examples."""
    segmenter = compressor.segmenter(CompressionOptions())
    batch = prepare_batch([], compressor, segmenter, [], None)
    assert deploy_batch(batch, compressor, segmenter, exact=False) == []
