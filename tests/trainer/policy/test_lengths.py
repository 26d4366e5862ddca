"""Length tokenizers: which one, under which name, without a download."""

import hashlib

import pytest

from tests.tiny_models import CORPUS
from trainer.errors import ModelError
from trainer.policy.compressor import PromptCompressorReinforce
from trainer.policy.inference import compress
from trainer.policy.lengths import LengthTokenizer, resolve_length_tokenizer
from trainer.policy.words import CompressionOptions


def test_words_are_encoded_once():
    """The hot path looks words up."""
    asked = []

    def encode(text: str) -> list[int]:
        asked.append(text)
        return [0] * len(text)

    tokenizer = LengthTokenizer("letters", encode)
    assert tokenizer.count_words(["a", "bcd", "a", "a"]).tolist() == [1, 3, 1, 1]
    assert tokenizer.count_words(["bcd"]).tolist() == [3]
    assert asked == ["a", "bcd"]


def test_policy_setting_counts_pieces(bert):
    """No special tokens are counted, and truncation that others set does not apply."""
    tokenizer = resolve_length_tokenizer("policy", bert.tokenizer)
    bert.tokenizer(["The council met on"], truncation=True, max_length=3, padding="max_length")
    assert tokenizer.count("The council met on") == 4
    assert tokenizer.name == "policy"


def test_auto_never_downloads(bert, tmp_path, monkeypatch):
    """Without cl100k_base on disk the policy's own tokenizer counts, and a warning says so."""
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    with pytest.warns(UserWarning, match="policy's own tokenizer"):
        assert resolve_length_tokenizer("auto", bert.tokenizer).name == "policy"


def test_auto_does_not_trust_a_damaged_file(bert, tmp_path, monkeypatch):
    """One with a wrong digest tiktoken would delete and download it again."""
    url = "https://openaipublic.blob.core.windows.net/encodings/cl100k_base.tiktoken"
    (tmp_path / hashlib.sha1(url.encode()).hexdigest()).write_bytes(b"damaged")
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    with pytest.warns(UserWarning, match="policy's own tokenizer"):
        assert resolve_length_tokenizer("auto", bert.tokenizer).name == "policy"


def test_tokenizer_file_is_named_by_its_content(bert, bert_path):
    """Two files that count differently have different names in the records."""
    file = bert_path / "tokenizer.json"
    tokenizer = resolve_length_tokenizer(str(file), bert.tokenizer)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()[:16]
    assert tokenizer.name == f"tokenizer.json sha256:{digest}"
    assert tokenizer.encode("The council") == bert.length_tokenizer.encode("The council")


@pytest.mark.parametrize("content", [None, b"{}", b"\xff\xfe"])
def test_unreadable_tokenizer_file(bert, tmp_path, content):
    """A missing or foreign file is one clear error."""
    file = tmp_path / "tokenizer.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ModelError, match=r"Expected `policy\.length_tokenizer` to be auto"):
        resolve_length_tokenizer(str(file), bert.tokenizer)


def test_words_are_the_policys_and_one_each(pair):
    """A text is as long as the segmenter finds words in it, however many pieces they have."""
    words = PromptCompressorReinforce(str(pair.path), "cpu", length_tokenizer="words")
    prompt = words.segmenter(CompressionOptions()).segment([" ".join(CORPUS)])
    counts = [chunk.word_tokens for chunk in prompt.chunks]
    assert all((count_W == 1).all() for count_W in counts)
    assert prompt.original_tokens == sum(map(len, counts))
    half = compress(words, [" ".join(CORPUS)], CompressionOptions(), rate=0.5, exact=True)
    assert half.compressed_tokens == pytest.approx(half.original_tokens / 2, abs=1)
