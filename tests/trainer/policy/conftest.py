"""One tiny compressor of each family, loaded by us and by the stock package."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from llmlingua import PromptCompressor

from tests.tiny_models import MAKERS, load_stock
from trainer.policy.compressor import PromptCompressorReinforce
from trainer.policy.families import FAMILIES
from trainer.policy.lengths import cl100k_file


@dataclass(frozen=True)
class Pair:
    """The same checkpoint, loaded twice."""

    path: Path
    ours: PromptCompressorReinforce
    stock: PromptCompressor


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session", params=FAMILIES)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Shared by all tests, which only read it."""
    path = MAKERS[request.param](tmp_path_factory.mktemp("models"))
    ours = PromptCompressorReinforce(str(path), "cpu", length_tokenizer="policy")
    return Pair(path, ours, load_stock(path, ours.length_tokenizer))


@pytest.fixture(scope="session")
def gpt_pair(pair: Pair) -> Pair:
    """The pair, counting lengths with cl100k_base, as deployed; skipped where its file is not."""
    if cl100k_file() is None:
        pytest.skip("tiktoken has no cl100k_base on disk: set TIKTOKEN_CACHE_DIR")
    ours = PromptCompressorReinforce(str(pair.path), "cpu", length_tokenizer="cl100k_base")
    return Pair(pair.path, ours, load_stock(pair.path, ours.length_tokenizer))


@pytest.fixture(scope="session")
def bert_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT checkpoint, shared by all tests."""
    return MAKERS["bert-base-multilingual-cased"](tmp_path_factory.mktemp("models"))


@pytest.fixture
def bert(bert_path: Path) -> PromptCompressorReinforce:
    """A BERT compressor of the test's own, which it may change."""
    return PromptCompressorReinforce(str(bert_path), "cpu", length_tokenizer="policy")
