"""Construction: offline, without side effects, with clear errors."""

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import llmlingua.prompt_compressor
import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForTokenClassification

from trainer.errors import ModelError
from trainer.policy.compressor import PromptCompressorReinforce, disable_dropout
from trainer.policy.families import BERT, XLM_ROBERTA, family_of

OFFLINE = """
import socket, sys, warnings
warnings.simplefilter("error")
def refuse(*args, **kwargs):
    raise AssertionError("the network was used")
socket.socket.connect = refuse
socket.getaddrinfo = refuse
from trainer.policy.compressor import PromptCompressorReinforce
from trainer.policy.inference import compress
from trainer.policy.words import CompressionOptions
warnings.filterwarnings("ignore", "tiktoken has no cl100k_base")
compressor = PromptCompressorReinforce(sys.argv[1], "cpu")
text = compress(compressor, ["The council met."], CompressionOptions(), rate=0.5).text
print(compressor.length_tokenizer.name, bool(text))
"""


def test_constructs_and_compresses_without_a_network(bert_path, tmp_path):
    """No socket is opened, with tiktoken's cache empty and no offline switch set."""
    online = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "TRANSFORMERS_"))}
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE, str(bert_path)],
        env={**online, "TIKTOKEN_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("policy True\n", 0), done.stderr


def global_state() -> tuple[object, ...]:
    """Everything that the stock constructor's seeding touches."""
    cudnn = torch.backends.cudnn
    return (
        random.getstate(),
        np.random.get_state()[1].tobytes(),
        torch.get_rng_state().numpy().tobytes(),
        os.environ.get("PYTHONHASHSEED"),
        (cudnn.deterministic, cudnn.benchmark),
    )


def test_global_random_state_is_untouched(bert_path):
    """The stock constructor seeds everything with 42; afterwards all is as it was."""
    before = global_state()
    tiktoken = llmlingua.prompt_compressor.tiktoken
    PromptCompressorReinforce(str(bert_path), "cpu", length_tokenizer="policy")
    assert global_state() == before
    assert llmlingua.prompt_compressor.tiktoken is tiktoken


def test_construction_does_not_depend_on_global_state(bert_path):
    """Added tokens get the embeddings that the stock package gives them, whatever was drawn."""
    torch.manual_seed(1)
    first = PromptCompressorReinforce(str(bert_path), "cpu", length_tokenizer="policy")
    torch.manual_seed(2)
    second = PromptCompressorReinforce(str(bert_path), "cpu", length_tokenizer="policy")
    for a, b in zip(first.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_weights_are_those_of_the_stock_package(pair):
    """The same checkpoint, added embeddings included, bit for bit."""
    stock = pair.stock.model.state_dict()
    for name, tensor in pair.ours.model.state_dict().items():
        assert torch.equal(tensor, stock[name]), name


def test_ready_for_training(pair):
    """float32, every weight trainable, no dropout, padded on the right with a pad token."""
    parameters = list(pair.ours.model.parameters())
    assert {p.dtype for p in parameters} == {torch.float32}
    assert all(p.requires_grad for p in parameters)
    assert pair.ours.tokenizer.padding_side == "right"
    assert pair.ours.tokenizer.pad_token in ("[PAD]", "<pad>")
    dropouts = [m.p for m in pair.ours.model.modules() if isinstance(m, torch.nn.Dropout)]
    assert dropouts
    assert set(dropouts) == {0.0}


def test_disable_dropout_makes_training_mode_deterministic():
    """In training mode the model then computes what it computes when deployed."""
    config = BertConfig(
        vocab_size=20,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=8,
    )
    model = BertForTokenClassification(config).train()
    ids = torch.arange(12)[None]
    assert not torch.equal(model(ids).logits, model(ids).logits)
    disable_dropout(model)
    assert torch.equal(model(ids).logits, model.eval()(ids).logits)
    assert model.config.hidden_dropout_prob == 0.1


def test_caller_settings_are_not_written_to(bert_path):
    """The stock package writes to the dictionaries that it is given."""
    settings: dict[str, object] = {}
    PromptCompressorReinforce(str(bert_path), "cpu", settings, length_tokenizer="policy")
    assert settings == {}


def test_rl_info_is_recorded_and_cleared(bert):
    """The reference's names: what was drawn, in order, until it is cleared."""
    bert.record_rl_info([{"log_prob": -1.0}])
    bert.record_rl_info([{"log_prob": -2.0}])
    assert [info["log_prob"] for info in bert.get_rl_info()] == [-1.0, -2.0]
    bert.clear_rl_info()
    assert bert.get_rl_info() == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_cuda_without_a_gpu_warns_and_uses_the_cpu(bert_path):
    """`use_cuda: true` on a laptop is a warning, no crash."""
    with pytest.warns(UserWarning, match="using the CPU"):
        compressor = PromptCompressorReinforce(str(bert_path), "cuda", length_tokenizer="policy")
    assert compressor.device == "cpu"


def test_missing_folder_says_what_to_do(tmp_path):
    """A path that is not there is named, with the setting to check."""
    with pytest.raises(ModelError, match=r"no such folder\. Check `model\.model_load_path`"):
        PromptCompressorReinforce(str(tmp_path / "absent"), "cpu")


def test_folder_without_a_model_is_an_error(tmp_path):
    """An empty folder is no compressor."""
    with pytest.raises(ModelError, match="to be the folder of an LLMLingua-2 compressor"):
        PromptCompressorReinforce(str(tmp_path), "cpu")


def test_a_model_that_is_no_token_classifier_is_refused(tmp_path):
    """Its head would be random, and nothing would say so."""
    BertConfig(architectures=["BertForMaskedLM"]).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"token classifier with two labels.*BertForMaskedLM"):
        PromptCompressorReinforce(str(tmp_path), "cpu")


def test_code_that_comes_with_a_model_is_not_run(bert_path, tmp_path):
    """The stock package runs it; here that takes a `trust_remote_code` of the caller's."""
    folder = shutil.copytree(bert_path, tmp_path / bert_path.name)
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "own_code.Config"}
    config["model_type"] = "own"
    (folder / "config.json").write_text(json.dumps(config))
    witness = tmp_path / "witness"
    (folder / "own_code.py").write_text(f"import pathlib; pathlib.Path({str(witness)!r}).touch()")
    with pytest.raises(ModelError):
        PromptCompressorReinforce(str(folder), "cpu")
    assert not witness.exists()
    with pytest.raises(Exception, match="Config"):
        PromptCompressorReinforce(str(folder), "cpu", {"trust_remote_code": True})
    assert witness.exists()


