"""How the compressor is computed: each option, in whole runs."""

import json
import os
import signal
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.tiny_models import load_stock
from tests.tiny_runs import make_tiny_compressor
from trainer.config import Config
from trainer.errors import ConfigError
from trainer.evaluation.run_report.compressed import compress_with_checkpoint
from trainer.learning import devices, launch, passes
from trainer.learning.checkpoint import load_latest
from trainer.learning.launch import resume, train_new
from trainer.policy.compressor import PromptCompressorReinforce
from trainer.policy.inference import compress
from trainer.policy.words import CompressionOptions
from trainer.tasks.data import load_examples


@pytest.fixture(scope="module")
def deep(meetings, tmp_path_factory):
    """An untrained compressor of three layers."""
    return make_tiny_compressor(tmp_path_factory.mktemp("deep"), meetings, layers=3)


@pytest.fixture
def train(tmp_path, document, teacher_url):
    """Train with a changed compute section; the result."""

    def train(
        name="trial", report=lambda _: None, *, base=None, policy=None, hyperparams=None, **compute
    ):
        sections = {
            "compute": compute,
            "model": {"model_load_path": str(base)} if base else {},
            "policy": policy or {},
            "hyperparams": hyperparams or {},
        }
        config = Config.model_validate(document(**sections))
        runs = tmp_path / "runs"
        return train_new(config, name, teacher_url=teacher_url, runs=runs, report=report)

    return train


def _steps(result):
    log = Path(result.folder) / "logs/metrics.jsonl"
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]


def _changed(base, result):
    """Names of the weights that the run has moved."""
    before = load_file(Path(base) / "model.safetensors")
    after = load_file(Path(result.model_path) / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(weight.dtype == torch.float32 for weight in after.values())
    return {name for name in before if not torch.equal(before[name], after[name])}


def test_bf16_computes_the_model_alone(train, finished, monkeypatch):
    """Its matrices multiply in bfloat16; weights, log-probs and the sampler's bias are float32."""
    seen = {"products": set(), "policies": set()}
    policy_of = passes.policy_of

    def watched(run, *rest):
        hooks = [
            module.register_forward_hook(lambda _m, _i, out: seen["products"].add(out.dtype))
            for module in run.model.modules()
            if isinstance(module, torch.nn.Linear)
        ]
        policy = policy_of(run, *rest)
        for hook in hooks:
            hook.remove()
        log_probs = policy.word_log_probs(policy.forced_CW[None])
        seen["policies"] |= {log_probs.dtype, policy.logits_CW.dtype, policy.entropy().dtype}
        return policy

    monkeypatch.setattr(passes, "policy_of", watched)
    monkeypatch.setattr("trainer.learning.drawing.policy_of", watched)
    result = train(precision="bf16", policy={"kl_coeff": 0.01})
    assert seen == {"products": {torch.bfloat16}, "policies": {torch.float32}}
    ours, theirs = _steps(result)[0], _steps(finished)[0]
    assert ours["policy/kl_to_start"] == 0.0
    assert ours["policy/entropy_per_word"] == pytest.approx(
        theirs["policy/entropy_per_word"], rel=1e-2
    )
    assert result.weights_digest != finished.weights_digest


def test_bf16_still_learns(train):
    """Over forty steps the share of right answers doubles."""
    result = train(
        precision="bf16",
        policy={"rollouts_per_example": 8, "credit": "word"},
        hyperparams={"epochs": 10, "policy_lr": 3e-3},
    )
    rewards = [step["reward/scored"] for step in _steps(result)]
    assert np.mean(rewards[-8:]) > np.mean(rewards[:8]) + 0.2


def test_fp16_needs_a_gpu(train):
    """Which is said before anything is loaded."""
    with pytest.raises(ConfigError, match="fp16 needs a GPU"):
        train(precision="fp16")


def test_a_gradient_beyond_fp16_is_scaled_less_and_computed_again(train, monkeypatch):
    """With Accelerate's own machinery, which is otherwise for GPUs: no rollout is lost by it."""
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)

    def half(config):
        accelerator = devices.make_accelerator(config)
        accelerator.state._mixed_precision = "fp16"
        accelerator.native_amp, accelerator.scaler = True, scaler
        return accelerator

    monkeypatch.setattr(launch, "make_accelerator", half)
    result = train()
    assert 1 <= scaler.get_scale() < 2.0**40
    steps = _steps(result)
    assert len(steps) == 8
    assert all(np.isfinite(step["loss/grad_norm"]) for step in steps)
    _, tensors = load_latest(Path(result.folder) / "checkpoints", torch.device("cpu"))
    assert tensors["scaler"]["scale"] == scaler.get_scale()


