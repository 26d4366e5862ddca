"""Each key of the reference's file changes what a run does, and so do ours."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.tiny_runs import make_tiny_compressor, rows_of, tiny_document, write_meetings
from trainer.config import Config
from trainer.errors import ConfigError, TeacherRejected
from trainer.learning import devices
from trainer.learning.devices import make_accelerator
from trainer.learning.launch import train_new

ROOT = Path(__file__).parents[2]

Sections = dict[str, dict[str, Any]]

FILTERED = {"hyperparams.use_context_level_filter": True}
"""What the keys of the context-level filter need to have an effect."""

OTHER_DATA, OTHER_BASE = "other.json", "other-base"
"""Stand for paths that are known only once they are made."""

CHANGES: list[tuple[str, object, str, dict[str, object]]] = [
    # key, another value than in `plain`, what must differ, other keys that it needs
    ("data.train_file_path", OTHER_DATA, "texts", {}),
    ("model.model_load_path", OTHER_BASE, "texts", {}),
    ("model.trained_model_output_dir_hf", "elsewhere", "files", {}),
    ("task.prompt", "Q: {question} T: {transcript}", "questions", {}),
    ("task.max_tokens", 31, "questions", {}),
    ("hyperparams.epochs", 2, "steps", {}),
    ("hyperparams.train_batch_size", 4, "steps", {}),
    ("hyperparams.policy_lr", 2e-3, "learning rates", {}),
    ("hyperparams.compression_rate", 0.6, "texts", {}),
    ("hyperparams.compression_relaxation_tokens", 0, "rewards", {}),
    ("hyperparams.max_seq_len", 30, "chunks", {}),
    ("hyperparams.entropy_coeff", 1.0, "losses", {}),
    ("hyperparams.target_token", 20, "texts", {}),
    ("hyperparams.use_context_level_filter", True, "texts", {}),
    ("hyperparams.target_context", 1, "texts", FILTERED),
    ("hyperparams.context_level_compression_rate", 0.3, "texts", FILTERED),
    ("hyperparams.context_level_target_token", 20, "texts", FILTERED),
    ("hyperparams.force_tokens", ".", "texts", {}),
    ("hyperparams.drop_consecutive", True, "texts", {"hyperparams.force_tokens": "."}),
    ("hyperparams.force_reserve_digit", True, "texts", {}),
    ("logging.log_dir", "logs_elsewhere", "files", {}),
    ("logging.log_interval", 2, "reward rows", {}),
    ("logging.save_interval", 2, "files", {}),
]

FURTHER = {"policy.passes": 3, "policy.max_kl": 10.0}
"""What the keys of the further passes need."""
HELD_OUT = {"evaluation.val_share": 0.7}
"""What the keys of the validation need."""

OURS: list[tuple[str, object, str, dict[str, object]]] = [
    ("task.system_message", None, "questions", {}),
    ("task.sampling", {"temperature": 0, "seed": 7}, "questions", {}),
    ("policy.sampler", "bernoulli", "texts", {}),
    ("policy.rates", [0.2, 0.8], "texts", {}),
    ("policy.loss", "group_normalized", "weights", {}),
    ("policy.loss", "none", "weights", {}),
    ("policy.loss", "moving_average", "weights", {}),
    ("policy.loss", "greedy", "questions", {}),
    ("policy.loss", "reference_padded", "texts", {"policy.sampler": "bernoulli"}),
    ("policy.start_rate", 0.8, "texts", {}),
    ("policy.start_rate_steps", 1, "texts", {"policy.start_rate": 0.8}),
    ("policy.rollouts_per_example", 3, "texts", {}),
    ("policy.passes", 2, "weights", {"policy.max_kl": 10.0}),
    ("policy.clip_ratio", 1e-4, "weights", FURTHER),
    ("policy.max_kl", 1e-9, "weights", {"policy.passes": 3}),
    ("policy.one_step_ahead", True, "texts", {}),
    ("policy.entropy_per_word", 0.1, "losses", {}),
    ("policy.final_entropy_per_word", 0.1, "losses", {}),
    ("policy.kl_coeff", 10.0, "weights", {}),
    ("policy.lr_schedule", "constant", "learning rates", {}),
    ("policy.warmup_steps", 1, "learning rates", {}),
    ("policy.max_grad_norm", 0.01, "weights", {}),
    ("policy.weight_decay", 0.5, "weights", {}),
    ("reward.metric", "chrf", "rewards", {}),
    ("reward.compression_tolerance", 0.0, "rewards", {}),
    ("reward.over_compressed", -0.9, "rewards", {"hyperparams.target_token": 1}),
    ("reward.out_of_tolerance", -0.9, "rewards", {"hyperparams.compression_relaxation_tokens": 0}),
    ("reward.length_penalty", 0.5, "rewards", {"hyperparams.compression_relaxation_tokens": 0}),
    ("evaluation.val_share", 0.7, "reward rows", {}),
    ("evaluation.val_interval", 1, "reward rows", HELD_OUT | {"hyperparams.epochs": 2}),
    ("evaluation.rate", "exact", "texts", HELD_OUT),
    ("evaluation.rate", "threshold", "texts", HELD_OUT),
    ("policy.length_tokenizer", "words", "texts", {}),
    ("run.seed", 1, "texts", {}),
    ("run.threads", 2, "threads", {}),
]
"""Those that other tests do not show at work in a run."""

ELSEWHERE = {
    "task.gpt_model",  # test_the_teacher_is_asked_for_by_name
    "hyperparams.use_token_level_filter",  # test_without_the_token_filter_nothing_is_trained
    "device.use_cuda",  # test_both_keys_of_the_device_decide
    "device.device_map",
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory, base) -> Sections:
    """Two steps over four meetings of three contexts each."""
    folder = tmp_path_factory.mktemp("keys")
    for name, seed in (("data.json", 0), (OTHER_DATA, 1)):
        path = write_meetings(folder / name, 4, seed)
        records = json.loads(path.read_text())
        for record in records.values():
            words = record["original_prompt"].split()
            record["original_prompt"] = [" ".join(words[at::3]) for at in range(3)]
        path.write_text(json.dumps(records))
    return tiny_document(
        folder / "data.json",
        base,
        hyperparams={"epochs": 1, "train_batch_size": 2, "compression_relaxation_tokens": 10},
        logging={"log_interval": 1, "save_interval": 1},
        policy={"rollouts_per_example": 2},
        reward={"compression_tolerance": None},
    )


@pytest.fixture(scope="module")
def observe(plain, teacher_url, tmp_path_factory):
    """Train with changed keys; what can be seen of the run, by name."""
    known: dict[str, dict[str, object]] = {}

    def observe(changed: dict[str, object]) -> dict[str, object]:
        name = json.dumps(changed, sort_keys=True)
        if name not in known:
            document = {section: dict(values) for section, values in plain.items()}
            for key, value in changed.items():
                section, _, last = key.partition(".")
                document[section][last] = value
            known[name] = _observed(document, teacher_url, tmp_path_factory.mktemp("runs"))
        return known[name]

    return observe


def _observed(document: Sections, teacher_url: str, runs: Path) -> dict[str, object]:
    config = Config.model_validate(document)
    result = train_new(config, "run", teacher_url=teacher_url, runs=runs, report=lambda _: None)
    folder = Path(result.folder)
    logs = folder / config.logging.log_dir
    rollouts = [json.loads(line) for line in (logs / "rollouts.jsonl").read_text().splitlines()]
    leaves = [json.loads(line) for line in (folder / "run.lock").read_text().splitlines()][1:-1]
    losses = rows_of(logs / "reinforce_logs_updated.csv")[1:]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    return {
        "threads": threads,
        "weights": result.weights_digest,
        "texts": [rollout["compressed_text"] for rollout in rollouts],
        "rewards": [rollout["reward"] for rollout in rollouts],
        "questions": [rollout["fingerprints"] for rollout in rollouts],
        "chunks": [len(leaf["mask"]) for leaf in leaves],
        "steps": [row[2] for row in losses],
        "losses": [row[3] for row in losses],
        "learning rates": [row[4] for row in losses],
        "reward rows": rows_of(logs / "rewards_logs_updated.csv"),
        "files": sorted(str(path.relative_to(folder)) for path in folder.rglob("*")),
    }


@pytest.mark.parametrize(
    ("key", "value", "effect", "given"),
    [*CHANGES, *OURS],
    ids=[f"{key}={value}" for key, value, *_ in [*CHANGES, *OURS]],
)
def test_a_key_has_its_effect(observe, plain, key, value, effect, given):
    """One run without and one with it: what it is there for is another."""
    folder = Path(plain["data"]["train_file_path"]).parent
    if value == OTHER_DATA:
        value = str(folder / OTHER_DATA)
    if value == OTHER_BASE:
        value = str(make_tiny_compressor(folder / OTHER_BASE, folder / OTHER_DATA, seed=1))
    assert observe({**given, key: value})[effect] != observe(given)[effect]


def test_no_key_is_forgotten():
    """A key of the reference's file has a line above."""
    reference = yaml.safe_load((ROOT / "configs/train_reinforce.yaml").read_text(encoding="utf-8"))
    keys = {f"{section}.{key}" for section, values in reference.items() for key in values}
    assert keys == {key for key, *_ in CHANGES} | ELSEWHERE


