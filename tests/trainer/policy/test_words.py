"""Pieces, words and chunks, against values worked out by hand."""

import copy
from collections.abc import Sequence

import numpy as np
import pytest
from tokenizers import AddedToken

from trainer.policy.pieces import cut_at
from trainer.policy.words import (
    HIDDEN,
    NO_WORD,
    Chunk,
    CompressionOptions,
    Segmenter,
    drop_repeated_forced,
)


def chunk_of(words: Sequence[str], force_tokens: Sequence[str] = ()) -> Chunk:
    """A chunk of one-piece words, each one token long."""
    forced = np.array([word in force_tokens for word in words])
    return Chunk(
        piece_ids=np.arange(len(words)),
        word_of_piece=np.arange(len(words)),
        piece_forced=forced,
        words=tuple(words),
        word_forced=forced,
        word_in_force_tokens=forced,
        word_tokens=np.ones(len(words), np.int64),
    )


def mask(bits: str) -> np.ndarray:
    """Keep bits from a string of them."""
    return np.array([bit == "1" for bit in bits])


def test_bert_words(bert):
    """Pieces gather into words; special, unknown and hidden pieces belong to none."""
    segmenter = bert.segmenter(CompressionOptions())
    (chunk,) = segmenter.segment(["The reports 😀 [PAD] met"]).chunks
    pieces = bert.tokenizer.convert_ids_to_tokens(chunk.piece_ids.tolist())
    assert pieces == ["[CLS]", "The", "report", "##s", "[UNK]", "[PAD]", "met", "[SEP]"]
    none, hidden = NO_WORD, HIDDEN
    assert chunk.word_of_piece.tolist() == [none, 0, 1, 1, none, hidden, 2, none]
    assert chunk.words == ("The", "reports", "met")
    assert chunk.word_tokens.tolist() == [1, 2, 1]


def test_xlm_roberta_sees_mbert_specials_as_unknown(pair):
    """The stock package wraps XLM-R's chunks in mBERT's special tokens; so do we."""
    (chunk,) = pair.ours.segmenter(CompressionOptions()).segment(["The council met"]).chunks
    ends = pair.ours.tokenizer.convert_ids_to_tokens(chunk.piece_ids[[0, -1]].tolist())
    expected = {"xlm-roberta-large": ["<unk>", "<unk>"]}
    assert ends == expected.get(pair.ours.family, ["[CLS]", "[SEP]"])
    assert chunk.word_of_piece[[0, -1]].tolist() == [NO_WORD, NO_WORD]


def test_forced_pieces_and_forced_words(bert):
    """A digit forces its piece only; a word is forced when all of its pieces are."""
    options = CompressionOptions(force_tokens=("council",), force_reserve_digit=True)
    (chunk,) = bert.segmenter(options).segment(["council met s2024 2024"]).chunks
    pieces = bert.tokenizer.convert_ids_to_tokens(chunk.piece_ids.tolist())
    forced = [
        piece for piece, is_forced in zip(pieces, chunk.piece_forced, strict=True) if is_forced
    ]
    assert chunk.words == ("council", "met", "s2024", "2024")
    assert all("2" in piece or "0" in piece or "4" in piece for piece in forced[1:])
    assert forced[0] == "council"
    assert chunk.word_forced.tolist() == [True, False, False, True]
    assert chunk.word_in_force_tokens.tolist() == [True, False, False, False]


def test_newline_survives_through_an_added_token(bert):
    """A force token that the tokenizer would swallow is read through an added token."""
    options = CompressionOptions(force_tokens=("\n",))
    segmenter = bert.segmenter(options)
    prompt = segmenter.segment(["The council\nmet"])
    (chunk,) = prompt.chunks
    assert chunk.words == ("The", "council", "\n", "met")
    assert segmenter.uses_added_tokens
    assert "[NEW0]" in bert.tokenizer.convert_ids_to_tokens(chunk.piece_ids.tolist())
    assert segmenter.join(prompt, [mask("0011")]) == "\n met"


def test_chunks_are_spelt_as_their_text(pair):
    """Unknown pieces too, and special tokens that take the white space around them along."""
    ours, tokenizer = pair.ours, copy.deepcopy(pair.ours.tokenizer)
    tokenizer.add_special_tokens({"mask_token": AddedToken("<mask>", lstrip=True)})
    segmenter = Segmenter(tokenizer, ours.family, ours.length_tokenizer, CompressionOptions())
    contexts = ["The 雪 ☃ met.", "The  <mask> [MASK] council.", "The </s> on.", "[NEW3] council."]
    assert segmenter.chunk_texts(contexts) == [
        [tokenizer.convert_tokens_to_string(tokenizer.tokenize(context))] for context in contexts
    ]


def test_contexts_are_joined_by_blank_lines_and_chunks_by_nothing(bert):
    """Kept words are detokenised chunk by chunk, contexts stand apart."""
    segmenter = bert.segmenter(CompressionOptions(), max_seq_len=5)
    prompt = segmenter.segment(["The council met on Tuesday.", "", "The council"])
    assert [len(chunks) for chunks in prompt.contexts] == [2, 0, 1]
    keep = [np.ones(len(chunk.words), bool) for chunk in prompt.chunks]
    assert segmenter.join(prompt, keep) == "The council met onTuesday.\n\n\n\nThe council"


@pytest.mark.parametrize("text", ["", " ", "\n\n", "😀 ☃", "[PAD]", "<s>", "\x00", "[NEW7]"])
def test_texts_without_words_are_no_error(pair, text):
    """Texts on which the stock package crashes have no words, or words to decide about."""
    prompt = pair.ours.segmenter(CompressionOptions()).segment([text])
    assert all(len(chunk.words) > 0 for chunk in prompt.chunks)


def test_an_added_token_may_start_a_chunk(pair):
    """A chunk that starts inside a word, where the stock package crashes, starts with a word."""
    prompt = pair.ours.segmenter(CompressionOptions()).segment(["[NEW7] council"])
    assert prompt.chunks[0].words[0].startswith("[NEW7]")


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ("", []),
        ("abc", ["abc"]),
        ("abcd", ["abcd"]),
        ("abcde", ["abcde"]),
        ("ab.cd", ["ab.", "cd"]),
        ("abcd.ef", ["abcd.", "ef"]),
        (".abcdef", [".abcd", "ef"]),
        ("a.b.cdefghij", ["a.b.", "cdefg", "hij"]),
    ],
)
def test_cut_at(pieces, expected):
    """Chunks end at the last end in reach, else one piece beyond the size (here 4)."""
    assert ["".join(chunk) for chunk in cut_at(list(pieces), frozenset("."), 4)] == expected


@pytest.mark.parametrize(
    ("words", "keep", "expected"),
    [
        ("a..b", "1111", "1101"),
        ("a.b.", "1101", "1100"),
        ("a.b.", "1111", "1111"),
        (".!.", "111", "111"),
        (".!.", "101", "100"),
        ("abab", "1111", "1111"),
        ("....", "1111", "1000"),
    ],
)
def test_drop_repeated_forced(words, keep, expected):
    """Of force tokens with nothing kept in between, the first stays; other words are untouched."""
    chunk = chunk_of(words, force_tokens=".!")
    assert drop_repeated_forced(chunk, mask(keep)).tolist() == mask(expected).tolist()


@pytest.mark.parametrize("force_tokens", [".", ("",), tuple(map(str, range(101)))])
def test_impossible_force_tokens_are_refused(force_tokens):
    """A bare string would match substrings; an empty one matches everywhere."""
    with pytest.raises(ValueError, match="force_tokens: expected"):
        CompressionOptions(force_tokens=force_tokens)
