"""What one piece of the vocabulary is to the stock package, looked up instead of worked out."""

import re
import string
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from trainer.policy.families import BERT

Piece = TypeVar("Piece", str, int)

_DIGIT = re.compile(r"\d")


def encode(tokenizer: Any, texts: Sequence[str]) -> list[Any]:
    """Cuts texts into pieces: no special tokens added, nothing truncated, nothing padded.

    Args:
        tokenizer: A `transformers` tokenizer.
        texts: Any number of texts; one call into the tokenizer serves them all.

    Returns:
        One encoding (`.tokens`, `.ids`) per text. Unknown pieces keep their spelling in `.tokens`.
    """
    encodings: list[Any] = _backend(tokenizer).encode_batch(list(texts), add_special_tokens=False)
    return encodings


def encode_ids(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """The ids alone, which is faster; see `encode`."""
    encodings = _backend(tokenizer).encode_batch_fast(list(texts), add_special_tokens=False)
    return [encoding.ids for encoding in encodings]


def decode_ids(tokenizer: Any, ids_of_texts: Sequence[Sequence[int]]) -> list[str]:
    """The texts of pieces, as `convert_tokens_to_string` makes them of what the ids stand for."""
    texts: list[str] = _backend(tokenizer).decode_batch(ids_of_texts, skip_special_tokens=False)
    return texts


def spelt_by_text(tokenizer: Any, family: str) -> frozenset[int]:
    """Ids whose pieces are spelt as the text at hand spells them, so that the id does not say how.

    XLM-R's unknown pieces are, and added tokens that take white space along ("<mask>") or are
    found in normalised text.
    """
    unknown = [] if family == BERT else [tokenizer.unk_token_id]
    added = [
        piece_id
        for piece_id, token in tokenizer.added_tokens_decoder.items()
        if token.lstrip or token.rstrip or token.normalized
    ]
    return frozenset([*unknown, *added])


def _backend(tokenizer: Any) -> Any:
    backend = tokenizer.backend_tokenizer
    # Another caller may have left its truncation or padding on the shared tokenizer.
    if backend.truncation is not None:
        backend.no_truncation()
    if backend.padding is not None:
        backend.no_padding()
    return backend


def stand_ins(tokenizer: Any, force_tokens: Sequence[str]) -> dict[str, str]:
    """The added token that stands in for each force token that is not exactly one piece."""
    encodings = encode(tokenizer, force_tokens)
    return {
        force_token: f"[NEW{index}]"
        for index, (force_token, encoding) in enumerate(zip(force_tokens, encodings, strict=True))
        if len(encoding.ids) != 1
    }


def cut_at(pieces: Sequence[Piece], ends: frozenset[Piece], size: int) -> list[Sequence[Piece]]:
    """Cuts pieces, or their ids, after the last end within reach, else after `size + 1` of them.

    The stock package's rule: what is left goes into one chunk if it fits in `size`, and the piece
    just beyond `size` may still belong to a chunk, which is why one can be a piece too long.
    """
    chunks = []
    start = 0
    while start + size < len(pieces):
        last = start + size
        # The chunk's own first piece is never looked at, as in the stock package.
        end = next((at for at in range(last, start, -1) if pieces[at] in ends), last)
        chunks.append(pieces[start : end + 1])
        start = end + 1
    if start < len(pieces):
        chunks.append(pieces[start:])
    return chunks


def begins_word(piece: str, *, is_bert: bool) -> bool:
    """Whether a piece starts a new word, no force tokens considered."""
    if is_bert:
        return not piece.startswith("##")
    # A substring test, as in the stock package: "()" and "./" count as punctuation too.
    return piece in string.punctuation or piece.startswith("▁")


class PieceTable:
    """The stock package's rules about single pieces, one row per vocabulary id.

    Rows are worked out when an id first occurs, so that a large vocabulary costs nothing at start.
    Not safe for concurrent use by several threads.

    Attributes:
        skipped: bool (V,): special and unknown pieces, which belong to no word.
        begins: bool (V,): the piece starts a new word.
        forced: bool (V,): its keep probability is overridden with 1.
        text: str (V,): what the piece adds to its word.
    """

    def __init__(
        self,
        tokenizer: Any,
        family: str,
        force_tokens: Sequence[str],
        added_tokens: Mapping[str, str],
        force_reserve_digit: bool,
    ) -> None:
        """Starts an empty table.

        Args:
            tokenizer: The policy's tokenizer, with the added tokens in it.
            family: One of `trainer.policy.families.FAMILIES`.
            force_tokens: The texts that are always kept.
            added_tokens: Force token to the added token (`[NEWi]`) that stands in for it.
            force_reserve_digit: Whether pieces with a digit are always kept.
        """
        self._tokenizer = tokenizer
        self._is_bert = family == BERT
        self._prefix = "##" if self._is_bert else "▁"
        self._added_tokens = dict(added_tokens)
        self._standing_in = frozenset(added_tokens.values())
        self._force_tokens = frozenset(force_tokens)
        self._reserve_digit = force_reserve_digit
        self._special = frozenset(tokenizer.special_tokens_map.values())
        size = len(tokenizer)
        self._known: NDArray[np.bool_] = np.zeros(size, bool)
        self.skipped: NDArray[np.bool_] = np.zeros(size, bool)
        self.begins: NDArray[np.bool_] = np.zeros(size, bool)
        self.forced: NDArray[np.bool_] = np.zeros(size, bool)
        self.text: NDArray[np.object_] = np.full(size, "", dtype=object)

    def learn(self, piece_ids: NDArray[np.int64]) -> None:
        """Makes sure that the rows of these ids are filled in."""
        for piece_id in np.unique(piece_ids[~self._known[piece_ids]]).tolist():
            self._fill(piece_id, self._tokenizer.convert_ids_to_tokens(piece_id))
            self._known[piece_id] = True

    def _fill(self, piece_id: int, piece: str) -> None:
        if piece in self._special:
            self.skipped[piece_id] = True
            return
        # str.lstrip takes a set of characters: the stock package turns "##" and "#" into "".
        pure = piece.lstrip(self._prefix)
        begins = self._begins_word(piece, pure)
        is_force_token = pure in self._force_tokens or pure in self._standing_in
        restored = self.restore(piece) if begins else piece
        has_reserved_digit = self._reserve_digit and _DIGIT.search(restored) is not None
        self.begins[piece_id] = begins
        self.forced[piece_id] = is_force_token or has_reserved_digit
        self.text[piece_id] = restored if begins else pure

    def _begins_word(self, piece: str, pure: str) -> bool:
        name = pure if self._is_bert else piece
        named = name in self._force_tokens or name in self._standing_in
        return named or begins_word(piece, is_bert=self._is_bert)

    def restore(self, text: str) -> str:
        """Puts the force tokens back where added tokens stand in for them."""
        for force_token, added_token in self._added_tokens.items():
            text = text.replace(added_token, force_token)
        return text
