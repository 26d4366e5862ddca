"""The configuration: what loads, and what is said where something does not."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from teacher_service import load_settings
from trainer.config import Config, resolved
from trainer.config_file import load_config
from trainer.errors import ConfigError

CONFIGS = Path(__file__).parents[2] / "configs"

REFERENCE = {
    "data": {"train_file_path": "examples/meeting_summary.json"},
    "model": {
        "model_load_path": "microsoft/llmlingua-2-xlm-roberta-large-meetingbank",
        "trained_model_output_dir_hf": "models/reinforce_trained_model",
    },
    "task": {"gpt_model": "gpt-35-turbo", "max_tokens": 1500},
    "hyperparams": {
        "epochs": 4,
        "train_batch_size": 8,
        "policy_lr": "1e-5",
        "compression_rate": 0.5,
        "compression_relaxation_tokens": 30,
        "max_seq_len": 512,
        "entropy_coeff": 0.01,
        "target_token": -1,
        "use_context_level_filter": False,
        "use_token_level_filter": True,
        "target_context": -1,
        "context_level_compression_rate": 1.0,
        "context_level_target_token": -1,
        "force_tokens": "",
        "drop_consecutive": True,
        "force_reserve_digit": False,
    },
    "logging": {"log_dir": "logs_new", "log_interval": 5, "save_interval": 100},
    "device": {"use_cuda": True, "device_map": "auto"},
}
"""The reference's file but for the prompt: a plain YAML loader reads `1e-5` as a text."""

SMALLEST: dict[str, dict[str, Any]] = {
    "data": {"train_file_path": "data.json"},
    "model": {"model_load_path": "base"},
    "task": {"prompt": "Sum up: {transcript}"},
}


def _load(tmp_path: Path, text: str, *overrides: str) -> Config:
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return load_config(path, overrides)


def _load_with(tmp_path: Path, section: str, **values: Any) -> Config:
    document = {**SMALLEST, section: {**SMALLEST.get(section, {}), **values}}
    return _load(tmp_path, yaml.safe_dump(document))


def _problems(tmp_path: Path, section: str, **values: Any) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        _load_with(tmp_path, section, **values)
    return caught.value.problems


def test_the_reference_file_has_exactly_its_keys_and_values():
    """Only the wording of the prompt is ours."""
    document = yaml.safe_load((CONFIGS / "train_reinforce.yaml").read_text(encoding="utf-8"))
    assert "{transcript}" in document["task"].pop("prompt")
    assert document == REFERENCE


def test_the_reference_file_loads_unmodified():
    """Every key arrives with its value; `1e-5` is a number and the empty force token is none."""
    plain = resolved(load_config(CONFIGS / "train_reinforce.yaml"))
    for section, values in REFERENCE.items():
        for key, value in values.items():
            expected = {"policy_lr": 1e-5, "force_tokens": []}.get(key, value)
            assert plain[section][key] == expected, key


def test_every_shipped_config_loads():
    """The trainer's and the service's; a new one must be counted here."""
    paths = sorted(CONFIGS.rglob("*.yaml"))
    for path in paths:
        load_settings(path) if path.parent.name == "teacher" else load_config(path)
    assert len(paths) == 14


def test_the_demo_runs_for_three_decimals_of_comparability():
    """The CPU, one thread and the policy's own tokenizer are pinned, also where there is a GPU."""
    config = load_config(CONFIGS / "demo.yaml")
    assert (config.device.use_cuda, config.device.device_map) == (False, "cpu")
    assert config.run.threads == 1
    assert config.policy.length_tokenizer == "policy"


def test_what_is_resolved_loads_again():
    """The run folder's copy is the config, defaults spelt out."""
    config = load_config(CONFIGS / "demo.yaml")
    assert Config.model_validate(resolved(config)) == config