def test_gradient_checkpointing_keeps_less_and_learns_the_same(train, deep, monkeypatch):
    """Of each layer only what went in is kept; the weights are the same, bit for bit."""
    kept = {}
    policy_of = passes.policy_of

    def measured(run, *rest):
        sizes = kept.setdefault(run.config.compute.gradient_checkpointing, [])

        def pack(tensor):
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            return policy_of(run, *rest)

    monkeypatch.setattr("trainer.learning.drawing.policy_of", measured)
    plain = train("plain", base=deep)
    less = train("less", base=deep, gradient_checkpointing=True)
    assert less.weights_digest == plain.weights_digest
    assert sum(kept[True]) < 0.5 * sum(kept[False])


def test_a_compiled_model_learns_the_same(train, finished):
    """By a backend of torch.compile without code generation, which would take a minute here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Of torch's own tracing.
        result = train(compile="eager", hyperparams={"epochs": 1})
    ours, theirs = _steps(result)[0], _steps(finished)[0]
    for key in ("loss/policy", "loss/grad_norm"):
        assert ours[key] == pytest.approx(theirs[key], rel=1e-4)
    assert _changed(launch.recorded_config(Path(result.folder)).model.model_load_path, result)


def test_an_unknown_compiler_is_refused(train):
    """With the ones that there are."""
    with pytest.raises(ConfigError, match=r"inductor.*got 'faster'"):
        train(compile="faster")


def test_frozen_parts_stay(train, deep):
    """Embeddings and the first two layers; all else moves."""
    moved = _changed(deep, train(base=deep, freeze_embeddings=True, frozen_layers=2))
    assert {name.split(".")[1] for name in moved if name.startswith("bert.")} == {"encoder"}
    assert {name.split(".")[3] for name in moved if name.startswith("bert.")} == {"2"}
    assert "classifier.weight" in moved


def test_more_frozen_layers_than_there_are(train):
    """Is a mistake."""
    with pytest.raises(ConfigError, match="at most the model's 1 layers, got 2"):
        train(frozen_layers=2)


def test_lora_is_merged_and_loads_in_the_stock_package(train, deep, meetings, teacher_url):
    """Only adapted matrices and the head have moved; stock llmlingua compresses alike."""
    result = train(base=deep, lora_rank=4, frozen_layers=1)
    moved = _changed(deep, result)
    assert moved == {
        "classifier.weight",
        "classifier.bias",
        *(
            f"bert.encoder.layer.{layer}.{matrix}.weight"
            for layer in (1, 2)
            for matrix in (
                "attention.self.query",
                "attention.self.key",
                "attention.self.value",
                "attention.output.dense",
                "intermediate.dense",
                "output.dense",
            )
        ),
    }
    ours = PromptCompressorReinforce(result.model_path, "cpu", length_tokenizer="policy")
    stock = load_stock(result.model_path, ours.length_tokenizer)
    for example in load_examples(meetings)[:4]:
        text = stock.compress_prompt_llmlingua2([example.original_prompt], rate=0.4)
        text = text["compressed_prompt"]
        options = CompressionOptions()
        assert text == compress(ours, [example.original_prompt], options, rate=0.4).text
        assert 0 < len(text) < len(example.original_prompt)
    # The report shows an unfinished run by its newest checkpoint.
    config = launch.recorded_config(Path(result.folder))
    examples = load_examples(meetings)[:2]
    shown = compress_with_checkpoint("lora", Path(result.folder), config, examples, [0.4])
    assert shown.label == "lora, step 8"
    assert [compression.text for compression in shown.at[0]] == [
        compress(ours, [example.original_prompt], CompressionOptions(), rate=0.4).text
        for example in examples
    ]


def test_lora_goes_on_bit_for_bit(train, deep, teacher_url):
    """Adapters are in the checkpoint; what begins them depends on the seed alone."""
    whole = train("whole", base=deep, lora_rank=2)

    def stop(line):
        if "step 4/8" in line:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train("stopped", stop, base=deep, lora_rank=2)
    folder = Path(whole.folder).with_name("stopped")
    resumed = resume(folder, teacher_url=teacher_url, report=lambda _: None)
    assert resumed.weights_digest == whole.weights_digest


def test_lora_without_a_layer_is_refused(train):
    """All of them are frozen."""
    with pytest.raises(ConfigError, match="expected a layer to adapt"):
        train(lora_rank=2, frozen_layers=1)
