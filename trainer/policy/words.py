"""Pieces to words, texts to chunks and back, exactly as the stock package sees them.

What is trained is what is served: the structure built here is the one on which training acts, and
joining its words gives word for word the text of `PromptCompressor.compress_prompt_llmlingua2`
(llmlingua 0.2.2). That includes the package's quirks: chunks are detokenised and tokenised again,
may be one piece too long and are then cut, and always carry mBERT's special tokens, which XLM-R
reads as unknown. Only its crashes are not reproduced: a text without words gives "".
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain, pairwise
from itertools import compress as select
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from trainer.policy.lengths import LengthTokenizer
from trainer.policy.pieces import (
    PieceTable,
    cut_at,
    decode_ids,
    encode,
    encode_ids,
    spelt_by_text,
    stand_ins,
)
from trainer.policy.spacing import SourceText, find_words

NO_WORD = -1
"""In `word_of_piece`: a special or unknown piece. The model sees it; it belongs to no word."""
HIDDEN = -2
"""In `word_of_piece`: padding, or a literal "[PAD]" in the text. The model does not see it."""

Mask = NDArray[np.bool_]
"""Words to keep, (W,) for one chunk."""

CONTEXT_SEPARATOR = "\n\n"
MAX_FORCE_TOKENS = 100


@dataclass(frozen=True, slots=True)
class CompressionOptions:
    """What is kept by rule, under the stock package's names and defaults."""

    force_tokens: tuple[str, ...] = ()
    """Texts that are always kept."""
    force_reserve_digit: bool = False
    """Whether pieces that contain a digit are always kept."""
    drop_consecutive: bool = False
    """Whether a force token is dropped where it would follow itself."""
    chunk_end_tokens: tuple[str, ...] = (".", "\n")
    """Pieces after which a long text may be cut."""
    spacing: Literal["stock", "original"] = "stock"
    """Ours alone: `original` leaves kept words the white space of their source, so that code keeps
    its indentation; `stock` folds it, as the package does."""

    def __post_init__(self) -> None:
        if isinstance(self.force_tokens, str) or "" in self.force_tokens:
            raise ValueError(
                f"force_tokens: expected a tuple of texts, none empty; got {self.force_tokens!r}."
            )
        if len(self.force_tokens) > MAX_FORCE_TOKENS:
            raise ValueError(
                f"force_tokens: expected at most {MAX_FORCE_TOKENS}; got {len(self.force_tokens)}."
            )


@dataclass(frozen=True, slots=True)
class Chunk:
    """Part of a context that the model reads at once. T pieces, W >= 1 words."""

    piece_ids: NDArray[np.int64]
    """(T,): as the stock package feeds them, mBERT's special tokens and its cut included."""
    word_of_piece: NDArray[np.int64]
    """(T,): index of the piece's word, or NO_WORD, or HIDDEN."""
    piece_forced: NDArray[np.bool_]
    """(T,): the keep probability is overridden with 1 (force token, reserved digit)."""
    words: tuple[str, ...]
    """(W,): with XLM-R's "▁", force tokens in place of their added tokens."""
    word_forced: NDArray[np.bool_]
    """(W,): every piece is forced: kept whatever the policy says, so no action."""
    word_in_force_tokens: NDArray[np.bool_]
    """(W,): the word equals a force token, to which `drop_consecutive` applies."""
    word_tokens: NDArray[np.int64]
    """(W,): tokens in the length tokenizer, "▁" counted too."""


@dataclass(frozen=True, slots=True)
class SegmentedPrompt:
    """A prompt as the policy sees it."""

    contexts: tuple[tuple[Chunk, ...], ...]
    """The chunks of each context; none where a context has no words."""
    original_tokens: int
    """Length of all contexts, without what separates them."""
    sources: tuple[SourceText, ...] = ()
    """Where each context's words stand in it; only with `spacing: original`."""

    @property
    def chunks(self) -> tuple[Chunk, ...]:
        """The chunks of all contexts, in order."""
        return tuple(chunk for chunks in self.contexts for chunk in chunks)


