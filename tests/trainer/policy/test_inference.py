"""The deployed cut and the exact one, against values worked out by hand."""

import numpy as np
import pytest

from tests.tiny_models import CORPUS
from trainer.policy.contexts import Target
from trainer.policy.cuts import stock_cut
from trainer.policy.inference import compress, compress_at, compress_many
from trainer.policy.words import Chunk, CompressionOptions

PLAIN = CompressionOptions()


def chunk_of(tokens: list[int], forced: list[bool] | None = None) -> Chunk:
    """A chunk of words of so many tokens."""
    size = len(tokens)
    is_forced = np.array(forced or [False] * size)
    return Chunk(
        piece_ids=np.arange(size),
        word_of_piece=np.arange(size),
        piece_forced=is_forced,
        words=tuple("abcdefghij"[:size]),
        word_forced=is_forced,
        word_in_force_tokens=np.zeros(size, bool),
        word_tokens=np.array(tokens),
    )


def probs(*values: float) -> np.ndarray:
    """Keep probabilities as the model gives them."""
    return np.array(values, np.float32)


def test_words_strictly_above_the_percentile_are_kept():
    """Rate 0.5 cuts ten one-token words at the 51st percentile: 4.59 of 0..9 in tenths."""
    prob_W = np.arange(10, dtype=np.float32) / 10
    assert stock_cut(chunk_of([1] * 10), prob_W, 0.5).keep.tolist() == [False] * 5 + [True] * 5


def test_words_weigh_as_many_tokens_as_they_have():
    """A long word above the cut lifts it: nothing is strictly above the long word itself."""
    prob_W = probs(0.9, 0.1, 0.2, 0.3)
    assert stock_cut(chunk_of([7, 1, 1, 1]), prob_W, 0.5).keep.tolist() == [False] * 4
    assert stock_cut(chunk_of([1, 1, 1, 1]), prob_W, 0.5).keep.tolist() == [
        True,
        False,
        False,
        True,
    ]


@pytest.mark.parametrize(("rate", "kept"), [(0.9, 90), (0.7, 69), (0.5, 49)])
def test_percentile_is_exact_to_the_float(rate, kept):
    """The cut is at 10 for rate 0.9, where exact arithmetic gives 11; of 101 words 90 lie above."""
    prob_W = np.linspace(0.01, 0.99, 101, dtype=np.float32)
    assert stock_cut(chunk_of([1] * 101), prob_W, rate).keep.sum() == kept


def test_one_forced_word_changes_the_precision_of_the_cut():
    """The 57th percentile of 101 values is the 58th value in float32, just below it in float64.

    The stock package computes in float32 until a probability is overridden with a Python float.
    """
    prob_W = np.linspace(0.01, 1.0, 101, dtype=np.float32)
    one_forced = [False] * 100 + [True]
    assert stock_cut(chunk_of([1] * 101), prob_W, 0.44).keep.sum() == 43
    assert stock_cut(chunk_of([1] * 101, one_forced), prob_W, 0.44).keep.sum() == 44


def test_forced_words_survive_a_cut_at_one():
    """Where forced words fill the whole budget, they and nothing else are kept."""
    chunk = chunk_of([1, 1, 1], forced=[True, True, False])
    assert stock_cut(chunk, probs(1.0, 1.0, 0.9), 0.3).keep.tolist() == [True, True, False]


def test_words_without_tokens_are_no_error():
    """A chunk that is empty to the length tokenizer keeps its forced words."""
    chunk = chunk_of([0, 0], forced=[True, False])
    assert stock_cut(chunk, probs(1.0, 0.4), 0.5).keep.tolist() == [True, False]


