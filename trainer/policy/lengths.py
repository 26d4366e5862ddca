"""Which tokenizer lengths are counted with: it decides rewards, budgets and the deployed cut."""

import hashlib
import os
import tempfile
import warnings
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.errors import ModelError
from trainer.policy.families import BERT
from trainer.policy.pieces import begins_word, encode, encode_ids

CL100K = "cl100k_base"
_POLICY = "policy"
WORDS = "words"
_CL100K_URL = "https://openaipublic.blob.core.windows.net/encodings/cl100k_base.tiktoken"
_CL100K_SHA256 = "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7"
_REMEMBERED_WORDS = 2**18


class LengthTokenizer:
    """Counts tokens; stands in for the stock package's `oai_tokenizer`."""

    def __init__(self, name: str, encode_text: Callable[[str], Sequence[int]]) -> None:
        """Wraps a function.

        Args:
            name: What runs record; two tokenizers that count differently differ in it.
            encode_text: Text to token ids, no special tokens added.
        """
        self.name = name
        self._encode = encode_text
        self._count_word = lru_cache(maxsize=_REMEMBERED_WORDS)(self.count)

    @property
    def is_policys(self) -> bool:
        """Whether it cuts texts as the policy's own tokenizer does."""
        return self.name == _POLICY

    def encode(self, text: str) -> list[int]:
        """Token ids of a text."""
        return list(self._encode(text))

    def count(self, text: str) -> int:
        """Tokens of a text."""
        return len(self._encode(text))

    def count_words(self, words: Sequence[str]) -> NDArray[np.int64]:
        """Tokens of each word, int64 (W,); every word is encoded once and remembered."""
        return np.fromiter(map(self._count_word, words), np.int64, len(words))


class _Words(LengthTokenizer):
    """Counts the policy's words: each is one, however many pieces it has."""

    def count_words(self, words: Sequence[str]) -> NDArray[np.int64]:
        """1 for each word, int64 (W,)."""
        return np.ones(len(words), np.int64)


def resolve_length_tokenizer(
    setting: str, policy_tokenizer: Any, family: str = BERT
) -> LengthTokenizer:
    """Finds the length tokenizer that a config asks for.

    Args:
        setting: "auto" (cl100k_base where tiktoken has it on disk, else the policy's own, with a
            warning; never a download), "cl100k_base" (downloaded by tiktoken if need be),
            "policy", "words" (the policy's words, one each), or the path of a `tokenizer.json`.
        policy_tokenizer: The compressor's `transformers` tokenizer.
        family: The compressor's, which decides where its words begin.

    Raises:
        ModelError: The file is missing or no tokenizer, or cl100k_base cannot be had.
    """
    if setting == _POLICY:
        return _of_policy(policy_tokenizer)
    if setting == WORDS:
        return _of_words(policy_tokenizer, family)
    if setting == CL100K or (setting == "auto" and cl100k_file()):
        return _cl100k()
    if setting == "auto":
        warnings.warn(
            "tiktoken has no cl100k_base on disk, so lengths are counted with the policy's own "
            "tokenizer. Set `policy.length_tokenizer` to choose one, or TIKTOKEN_CACHE_DIR to the "
            "folder that holds cl100k_base.",
            stacklevel=2,
        )
        return _of_policy(policy_tokenizer)
    return _of_file(Path(setting))


def _of_policy(tokenizer: Any) -> LengthTokenizer:
    return LengthTokenizer(_POLICY, lambda text: encode_ids(tokenizer, [text])[0])


def _of_words(tokenizer: Any, family: str) -> LengthTokenizer:
    def first_pieces(text: str) -> list[int]:
        [encoding] = encode(tokenizer, [text])
        pieces = zip(encoding.ids, encoding.tokens, strict=True)
        return [id_ for id_, piece in pieces if begins_word(piece, is_bert=family == BERT)]

    return _Words(WORDS, first_pieces)


def _cl100k() -> LengthTokenizer:
    import tiktoken

    try:
        encoding = tiktoken.get_encoding(CL100K)
    except Exception as error:  # tiktoken lets through whatever its HTTP library raises
        raise ModelError(
            f"cl100k_base was asked for, but tiktoken could not load it: {error}. Put the file in "
            "the folder TIKTOKEN_CACHE_DIR, or set `policy.length_tokenizer: policy`."
        ) from error
    # Text that spells a special token ("<|endoftext|>") is text here; plain `encode` raises.
    return LengthTokenizer(CL100K, encoding.encode_ordinary)


def cl100k_file() -> Path | None:
    """Where tiktoken has cl100k_base on disk; None: it has not, or not whole."""
    default = Path(tempfile.gettempdir()) / "data-gym-cache"
    folder = os.environ.get("TIKTOKEN_CACHE_DIR", os.environ.get("DATA_GYM_CACHE_DIR", default))
    if not folder:  # tiktoken's way of switching its cache off
        return None
    name = hashlib.sha1(_CL100K_URL.encode(), usedforsecurity=False).hexdigest()
    file = Path(folder) / name
    whole = file.is_file() and hashlib.sha256(file.read_bytes()).hexdigest() == _CL100K_SHA256
    return file if whole else None


def _of_file(path: Path) -> LengthTokenizer:
    from tokenizers import Tokenizer

    try:
        content = path.read_bytes()
        tokenizer = Tokenizer.from_str(content.decode())
    except Exception as error:  # tokenizers raises bare Exception for a file that it cannot read
        raise ModelError(
            f"Expected `policy.length_tokenizer` to be auto, cl100k_base, policy, words or the "
            f"path of a tokenizer.json; {str(path)!r} is none of these: {error}."
        ) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    digest = hashlib.sha256(content).hexdigest()[:16]
    return LengthTokenizer(
        f"{path.name} sha256:{digest}",
        lambda text: tokenizer.encode(text, add_special_tokens=False).ids,
    )
