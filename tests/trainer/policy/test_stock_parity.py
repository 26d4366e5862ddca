"""Our compression against the stock package's, text for text."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.tiny_models import CORPUS
from trainer.policy.contexts import ContextFilter
from trainer.policy.cuts import Cut
from trainer.policy.inference import compress
from trainer.policy.scoring import keep_probabilities
from trainer.policy.words import CompressionOptions

CLOSE = 1e-6
"""Padding to 512 moves probabilities by about 1e-7: words this close may swap at the cut."""

STOCK_CRASHES = (IndexError, ZeroDivisionError, ValueError)
"""What the stock package raises on empty texts, on texts without words and at rate 0."""

WORDS = sorted({word for text in CORPUS for word in text.split()})
ODDITIES = (
    *("\n", "\n\n", "\t", " ", ".", "..", "--", "()", "./", "#", "##ing", "don't", "2024", "a1b2"),
    *("😀", "☃☃", "世界", "今天", "é", "e\u0301", "\u200b", "▁", "▁▁"),
    *("[UNK]", "<unk>", "[PAD]", "<pad>", "<s>", "[CLS]", "[NEW0]", "[NEW3]"),
)
FORCE_TOKENS = (
    ".",
    "\n",
    ",",
    "!",
    "council",
    "the",
    "2024",
    "today is",
    "#",
    "世",
    "ing",
    "[NEW1]",
)

texts = st.builds(
    str.join,
    st.sampled_from([" ", ""]),
    st.lists(st.sampled_from(WORDS) | st.sampled_from(ODDITIES), max_size=40),
)
long_texts = st.builds(
    lambda block, times, tail: " ".join([*block * times, tail]),
    st.lists(st.sampled_from(WORDS), min_size=5, max_size=30),
    st.integers(10, 40),
    texts,
)
rates = st.sampled_from([0.05, 0.1, 0.2, 0.3, 0.33, 0.5, 0.7, 0.9, 0.95, 1.0, 1.5])
options = st.builds(
    CompressionOptions,
    force_tokens=st.lists(st.sampled_from(FORCE_TOKENS), max_size=4, unique=True).map(tuple),
    force_reserve_digit=st.booleans(),
    drop_consecutive=st.booleans(),
    chunk_end_tokens=st.sampled_from([(".", "\n"), (",", "\n", "."), ()]),
)
context_filters = st.builds(
    ContextFilter,
    target_context=st.sampled_from([-1, -1, 0, 1, 2]),
    rate=st.sampled_from([1.0, 0.5, 0.3]),
    target_token=st.sampled_from([-1, -1, 0, 50]),
    force_ids=st.sampled_from([(), (0,), (1, 2)]),
)
bounded = settings(
    derandomize=True,
    deadline=None,
    max_examples=200,
    # The pair is only read.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def stock_arguments(options: CompressionOptions) -> dict[str, Any]:
    """The options under the stock package's names."""
    return {
        "force_tokens": list(options.force_tokens),
        "force_reserve_digit": options.force_reserve_digit,
        "drop_consecutive": options.drop_consecutive,
        "chunk_end_tokens": list(options.chunk_end_tokens),
    }


def has_a_tie(pair: Any, contexts: Sequence[str], options: CompressionOptions) -> bool:
    """Whether rounding alone may decide: two words of a chunk are as good as equal."""
    prompt = pair.ours.segmenter(options).segment(contexts)
    return any(
        (gaps := np.diff(np.unique(probs))).size and gaps.min() < CLOSE
        for probs in keep_probabilities(pair.ours, prompt.chunks)
    )


def near_the_cut(cut: Cut) -> bool:
    """Whether two of the words are as good as at the cut, so that rounding alone may decide."""
    return int((np.abs(cut.probabilities - cut.threshold) < CLOSE).sum()) > 1


def assert_same(
    pair: Any,
    contexts: Sequence[str],
    options: CompressionOptions,
    context_filter: ContextFilter | None = None,
    **target: Any,
) -> None:
    """Texts and lengths equal the stock package's, wherever it does not crash."""
    ours = compress(pair.ours, contexts, options, context_filter=context_filter, **target)
    filtering = {}
    if context_filter is not None:
        filtering = {
            "use_context_level_filter": True,
            "target_context": context_filter.target_context,
            "context_level_rate": context_filter.rate,
            "context_level_target_token": context_filter.target_token,
            "force_context_ids": list(context_filter.force_ids),
        }
    try:
        stock = pair.stock.compress_prompt_llmlingua2(
            list(contexts), **stock_arguments(options), **filtering, **target
        )
    except STOCK_CRASHES:
        return  # Ours got here without one.
    expected = (stock["compressed_prompt"], stock["origin_tokens"], stock["compressed_tokens"])
    got = (ours.text, ours.original_tokens, ours.compressed_tokens)
    assert got == expected or has_a_tie(pair, contexts, options)


@bounded
@given(text=texts, options=options, rate=rates)
def test_short_texts_with_any_options(pair, text, options, rate):
    """One chunk of odd text, under any options, compresses as in the stock package."""
    assert_same(pair, [text], options, rate=rate)


@settings(bounded, max_examples=60)
@given(contexts=st.lists(texts | long_texts, max_size=2), options=options, rate=rates)
def test_lengths_in_gpt_tokens(gpt_pair, contexts, options, rate):
    """With real cl100k_base for lengths, short texts and long ones compress as there."""
    assert_same(gpt_pair, contexts, options, rate=rate)