class Segmenter:
    """Texts to words and back, for one tokenizer and one set of options."""

    def __init__(
        self,
        tokenizer: Any,
        family: str,
        length_tokenizer: LengthTokenizer,
        options: CompressionOptions,
        max_seq_len: int = 512,
    ) -> None:
        """Prepares the rules.

        Args:
            tokenizer: The policy's tokenizer, with the added tokens `[NEW0]` ... in it.
            family: One of `trainer.policy.families.FAMILIES`.
            length_tokenizer: What lengths are counted with.
            options: What is kept by rule.
            max_seq_len: Pieces that the model reads at once; the stock package deploys 512.
        """
        self.options = options
        self._tokenizer = tokenizer
        self._length_tokenizer = length_tokenizer
        self._max_seq_len = max_seq_len
        self._added_tokens = stand_ins(tokenizer, options.force_tokens)
        self._chunk_ends = frozenset(options.chunk_end_tokens) | {
            self._added_tokens[end] for end in options.chunk_end_tokens if end in self._added_tokens
        }
        ids = map(tokenizer.backend_tokenizer.token_to_id, self._chunk_ends)
        self._end_ids = frozenset(end for end in ids if end is not None)
        self._spelt_by_text = spelt_by_text(tokenizer, family)
        self._pieces = PieceTable(
            tokenizer, family, options.force_tokens, self._added_tokens, options.force_reserve_digit
        )
        # The stock package wraps XLM-R's chunks in mBERT's tokens too: there they are unknown.
        self._head, self._tail = tokenizer.convert_tokens_to_ids(["[CLS]", "[SEP]"])
        pad_id = tokenizer.convert_tokens_to_ids("[PAD]")
        self._hidden_id = pad_id if tokenizer.convert_ids_to_tokens(pad_id) == "[PAD]" else None

    @property
    def uses_added_tokens(self) -> bool:
        """Whether some force token is read through an added token, whose embedding then matters."""
        return bool(self._added_tokens)

    def segment(self, contexts: Sequence[str]) -> SegmentedPrompt:
        """Cuts one prompt into chunks of words."""
        return self.segment_many([contexts])[0]

    def segment_many(self, prompts: Sequence[Sequence[str]]) -> list[SegmentedPrompt]:
        """Cuts prompts into chunks of words; one pass of the tokenizer serves them all."""
        contexts = [context for prompt in prompts for context in prompt]
        prepared = list(map(self._put_stand_ins, contexts))
        ids_of_context, texts_of_context = self._cut_up(prepared)
        # A text that detokenises to itself has its pieces already; the others are read again.
        known = [texts == [text] for texts, text in zip(texts_of_context, prepared, strict=True)]
        ids_of_chunk = iter(
            encode_ids(
                self._tokenizer,
                [
                    text
                    for texts, is_known in zip(texts_of_context, known, strict=True)
                    if not is_known
                    for text in texts
                ],
            )
        )
        chunks_of_context = []
        for ids, texts, is_known in zip(ids_of_context, texts_of_context, known, strict=True):
            chunks = map(self._chunk, [ids] if is_known else [next(ids_of_chunk) for _ in texts])
            chunks_of_context.append(tuple(chunk for chunk in chunks if chunk.words))
        length_of_context = map(self._count_encoded, contexts, prepared, ids_of_context)
        chunks_in_order = iter(chunks_of_context)
        segmented = [
            SegmentedPrompt(
                contexts=tuple(next(chunks_in_order) for _ in prompt),
                original_tokens=sum(next(length_of_context) for _ in prompt),
            )
            for prompt in prompts
        ]
        if self.options.spacing == "stock":
            return segmented
        return list(map(_with_sources, segmented, prompts))

    def chunk_texts(self, contexts: Sequence[str]) -> list[list[str]]:
        """The text of each chunk of each context, added tokens still in it."""
        _, texts_of_context = self._cut_up(list(map(self._put_stand_ins, contexts)))
        return texts_of_context

    def _cut_up(self, prepared: Sequence[str]) -> tuple[list[list[int]], list[list[str]]]:
        """The ids of each prepared context's pieces, and the text of each of its chunks."""
        size = self._max_seq_len - 2
        ids_of_context = encode_ids(self._tokenizer, prepared)
        cut = [cut_at(ids, self._end_ids, size) for ids in ids_of_context]
        texts = iter(decode_ids(self._tokenizer, list(chain.from_iterable(cut))))
        texts_of_context = [[next(texts) for _ in chunks] for chunks in cut]
        for at, ids in enumerate(ids_of_context):
            if not self._spelt_by_text.isdisjoint(ids):
                [encoding] = encode(self._tokenizer, [prepared[at]])
                pieces = cut_at(encoding.tokens, self._chunk_ends, size)
                texts_of_context[at] = list(map(self._tokenizer.convert_tokens_to_string, pieces))
        return ids_of_context, texts_of_context

    def _count_encoded(self, context: str, prepared: str, ids: Sequence[int]) -> int:
        """Length of a context that the policy's tokenizer has read, perhaps with stand-ins."""
        if self._length_tokenizer.is_policys and prepared == context:
            return len(ids)
        return self._length_tokenizer.count(context)

    def whole_contexts(self, contexts: Sequence[str]) -> list[str]:
        """Each context where nothing is dropped: the stock package returns its chunks' texts."""
        if self.options.spacing == "original":
            return list(contexts)
        return ["".join(map(self._pieces.restore, texts)) for texts in self.chunk_texts(contexts)]

    def count_tokens(self, texts: Sequence[str]) -> int:
        """Length of texts in the length tokenizer, added up."""
        return sum(map(self._length_tokenizer.count, texts))

    def join(self, prompt: SegmentedPrompt, keep: Sequence[NDArray[np.bool_]]) -> str:
        """The text of the kept words.

        Args:
            prompt: A segmented prompt.
            keep: One mask (W,) per chunk of `prompt.chunks`.
        """
        return CONTEXT_SEPARATOR.join(self.join_contexts(prompt, keep))

    def join_contexts(
        self, prompt: SegmentedPrompt, keep: Sequence[NDArray[np.bool_]]
    ) -> list[str]:
        """The kept words of each context; its chunks are joined with nothing between them."""
        masks = iter(keep)
        if self.options.spacing == "original":
            return [
                source.join(np.concatenate([next(masks) for _ in chunks])) if chunks else ""
                for source, chunks in zip(prompt.sources, prompt.contexts, strict=True)
            ]
        return [
            "".join(self._join_chunk(chunk, next(masks)) for chunk in chunks)
            for chunks in prompt.contexts
        ]

    def _join_chunk(self, chunk: Chunk, keep: NDArray[np.bool_]) -> str:
        kept = list(select(chunk.words, keep.tolist()))
        text: str = self._tokenizer.convert_tokens_to_string(kept)
        return text

    def _put_stand_ins(self, text: str) -> str:
        for force_token, added_token in self._added_tokens.items():
            text = text.replace(force_token, added_token)
        return text

    def _chunk(self, ids_of_text: Sequence[int]) -> Chunk:
        piece_ids = np.array([self._head, *ids_of_text, self._tail])[: self._max_seq_len]
        pieces = self._pieces
        pieces.learn(piece_ids)
        in_word = ~pieces.skipped[piece_ids]
        if self._hidden_id is not None:
            in_word &= piece_ids != self._hidden_id
        ids = piece_ids[in_word]
        begins = pieces.begins[ids]
        begins[:1] = True  # The stock package crashes on a chunk that starts inside a word.
        starts = np.flatnonzero(begins)
        forced = pieces.forced[ids]
        words = _concatenate(pieces.text[ids].tolist(), starts)
        return Chunk(
            piece_ids=piece_ids,
            word_of_piece=self._word_of_piece(piece_ids, in_word, begins),
            piece_forced=_scatter(in_word, forced, False),
            words=words,
            word_forced=np.logical_and.reduceat(forced, starts) if words else forced,
            word_in_force_tokens=self._in_force_tokens(words),
            word_tokens=self._length_tokenizer.count_words(words),
        )

    def _word_of_piece(
        self,
        piece_ids: NDArray[np.int64],
        in_word: NDArray[np.bool_],
        begins: NDArray[np.bool_],
    ) -> NDArray[np.int64]:
        word_of_piece: NDArray[np.int64] = _scatter(in_word, np.cumsum(begins) - 1, NO_WORD)
        if self._hidden_id is not None:
            word_of_piece[piece_ids == self._hidden_id] = HIDDEN
        return word_of_piece

    def _in_force_tokens(self, words: Sequence[str]) -> NDArray[np.bool_]:
        force_tokens = frozenset(self.options.force_tokens)
        return np.fromiter(map(force_tokens.__contains__, words), bool, len(words))