@pytest.mark.parametrize(
    ("section", "key", "right"),
    [
        ("hyperparams", "epoch", "hyperparams.epochs"),
        ("hyperparams", "compresion_rate", "hyperparams.compression_rate"),
        ("hyperparams", "rollouts_per_exampel", "policy.rollouts_per_example"),
        ("loging", "log_dir", "logging"),
    ],
)
def test_an_unknown_key_is_an_error_that_names_the_nearest(tmp_path, section, key, right):
    """Also where the right key is in another section, and where the section is wrong."""
    [problem] = _problems(tmp_path, section, **{key: 1})
    assert "no such key" in problem
    assert problem.endswith(f"did you mean {right}?")


def test_an_unknown_key_that_is_near_nothing_lists_its_section(tmp_path):
    """There is no guess, so all that would be right is named."""
    [problem] = _problems(tmp_path, "logging", xyzzy=1)
    assert problem == (
        "logging.xyzzy: no such key; expected one of: log_dir, log_interval, save_interval, "
        "keep_checkpoints, trackers"
    )


def test_all_problems_are_reported_together(tmp_path):
    """Five faults of five kinds: file and overrides alike."""
    text = """
        data: {train_file_path: 7}
        model: {}
        task: {prompt: "no place for the text"}
        hyperparams: {epochs: 0, learning_rate: 1}
    """
    with pytest.raises(ConfigError) as caught:
        _load(tmp_path, text, "logging.log_interval")
    places = [problem.partition(":")[0] for problem in caught.value.problems]
    assert places == [
        "'logging.log_interval'",
        "data.train_file_path",
        "model.model_load_path",
        "task.prompt",
        "hyperparams.epochs",
        "hyperparams.learning_rate",
    ]
    assert str(caught.value).startswith(f"{tmp_path / 'config.yaml'}: 6 problems\n")


@pytest.mark.parametrize(
    ("written", "number"),
    [("1e-5", 1e-5), ("1E-5", 1e-5), ("3e4", 3e4), ("1.5e3", 1500.0), ("1.0e-5", 1e-5), ("2", 2.0)],
)
def test_numbers_with_an_exponent_are_numbers(tmp_path, written, number):
    """With a dot or without, although YAML 1.1 reads some of them as texts."""
    text = yaml.safe_dump(SMALLEST) + f"hyperparams: {{policy_lr: {written}}}\n"
    assert _load(tmp_path, text).hyperparams.policy_lr == number
    assert _load(
        tmp_path, yaml.safe_dump(SMALLEST), f"hyperparams.policy_lr={written}"
    ).hyperparams.policy_lr == pytest.approx(number)


@pytest.mark.parametrize(
    ("written", "tokens"),
    [
        ("", ()),
        (None, ()),
        ([], ()),
        ("\n", ("\n",)),
        ("ab", ("ab",)),
        (["\n", "?"], ("\n", "?")),
    ],
)
def test_force_tokens_are_none_one_or_many(tmp_path, written, tokens):
    """The empty string is no token, and a string is one token, never its letters."""
    assert _load_with(tmp_path, "hyperparams", force_tokens=written).hyperparams.force_tokens == (
        tokens
    )


@pytest.mark.parametrize("written", [7, [1], ["a", ""], {"a": 1}, [f"t{n}" for n in range(101)]])
def test_force_tokens_of_another_kind_are_refused(tmp_path, written):
    """No token is empty, and the stock package takes a hundred at most."""
    assert all(
        problem.startswith("hyperparams.force_tokens")
        for problem in _problems(tmp_path, "hyperparams", force_tokens=written)
    )


@pytest.mark.parametrize("text", ["a: 1\na: 2\n", "data: {x: 1, x: 2}\n"])
def test_a_key_that_stands_twice_is_an_error(tmp_path, text):
    """One of the two values would be lost in silence."""
    with pytest.raises(ConfigError, match="stands here a second time"):
        _load(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "an empty file"),
        ("[1, 2]", "got list"),
        ("a: [", "expected YAML"),
        ("7: 8", "7: "),
        ("hyperparams:", "hyperparams: "),
    ],
)
def test_what_is_no_config_is_refused(tmp_path, text, said):
    """With what it is instead."""
    with pytest.raises(ConfigError, match=said):
        _load(tmp_path, text)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    """By name."""
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(ConfigError, match="expected a YAML file") as caught:
            load_config(path)
        assert str(caught.value).startswith(str(path))