def test_differences_are_counted_and_all_within_the_band(pair, record_property):
    """Of 60 texts, each that differs has two words within 1e-6 of its cut, and hardly any does."""
    generator = np.random.default_rng(0)
    differing = 0
    for _ in range(60):
        text = " ".join(generator.choice(WORDS, generator.integers(5, 120)))
        rate = generator.uniform(0.05, 0.95)
        ours = compress(pair.ours, [text], CompressionOptions(), rate=rate)
        stock = pair.stock.compress_prompt_llmlingua2([text], rate=rate)
        if ours.text != stock["compressed_prompt"]:
            differing += 1
            assert any(near_the_cut(cut) for cut in ours.cuts)
    record_property("differing", differing)
    assert differing <= 1


@settings(bounded, max_examples=60)
@given(contexts=st.lists(long_texts, min_size=1, max_size=2), options=options, rate=rates)
def test_texts_of_several_chunks(pair, contexts, options, rate):
    """Contexts longer than one chunk are cut and joined as in the stock package."""
    assert_same(pair, contexts, options, rate=rate)


@settings(bounded, max_examples=100)
@given(
    contexts=st.lists(texts, max_size=3),
    options=options,
    rate=rates,
    target_token=st.sampled_from([-1, 0, 1, 5, 40, 5000]),
    use_token_level_filter=st.booleans(),
)
def test_targets_in_tokens(pair, contexts, options, rate, target_token, use_token_level_filter):
    """A target in tokens, and a token filter switched off, mean what they mean there."""
    assert_same(
        pair,
        contexts,
        options,
        rate=rate,
        target_token=target_token,
        use_token_level_filter=use_token_level_filter,
    )


@settings(bounded, max_examples=60)
@given(
    contexts=st.lists(texts, min_size=1, max_size=4),
    options=options,
    context_filter=context_filters,
    rate=rates,
    target_token=st.sampled_from([-1, -1, 5, 40]),
    use_token_level_filter=st.booleans(),
)
def test_context_level_filter(
    pair, contexts, options, context_filter, rate, target_token, use_token_level_filter
):
    """The context-level filter drops the same contexts, for every way to set it."""
    assert_same(
        pair,
        contexts,
        options,
        context_filter,
        rate=rate,
        target_token=target_token,
        use_token_level_filter=use_token_level_filter,
    )


@pytest.mark.parametrize("context_filter", [ContextFilter(), ContextFilter(force_ids=(3,))])
@pytest.mark.parametrize("use_token_level_filter", [True, False])
@pytest.mark.parametrize(
    "target", [{"rate": 0.2}, {"rate": 0.6}, {"target_token": 60}, {"target_token": 90}]
)
def test_context_level_filter_left_to_itself(pair, context_filter, use_token_level_filter, target):
    """Without a setting of its own the filter keeps as many contexts as there."""
    assert_same(
        pair,
        CORPUS,
        CompressionOptions(force_reserve_digit=True),
        context_filter,
        use_token_level_filter=use_token_level_filter,
        **target,
    )


@bounded
@given(
    words=st.lists(st.sampled_from([".", ".", "\n", "the", "council", "budget"]), min_size=1),
    rate=rates,
)
def test_dropping_consecutive_force_tokens(pair, words, rate):
    """Force tokens that follow one another are dropped as there, however many there are."""
    options = CompressionOptions(force_tokens=(".", "\n"), drop_consecutive=True)
    assert_same(pair, [" ".join(words)], options, rate=rate)


@settings(bounded, max_examples=100)
@given(text=st.text(max_size=60), options=options, rate=rates)
def test_arbitrary_unicode(pair, text, options, rate):
    """Text of any characters at all compresses as there, and never crashes."""
    assert_same(pair, [text], options, rate=rate)


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.3, 0.5, 0.7, 0.9])
def test_corpus_is_compressed_not_merely_compared(pair, rate):
    """On plain sentences nothing crashes there, so that the comparison is a real one."""
    options = CompressionOptions(force_tokens=("\n", "."), drop_consecutive=True)
    for text in CORPUS[:3]:
        ours = compress(pair.ours, [text], options, rate=rate)
        if rate:
            stock = pair.stock.compress_prompt_llmlingua2(
                [text], rate=rate, **stock_arguments(options)
            )
            assert ours.text == stock["compressed_prompt"]
            assert 0 < ours.compressed_tokens < ours.original_tokens


def test_long_text_has_several_chunks(pair):
    """The long texts used here do exceed one chunk, and one of them is cut at 512 pieces."""
    prompt = pair.ours.segmenter(CompressionOptions()).segment(["council, " * 700])
    assert len(prompt.chunks) > 1
    assert max(len(chunk.piece_ids) for chunk in prompt.chunks) == 512


def test_stock_method_works_on_our_class(pair):
    """`compress_prompt_llmlingua2` of the stock class runs on our compressor as it is."""
    ours = pair.ours.compress_prompt_llmlingua2(list(CORPUS[:2]), rate=0.4)
    stock = pair.stock.compress_prompt_llmlingua2(list(CORPUS[:2]), rate=0.4)
    assert ours == stock