def _with_sources(prompt: SegmentedPrompt, contexts: Sequence[str]) -> SegmentedPrompt:
    sources = (
        find_words(context, [word for chunk in chunks for word in chunk.words])
        for context, chunks in zip(contexts, prompt.contexts, strict=True)
    )
    return replace(prompt, sources=tuple(sources))


def drop_repeated_forced(chunk: Chunk, keep: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """`drop_consecutive` for any keep mask (W,), say a sampled one.

    The stock package's two rules, with "kept by the mask" for "above the threshold".
    """
    return drop_adjacent(chunk, keep & ~repeats_forced(chunk, keep))


def repeats_forced(chunk: Chunk, keep: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """First rule: force tokens equal to the force token before them, nothing kept in between.

    Args:
        chunk: The chunk, with W words.
        keep: (W,): the words that count as kept; force tokens among them do not matter.

    Returns:
        bool (W,): the words to drop.
    """
    repeated = np.zeros(len(chunk.words), bool)
    at = np.flatnonzero(chunk.word_in_force_tokens)
    kept_before = np.cumsum(keep & ~chunk.word_in_force_tokens)[at]
    for previous, this, kept_between in zip(at, at[1:], np.diff(kept_before), strict=False):
        same = chunk.words[previous] == chunk.words[this]
        repeated[this] = same and kept_between == 0
    return repeated


def drop_adjacent(chunk: Chunk, keep: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Second rule: of equal force tokens that are neighbours in the kept text, the first stays."""
    kept = np.flatnonzero(keep)
    result = keep.copy()
    for rank in np.flatnonzero(chunk.word_in_force_tokens[kept[1:]]):
        previous, this = kept[rank], kept[rank + 1]
        result[this] = chunk.words[previous] != chunk.words[this]
    return result


def _concatenate(texts: Sequence[str], starts: NDArray[np.int64]) -> tuple[str, ...]:
    bounds = [*starts.tolist(), len(texts)]
    return tuple("".join(texts[a:b]) for a, b in pairwise(bounds))


def _scatter(where: NDArray[np.bool_], values: Any, fill: Any) -> Any:
    result = np.full(where.shape, fill, dtype=np.asarray(values).dtype)
    result[where] = values
    return result