def test_overrides_change_single_values(tmp_path):
    """They are YAML, make sections that are not there, and an empty one is the empty text."""
    config = _load(
        tmp_path,
        yaml.safe_dump(SMALLEST),
        "hyperparams.epochs=1",
        "policy.loss=reference",
        'hyperparams.force_tokens=["\\n", "?"]',
        "task.system_message=null",
        "run.name=trial=1",
    )
    assert config.hyperparams.epochs == 1
    assert config.policy.samples == 1
    assert config.hyperparams.force_tokens == ("\n", "?")
    assert config.task.system_message is None
    assert config.run.name == "trial=1"
    again = _load(tmp_path, yaml.safe_dump(SMALLEST), "hyperparams.force_tokens=")
    assert again.hyperparams.force_tokens == ()


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("hyperparams.epochs", "expected an override such as"),
        ("=1", "expected an override such as"),
        ("hyperparams..epochs=1", "expected an override such as"),
        ("hyperparams.epochs=[", "the value is no YAML"),
        ("data.train_file_path.x=1", "train_file_path is a value, no section"),
        ("hyperparams.epoch=1", r"did you mean hyperparams.epochs\?"),
    ],
)
def test_a_wrong_override_is_named(tmp_path, override, said):
    """In the words of the command line."""
    with pytest.raises(ConfigError, match=said):
        _load(tmp_path, yaml.safe_dump(SMALLEST), override)


def test_a_template_needs_a_place_for_the_text(tmp_path):
    """A question alone is not enough; other braces are text."""
    [problem] = _problems(tmp_path, "task", prompt="Answer {question}")
    assert problem.startswith("task.prompt: expected a template with {transcript}")
    _load_with(tmp_path, "task", prompt='{"a": {0}} {transcript} {')


@pytest.mark.parametrize(
    "values",
    [
        {"use_token_level_filter": False},
        {"compression_rate": 1.0},
        {"compression_rate": 1.5},
        {"compression_rate": 1, "target_token": 0},
    ],
)
def test_what_leaves_nothing_to_train_is_refused(tmp_path, values):
    """With that sentence."""
    [problem] = _problems(tmp_path, "hyperparams", **values)
    assert "leaves nothing to train" in problem


def test_a_target_in_tokens_makes_up_for_a_rate_of_one(tmp_path):
    """It overrides the rate."""
    config = _load_with(tmp_path, "hyperparams", compression_rate=1.0, target_token=200)
    assert config.hyperparams.target_token == 200


def test_leave_one_out_needs_a_group(tmp_path):
    """One rollout has nobody to be compared with; the reference's loss draws one in any case."""
    [problem] = _problems(tmp_path, "policy", rollouts_per_example=1)
    assert "at least 2" in problem
    reference = _load_with(tmp_path, "policy", rollouts_per_example=5, loss="reference")
    assert reference.policy.samples == 1
    assert _load_with(tmp_path, "policy", rollouts_per_example=1, loss="none").policy.samples == 1


def test_several_rates_and_a_length_in_tokens_exclude_each_other(tmp_path):
    """The length would set every example's rate."""
    assert _load_with(tmp_path, "policy", rates=[0.2, 0.4]).policy.rates == (0.2, 0.4)
    both = {"policy": {"rates": [0.2]}, "hyperparams": {"target_token": 100}}
    with pytest.raises(ConfigError, match="leave one of them out"):
        _load(tmp_path, yaml.safe_dump({**SMALLEST, **both}))