def test_the_teacher_is_asked_for_by_name(observe):
    """The service knows no such teacher."""
    with pytest.raises(TeacherRejected, match="gpt-9"):
        observe({"task.gpt_model": "gpt-9"})


def test_without_the_token_filter_nothing_is_trained(plain):
    """Which is said."""
    document = {**plain, "hyperparams": {"use_token_level_filter": False}}
    with pytest.raises(ValueError, match="leaves nothing to train"):
        Config.model_validate(document)


@pytest.mark.parametrize(
    ("use_cuda", "device_map", "cpu"),
    [
        (True, "auto", False),
        (True, "cuda", False),
        (True, "cpu", True),
        (False, "auto", True),
        (False, "cuda", True),
    ],
)
def test_both_keys_of_the_device_decide(plain, monkeypatch, use_cuda, device_map, cpu):
    """Where there is a GPU; Accelerate is told whether to leave it alone."""
    monkeypatch.setattr(devices.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(devices, "Accelerator", dict)
    device = {"use_cuda": use_cuda, "device_map": device_map}
    accelerator = make_accelerator(Config.model_validate({**plain, "device": device}))
    assert accelerator["cpu"] == cpu


def test_a_gpu_may_be_chosen_by_its_number(plain, monkeypatch):
    """One that is there, and by a single process; a model is never spread over several."""

    def make(device_map):
        return make_accelerator(
            Config.model_validate({**plain, "device": {"device_map": device_map}})
        )

    monkeypatch.setattr(devices.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(devices.torch.cuda, "device_count", lambda: 2)
    chosen = []
    monkeypatch.setattr(devices.torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(devices, "Accelerator", dict)
    assert make("cuda:1")["cpu"] is False
    assert chosen == [1]
    with pytest.raises(ConfigError, match="one of 2 GPUs, got cuda:2"):
        make("cuda:2")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="one GPU for several processes; set cuda"):
        make("cuda:1")
    with pytest.raises(ValueError, match="got 'balanced': a compressor is trained on one device"):
        make("balanced")


@pytest.mark.parametrize("way", ["FSDP", "DEEPSPEED"])
def test_a_model_is_not_split_over_processes(plain, monkeypatch, way):
    """What `accelerate launch --use_fsdp` sets would have no effect, so it is refused."""
    monkeypatch.setenv(f"ACCELERATE_USE_{way}", "true")
    with pytest.raises(ConfigError, match=f"{way} splits a model over processes"):
        make_accelerator(Config.model_validate(plain))