@pytest.mark.parametrize("contexts", [[], [""], [" "], ["\n"], ["😀"], ["", "😀"]])
@pytest.mark.parametrize("rate", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("exact", [False, True])
def test_nothing_compresses_to_nothing(pair, contexts, rate, exact):
    """Empty prompts and prompts without words are answered, not crashed on."""
    result = compress(pair.ours, contexts, PLAIN, rate=rate, exact=exact)
    assert len(result.text) <= len("\n\n".join(contexts)) + len("[UNK]")


def test_many_prompts_compress_as_each_alone(pair):
    """One batch of prompts gives the texts, in order, that each gives by itself."""
    prompts = [[text] for text in CORPUS] + [list(CORPUS[:3])]
    many = compress_many(pair.ours, prompts, PLAIN, Target(rate=0.4))
    alone = [compress(pair.ours, contexts, PLAIN, rate=0.4) for contexts in prompts]
    assert [result.text for result in many] == [result.text for result in alone]


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.62])
@pytest.mark.parametrize("force_tokens", [(), (".", "\n")])
def test_exact_cut_is_the_nearest_of_all_cuts(pair, rate, force_tokens):
    """No other target comes nearer to the requested number of tokens."""
    options = CompressionOptions(force_tokens=force_tokens, drop_consecutive=True)
    contexts = [" ".join(CORPUS[:6])]
    result = compress(pair.ours, contexts, options, rate=rate, exact=True)
    goal = rate * result.original_tokens
    misses = [
        abs(
            compress(pair.ours, contexts, options, rate=other / 100, exact=True).compressed_tokens
            - goal
        )
        for other in range(1, 100, 2)
    ]
    assert abs(result.compressed_tokens - goal) <= min(misses)


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.5, 0.8])
def test_exact_cut_comes_nearer_than_the_stock_one(pair, rate):
    """The stock package's percentile never meets the requested rate better."""
    contexts = [" ".join(CORPUS[:6])]
    exact = compress(pair.ours, contexts, PLAIN, rate=rate, exact=True)
    stock = compress(pair.ours, contexts, PLAIN, rate=rate)
    assert abs(exact.rate - rate) <= abs(stock.rate - rate) + 1e-9
    assert exact.rate == exact.compressed_tokens / exact.original_tokens


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.5])
def test_exact_cut_leaves_out_a_word_that_does_not_fit(pair, rate):
    """Shorter words after it take its place, so the text has the tokens that were asked for."""
    exact = compress(pair.ours, [" ".join(CORPUS[:6])], PLAIN, rate=rate, exact=True)
    assert abs(exact.compressed_tokens - rate * exact.original_tokens) <= 0.5


@pytest.mark.parametrize("exact", [False, True])
def test_several_rates_at_once_are_as_each_alone(pair, exact):
    """For every prompt, an empty one among them: text, lengths, masks."""
    ours = pair.ours
    prompts = [[CORPUS[0]], [""], [CORPUS[1], CORPUS[2]]]
    rates = [0.2, 0.5, 0.8]
    for rate, at_rate in zip(
        rates, compress_at(ours, prompts, PLAIN, rates, exact=exact), strict=True
    ):
        alone = compress_many(ours, prompts, PLAIN, Target(rate), exact=exact)
        assert [one.text for one in at_rate] == [one.text for one in alone]
        assert [one.compressed_tokens for one in at_rate] == [
            one.compressed_tokens for one in alone
        ]
        for one, other in zip(at_rate, alone, strict=True):
            assert all(map(np.array_equal, one.keep, other.keep))


@pytest.mark.parametrize("force_tokens", [(), ("\n",)])
def test_code_keeps_its_lines_with_original_spacing(pair, force_tokens):
    """In both families, over several contexts; what is kept is what the stock rule keeps."""
    code = "def keep(words, rate=0.5):\n    for word in words:\n        yield 1\n\n    return 2\n"
    contexts = [code, "", code * 30]
    stock, original = (
        compress(
            pair.ours,
            contexts,
            CompressionOptions(force_tokens=force_tokens, spacing=spacing),
            rate=0.6,
        )
        for spacing in ("stock", "original")
    )
    for one, other in zip(stock.keep, original.keep, strict=True):
        assert one.tolist() == other.tolist()
    assert "".join(original.text.split()) == "".join(stock.text.split())
    lines = [line for line in original.text.splitlines() if line.strip()]
    indented = [line for line in lines if line.startswith("    ")]
    assert len(lines) > 30
    assert indented
    for line in lines:
        assert len(line) - len(line.lstrip()) in (0, 4, 8)


def test_nothing_dropped_is_the_source_with_original_spacing(pair):
    """At rate 1, to the character."""
    text = "a  b\n\n    c\t"
    options = CompressionOptions(spacing="original")
    assert compress(pair.ours, [text], options, rate=1.0).text == text