@pytest.mark.parametrize(
    "other", [{"policy": {"rates": [0.2]}}, {"hyperparams": {"target_token": 100}}]
)
def test_a_start_rate_leads_to_one_rate(tmp_path, other):
    """The run's own; where examples have rates of their own, there is none to lead to."""
    assert _load_with(tmp_path, "policy", start_rate=0.6).policy.start_rate == 0.6
    policy = {"start_rate": 0.6, **other.get("policy", {})}
    with pytest.raises(ConfigError, match="leads to one rate"):
        _load(tmp_path, yaml.safe_dump({**SMALLEST, **other, "policy": policy}))


def test_a_deployed_text_is_none_that_the_exact_sampler_draws(tmp_path):
    """Its length is not exactly the target, so it has no log-probability."""
    [problem] = _problems(tmp_path, "policy", loss="greedy", sampler="exact_count")
    assert "could not have drawn it" in problem


@pytest.mark.parametrize("loss", ["greedy", "none", "reference"])
def test_credit_by_word_needs_a_group(tmp_path, loss):
    """The other rollouts say which words matter; the reference's loss draws no others."""
    [problem] = _problems(tmp_path, "policy", rollouts_per_example=1, credit="word", loss=loss)
    assert "which words matter" in problem


@pytest.mark.parametrize(
    ("section", "values"),
    [
        ("hyperparams", {"epochs": "two"}),
        ("hyperparams", {"epochs": 1.5}),
        ("hyperparams", {"epochs": True}),
        ("hyperparams", {"epochs": 0}),
        ("hyperparams", {"train_batch_size": 0}),
        ("hyperparams", {"policy_lr": 0}),
        ("hyperparams", {"policy_lr": "fast"}),
        ("hyperparams", {"policy_lr": float("inf")}),
        ("hyperparams", {"compression_rate": 0.0}),
        ("hyperparams", {"compression_rate": -0.5}),
        ("hyperparams", {"compression_rate": float("nan")}),
        ("hyperparams", {"compression_relaxation_tokens": -1}),
        ("hyperparams", {"max_seq_len": 2}),
        ("hyperparams", {"entropy_coeff": -0.01}),
        ("hyperparams", {"drop_consecutive": "yes"}),
        ("logging", {"log_interval": 0}),
        ("logging", {"save_interval": 0}),
        ("device", {"use_cuda": 1}),
        ("device", {"device_map": "tpu"}),
        ("policy", {"loss": "ppo"}),
        ("policy", {"max_grad_norm": 0}),
        ("policy", {"passes": 0}),
        ("policy", {"clip_ratio": 1}),
        ("policy", {"max_kl": 0}),
        ("policy", {"kl_coeff": -1}),
        ("policy", {"warmup_steps": -1}),
        ("policy", {"rates": 0.3}),
        ("reward", {"compression_tolerance": 1.5}),
        ("reward", {"over_compressed": float("nan")}),
        ("teacher", {"timeout_s": 0}),
        ("teacher", {"max_failed_share": -0.1}),
        ("evaluation", {"val_share": 2}),
        ("run", {"seed": -1}),
        ("run", {"threads": 0}),
        ("run", {"name": "a/b"}),
        ("run", {"name": ".."}),
        ("run", {"name": " "}),
        ("task", {"max_tokens": 0}),
        ("model", {"model_load_path": 3}),
        ("data", {"val_file_path": []}),
    ],
)
def test_wrong_types_and_ranges_are_refused_by_place(tmp_path, section, values):
    """One problem, which begins with the key and shows what came."""
    [problem] = _problems(tmp_path, section, **values)
    [key] = values
    assert problem.startswith(f"{section}.{key}: ")
    assert "got " in problem


def test_a_bad_config_is_answered_without_torch():
    """Nor with anything else that is slow to import."""
    code = (
        "import sys\n"
        "from trainer.config_file import load_config\n"
        f"load_config(__import__('pathlib').Path({str(CONFIGS / 'demo.yaml')!r}))\n"
        "print(sorted({'torch', 'transformers', 'llmlingua', 'numpy'} & set(sys.modules)))"
    )
    command = [sys.executable, "-P", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
