"""LoRA adapters, and vLLM's other arguments: what changes answers is part of the teacher."""

import json
import shutil
from pathlib import Path

import pytest

from teacher_service.backend_settings import TransformersSettings, VLLMSettings
from teacher_service.backends import causal_lm, vllm_server
from teacher_service.backends.model_files import find_model
from teacher_service.backends.vllm_arguments import defining_arguments, parallel_arguments
from teacher_service.errors import StartError
from tests.tiny_causal_lm import make_adapter, make_causal_lm


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """The model as it is."""
    return make_causal_lm(tmp_path_factory.mktemp("models") / "teacher")


@pytest.fixture(scope="module")
def adapter(model, tmp_path_factory) -> Path:
    """An adapter for it."""
    return make_adapter(tmp_path_factory.mktemp("adapters") / "mine", model)


def _digest(model: Path, adapter: Path) -> str:
    section = TransformersSettings(model=str(model), adapter=str(adapter))
    return find_model(section, "transformers").identity.digest


def test_an_adapter_changes_the_answers_and_their_keys(start, model, adapter):
    """One store, two teachers, named after what they are."""
    texts = [{"text": "The council met."}, {"text": "Who leads?"}]

    def ask(**changes):
        section = {"model": str(model), "device": "cpu", **changes}
        service = start(
            backend="transformers", transformers=section, store=model.parent / f"{changes}.sqlite"
        )
        teachers = service.http.get("/v1/teachers").json()["data"]
        items = service.batch(texts, temperature=0, max_tokens=16).json()["data"]
        return teachers[-1], [(item["key"], item["text"]) for item in items]

    (plain, without), (adapted, with_it) = ask(), ask(adapter=str(adapter))
    assert (plain["name"], adapted["name"]) == ("teacher", "teacher+mine")
    assert not {key for key, _ in without} & {key for key, _ in with_it}
    assert [text for _, text in without] != [text for _, text in with_it]


def test_an_adapter_is_known_by_what_it_does(model, adapter, tmp_path):
    """Not by where it lies or was trained; another rank, scale or weight is another teacher."""
    moved = Path(shutil.copytree(adapter, tmp_path / "moved"))
    config = json.loads((moved / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = "/somewhere/else"
    (moved / "adapter_config.json").write_text(json.dumps(config))
    assert _digest(model, moved) == _digest(model, adapter)
    (moved / "adapter_config.json").write_text(json.dumps({**config, "lora_alpha": 8}))
    assert _digest(model, moved) != _digest(model, adapter)
    other = make_adapter(tmp_path / "other", model, seed=6)
    assert _digest(model, other) != _digest(model, adapter)


def test_a_folder_without_an_adapter_is_refused(model):
    """With what was expected in it."""
    with pytest.raises(StartError, match=r"holds no adapter: expected adapter_config\.json"):
        _digest(model, model)


def test_without_peft_the_extra_is_named(model, adapter, monkeypatch):
    """Before the model is loaded."""
    section = TransformersSettings(model=str(model), adapter=str(adapter), device="cpu")
    files = find_model(section, "transformers")
    monkeypatch.setattr(causal_lm, "find_spec", lambda name: None)
    with pytest.raises(StartError, match=r"needs peft: pip install 'taco-rewards\[transformers\]'"):
        causal_lm.CausalLM(files, section)


def test_vllm_is_the_same_teacher_and_serves_the_adapter(model, adapter):
    """By the same digest; requests name the adapter, for which there is room."""
    section = VLLMSettings(model=str(model), adapter=str(adapter), python="python")
    files = vllm_server._model_files(section)
    assert files.identity.digest == _digest(model, adapter)
    command = vllm_server.server_command(section, files, 1)
    assert command[command.index("--lora-modules") + 1] == f"teacher+mine={adapter}"
    assert command[command.index("--max-lora-rank") + 1] == "8"
    assert command[command.index("--fingerprint-value") + 1] == files.identity.digest


def test_an_adapter_that_vllm_has_no_room_for_is_refused(model, adapter, tmp_path):
    """With the rank that it takes."""
    wide = Path(shutil.copytree(adapter, tmp_path / "wide"))
    config = json.loads((wide / "adapter_config.json").read_text())
    (wide / "adapter_config.json").write_text(json.dumps({**config, "r": 1024}))
    section = VLLMSettings(model=str(model), adapter=str(wide), python="python")
    with pytest.raises(StartError, match="up to rank 512, this one has 1024"):
        vllm_server.server_command(section, vllm_server._model_files(section), 1)


@pytest.mark.parametrize(
    ("arguments", "counting"),
    [
        ([], []),
        (["--max-model-len", "8192", "-tp", "2", "--enforce-eager"], []),
        (["--gpu_memory_utilization=0.5"], []),
        (["--quantization", "fp8", "--max-num-seqs=4"], [["--quantization", "fp8"]]),
        (["--quantization=fp8"], [["--quantization", "fp8"]]),
        (["--hf-token", "secret"], []),
        (["--b", "-1", "--a"], [["--a"], ["--b", "-1"]]),
    ],
)
def test_arguments_that_may_change_answers_count(arguments, counting):
    """All but those that are known not to; however they are written."""
    assert defining_arguments(arguments) == counting


def test_how_a_model_is_spread_is_provenance():
    """It changes last digits, and is kept beside the answers."""
    given = ["-tp", "2", "--enforce-eager", "--pipeline-parallel-size=4"]
    assert parallel_arguments(given) == [["--pipeline-parallel-size", "4"], ["-tp", "2"]]


def test_a_quantised_model_is_another_teacher(model):
    """Its answers are not those of the model as it was saved."""

    def digest(*arguments: str) -> str:
        section = VLLMSettings(model=str(model), arguments=arguments)
        return vllm_server._model_files(section).identity.digest

    assert digest() == digest("--enforce-eager")
    assert digest("--quantization", "fp8") not in {digest(), digest("--quantization", "int8")}