def test_other_kinds_of_compressor_are_refused(bert_path):
    """Only LLMLingua-2 has a policy over words."""
    with pytest.raises(ModelError, match="use_llmlingua2=True"):
        PromptCompressorReinforce(str(bert_path), "cpu", use_llmlingua2=False)


@pytest.mark.parametrize(
    ("path", "model_type", "family"),
    [
        ("microsoft/llmlingua-2-xlm-roberta-large-meetingbank", None, XLM_ROBERTA),
        ("models/llmlingua-2-bert-base-multilingual-cased-meetingbank", "bert", BERT),
        ("models/mine", "xlm-roberta", XLM_ROBERTA),
        ("models/mine", "bert", BERT),
    ],
)
def test_family_of(path, model_type, family):
    """The path decides as in the stock package; where it is silent, the configuration does."""
    assert family_of(path, None if model_type is None else ModelType(model_type)) == family


@pytest.mark.parametrize(
    ("path", "model_type", "message"),
    [
        (f"{BERT}/{XLM_ROBERTA}", None, "names both"),
        (f"models/{BERT}", "xlm-roberta", "Rename the folder"),
        ("models/mine", "llama", "type 'llama'"),
    ],
)
def test_family_of_refuses(path, model_type, message):
    """A path that would make the stock package join pieces by the wrong rule is an error."""
    with pytest.raises(ModelError, match=message):
        family_of(path, ModelType(model_type))


class ModelType:
    """The one field of a configuration that matters here."""

    def __init__(self, model_type: str | None) -> None:
        self.model_type = model_type
