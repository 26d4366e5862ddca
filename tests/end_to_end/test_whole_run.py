"""What a run leaves behind."""

import itertools
import json
import time
from dataclasses import asdict, replace
from math import cos, pi
from pathlib import Path

import pytest

from tests.tiny_runs import phases, rows_of, write_meetings
from trainer.config import Config, resolved
from trainer.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    ModelError,
    TeacherRejected,
    TeacherUnreachable,
    WriteError,
)
from trainer.learning import launch
from trainer.learning.launch import Result, train_new
from trainer.learning.lockfile import Lock
from trainer.learning.run_folder import saved_weights_digest

STEPS = 8
ROLLOUTS_PER_STEP = 9


@pytest.fixture
def run(finished):
    """The finished run's folder."""
    return Path(finished.folder)


@pytest.fixture
def train(tmp_path, document, teacher_url):
    """Train with changed sections; the result."""

    def train(name="trial", **sections) -> Result:
        config = Config.model_validate(document(**sections))
        return train_new(
            config, name, teacher_url=teacher_url, runs=tmp_path / "runs", report=lambda _: None
        )

    return train


def _lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_all_that_a_run_folder_holds(run):
    """And nothing unfinished."""
    found = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    model = "model/bert-base-multilingual-cased"
    assert found == {
        "run.json",
        "run.lock",
        "behaviour.jsonl",
        "result.json",
        "logs/reinforce_logs_updated.csv",
        "logs/rewards_logs_updated.csv",
        "logs/metrics.jsonl",
        "logs/rollouts.jsonl",
        "logs/validation.jsonl",
        "checkpoints/step-00000003.pt",
        "checkpoints/step-00000006.pt",
        f"{model}/config.json",
        f"{model}/model.safetensors",
        f"{model}/tokenizer.json",
        f"{model}/tokenizer_config.json",
    }


def test_the_result_says_where_everything_is(run, finished):
    """The same as a value and as a file."""
    assert json.loads((run / "result.json").read_text()) == asdict(finished)
    assert finished.model_path == str(run / "model/bert-base-multilingual-cased")
    assert finished.weights_digest == saved_weights_digest(Path(finished.model_path))
    assert finished.lock_root == Lock(Path(finished.lock)).root


def test_the_description_holds_the_whole_config_and_the_inputs(run, config, meetings):
    """Enough to do the run again, and to see what it depended on."""
    description = json.loads((run / "run.json").read_text())
    assert description["config"] == resolved(config)
    assert set(description["data_digests"]) == {"train", "validation"}
    assert description["length_tokenizer"] == "policy"
    assert description["environment"]["threads"] == 1
    assert Lock(run / "run.lock").header == {"lock": 1, **description}


def test_the_loss_csv_has_every_step(run):
    """Epochs count from 1; the learning rate falls along a half cosine."""
    rows = rows_of(run / "logs/reinforce_logs_updated.csv")
    assert rows[0] == ["Train/Val", "Epoch", "Step", "Policy Loss", "LR"]
    assert phases(rows) == [("Train", step) for step in range(1, STEPS + 1)]
    assert [row[1] for row in rows[1:]] == ["1"] * 4 + ["2"] * 4
    rates = [float(row[4]) for row in rows[1:]]
    assert rates == pytest.approx([5e-4 * (1 + cos(pi * step / STEPS)) for step in range(STEPS)])


def test_the_reward_csv_has_every_interval_and_the_validation(run):
    """TrainR each second step with the true step; ValR each third, and after the last."""
    rows = rows_of(run / "logs/rewards_logs_updated.csv")
    assert rows[0] == ["Train/Val", "Epoch", "Step", "Rewards", "Comp Ratio"]
    assert phases(rows) == [
        ("TrainR", 2),
        ("ValR", 3),
        ("TrainR", 4),
        ("TrainR", 6),
        ("ValR", 6),
        ("TrainR", 8),
        ("ValR", 8),
    ]
    assert all(1.5 < float(row[4]) < 4 for row in rows[1:])


def test_the_lock_has_every_rollout_in_order(run):
    """Step by step in the order of example and sample; validation after its step's rollouts."""
    leaves = _lines(run / "run.lock")[1:-1]
    places = [(leaf["step"], leaf["phase"] == "val") for leaf in leaves]
    assert places == sorted(places)
    for step in range(1, STEPS + 1):
        rollouts = [leaf for leaf in leaves if (leaf["phase"], leaf["step"]) == ("train", step)]
        assert [leaf["sample"] for leaf in rollouts] == [0, 1, 2] * 3
        assert len({leaf["example"] for leaf in rollouts}) == 3
    assert [leaf["step"] for leaf in leaves if leaf["phase"] == "val"] == [3, 3, 6, 6, 8, 8]


def test_calls_are_counted_and_wrong_lengths_never_reach_the_teacher(run, finished):
    """Two questions for each text of the right length; validation is not among them."""
    rollouts = _lines(run / "logs/rollouts.jsonl")
    training = [rollout for rollout in rollouts if rollout["phase"] == "train"]
    assert len(training) == STEPS * ROLLOUTS_PER_STEP
    for rollout in rollouts:
        asked = rollout["outcome"] == "scored"
        rate = rollout["compressed_tokens"] / rollout["original_tokens"]
        assert asked == (abs(rate - 0.4) <= 0.15)
        assert len(rollout["completions"]) == 2 * asked
        assert asked or rollout["reward"] == -0.1
    assert finished.teacher_calls == sum(len(rollout["completions"]) for rollout in training)
    assert finished.backend_calls <= sum(len(rollout["completions"]) for rollout in rollouts)


def test_the_metrics_agree_with_the_rollouts(run):
    """One line a step, with keys of the form area/name."""
    rollouts = _lines(run / "logs/rollouts.jsonl")
    metrics = _lines(run / "logs/metrics.jsonl")
    assert [line["step"] for line in metrics] == list(range(1, STEPS + 1))
    for line in metrics:
        rewards = [
            r["reward"] for r in rollouts if (r["phase"], r["step"]) == ("train", line["step"])
        ]
        assert line["reward/mean"] == pytest.approx(sum(rewards) / ROLLOUTS_PER_STEP)
        assert 0.3 < line["policy/entropy_per_word"] < 0.7
    assert metrics[-1]["teacher/calls_so_far"] == sum(line["teacher/calls"] for line in metrics)


def test_the_seconds_of_the_steps_are_the_wall_time_of_the_run(document, teacher_url, tmp_path):
    """Line by line, from one to the next: rows, console, validation and checkpoints included."""
    logging = {"log_dir": "logs", "log_interval": 4, "save_interval": 4}
    config = Config.model_validate(document(logging=logging, evaluation={"val_interval": 2}))
    pause = 0.2

    def report(line):
        if line.startswith("step 4/8"):
            time.sleep(pause)

    start = time.perf_counter()
    result = train_new(
        config, "timed", teacher_url=teacher_url, runs=tmp_path / "runs", report=report
    )
    elapsed = time.perf_counter() - start
    lines = _lines(Path(result.folder) / "logs/metrics.jsonl")
    seconds = [
        {key.removeprefix("seconds/"): value for key, value in line.items() if "seconds/" in key}
        for line in lines
    ]
    in_every_step = {"prepare", "forward", "sample", "teacher", "loss", "update", "record", "other"}
    assert all(in_every_step <= step.keys() for step in seconds)
    assert min(value for step in seconds for value in step.values()) >= 0
    assert sum(value for step in seconds for value in step.values()) <= elapsed
    # What follows a step's line is the next one's.
    assert seconds[4]["record"] >= pause
    assert [step for step, spent in enumerate(seconds, 1) if "validate" in spent] == [3, 5, 7]
    assert [step for step, spent in enumerate(seconds, 1) if "save" in spent] == [5]


def test_progress_is_told_at_the_logs_interval(finished, reported):
    """Then where the compressor and the lock are."""
    assert reported[0] == f"run folder: {finished.folder}"
    assert [line.split()[1] for line in reported if " reward " in line and "rate" in line] == [
        "2/8",
        "4/8",
        "6/8",
        "8/8",
    ]
    assert f"trained compressor: {finished.model_path}" in reported
    assert reported[-1] == f"lock: {finished.lock} (root {finished.lock_root})"


def test_training_moves_the_weights(finished, base):
    """All of them, and nothing but them: the folder is the base's otherwise."""
    assert finished.weights_digest != saved_weights_digest(base)
    trained = Path(finished.model_path)
    assert {path.name for path in trained.iterdir()} == {path.name for path in base.iterdir()}


def test_the_compressor_tells_what_the_last_step_drew(train, monkeypatch):
    """By the reference's `get_rl_info`: that step's rollouts, in order, and no earlier one's."""
    seen = []

    def watched(run, report):
        seen.append(run.compressor)
        train_loop(run, report)

    train_loop = launch.train
    monkeypatch.setattr(launch, "train", watched)
    folder = Path(train("told").folder)
    rollouts = _lines(folder / "logs/rollouts.jsonl")
    last = [one for one in rollouts if one["phase"] == "train" and one["step"] == STEPS]
    [compressor] = seen
    assert [
        (draw["example_id"], draw["sample_index"], draw["compressed_prompt"])
        for draw in compressor.get_rl_info()
    ] == [(one["example"], one["sample"], one["compressed_text"]) for one in last]


def test_the_same_config_gives_the_same_run(train, finished):
    """Bit for bit; the second of a name gets a folder of its own, and buys nothing."""
    first, second = train("twice"), train("twice")
    assert [Path(result.folder).name for result in (first, second)] == ["twice", "twice-2"]
    for result in (first, second):
        assert result.weights_digest == finished.weights_digest
        assert result.lock_root == finished.lock_root
        assert result.backend_calls == 0


def test_another_seed_is_another_run(train, finished):
    """Another order, for one thing."""
    assert train(run={"seed": 1}).lock_root != finished.lock_root


def test_each_seed_and_each_epoch_has_noise_of_its_own(train):
    """The same policy, which learns next to nothing here, never draws a text's mask again."""
    whole = {"train_batch_size": 12, "policy_lr": 1e-9}
    runs = [train(f"seed-{seed}", run={"seed": seed}, hyperparams=whole) for seed in (0, 1)]
    drawn = [
        {
            (line["example"], line["sample"]): line["compressed_text"]
            for line in _lines(Path(run.folder) / "logs/rollouts.jsonl")
            if (line["phase"], line["step"]) == ("train", epoch)
        }
        for run in runs
        for epoch in (1, 2)
    ]
    assert len(drawn[0]) == 12 * 3
    for one, other in itertools.combinations(drawn, 2):
        assert one.keys() == other.keys()
        assert not any(one[rollout] == other[rollout] for rollout in one)


def test_the_references_loss_draws_one_rollout_per_example(train):
    """And trains without a baseline."""
    result = train(policy={"loss": "reference", "sampler": "bernoulli"}, hyperparams={"epochs": 1})
    leaves = _lines(Path(result.lock))[1:-1]
    assert [leaf["sample"] for leaf in leaves if leaf["phase"] == "train"] == [0] * 12
    assert result.weights_digest


def test_long_prompts_are_trained_as_one_rollout(train, caplog):
    """Chunks of at most 30 pieces; the warning says that the stock package cuts elsewhere."""
    result = train(hyperparams={"max_seq_len": 30, "epochs": 1})
    assert "max_seq_len is 30, and the stock llmlingua package deploys 512" in caplog.text
    leaves = _lines(Path(result.lock))[1:-1]
    assert all(len(leaf["mask"]) >= 4 for leaf in leaves if leaf["phase"] == "train")


def test_a_part_of_the_data_is_held_out_where_no_file_is_named(train):
    """By the hash of the ids; held-out examples are never trained on."""
    result = train(data={"val_file_path": None}, evaluation={"val_share": 0.3, "val_interval": 0})
    leaves = _lines(Path(result.lock))[1:-1]
    trained, validated = (
        {leaf["example"] for leaf in leaves if leaf["phase"] == phase} for phase in ("train", "val")
    )
    assert trained
    assert validated
    assert trained | validated == {str(number) for number in range(12)}
    assert not trained & validated
    assert {leaf["step"] for leaf in leaves if leaf["phase"] == "val"} == {
        max(leaf["step"] for leaf in leaves)
    }


def test_a_step_in_which_nothing_can_be_learnt_moves_nothing(train, base):
    """Every text is too long, so all rewards are alike; no bonus for entropy either."""
    result = train(
        hyperparams={"target_token": 1, "entropy_coeff": 0.0, "epochs": 1},
        reward={"compression_tolerance": 0.0},
        policy={"sampler": "bernoulli"},
    )
    assert result.teacher_calls == 0
    assert result.weights_digest == saved_weights_digest(base)


@pytest.mark.parametrize(
    ("sections", "error", "said"),
    [
        ({"data": {"train_file_path": "/nowhere/data.json"}}, DataError, "cannot be read"),
        ({"model": {"model_load_path": "/nowhere/base"}}, ModelError, "there is no such folder"),
        ({"reward": {"metric": "rouge"}}, ConfigError, "expected one of bleu, "),
        ({"policy": {"length_tokenizer": "/nowhere.json"}}, ModelError, "length_tokenizer"),
        ({"task": {"sampling": {"n": 2}}}, ConfigError, "n: expected 1"),
        ({"model": {"trained_model_output_dir_hf": "xlm-roberta-large"}}, ModelError, "names xlm"),
        ({"model": {"trained_model_output_dir_hf": __file__}}, ModelError, "no folder that can be"),
        ({"logging": {"log_dir": __file__}}, WriteError, "could not be written"),
    ],
)
def test_what_cannot_be_trained_is_refused_at_the_start(train, tmp_path, sections, error, said):
    """Before a step is taken, and without an empty folder that would take the run's name."""
    with pytest.raises(error, match=said):
        train(**sections)
    assert not list((tmp_path / "runs").glob("*"))


def test_bad_records_are_all_listed_at_the_start(train, tmp_path):
    """Four of them, by key."""
    data = tmp_path / "data.json"
    records = [
        {"gpt_output": "x"},
        {"original_prompt": "", "gpt_output": "x"},
        {"original_prompt": 7, "gpt_output": "x"},
        {"original_prompt": "fine", "gpt_output": ["x"]},
        {"original_prompt": "fine", "gpt_output": "x"},
    ]
    data.write_text(json.dumps(dict(enumerate(records))))
    with pytest.raises(DataError) as caught:
        train(data={"train_file_path": str(data)})
    assert [problem.split(":")[0] for problem in caught.value.problems] == [
        "record '0'",
        "record '1'",
        "record '2'",
        "record '3'",
    ]


def test_nobody_at_the_teachers_url_is_said_at_the_start(config, tmp_path):
    """With what to do, and no folder made."""
    with pytest.raises(TeacherUnreachable, match="taco serve"):
        train_new(config, "trial", teacher_url="http://127.0.0.1:9", runs=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_an_unknown_teacher_is_said_with_those_that_are_served(train, tmp_path):
    """The run is saved before its first step."""
    with pytest.raises(TeacherRejected, match=r"gpt-9.*builtin"):
        train(task={"gpt_model": "gpt-9"})


def test_a_folder_that_cannot_be_made_is_said(config, teacher_url, tmp_path):
    """Here a file is in its place."""
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(CheckpointError, match="expected a folder that can be made"):
        train_new(config, "trial", teacher_url=teacher_url, runs=tmp_path / "runs")


def test_logs_elsewhere_are_one_runs_alone(train, tmp_path):
    """A resume would cut back another run's; the second run is refused, and leaves no folder."""
    logging = {"log_dir": str(tmp_path / "logs"), "save_interval": 1}
    train(logging=logging, hyperparams={"epochs": 1})
    assert rows_of(tmp_path / "logs/reinforce_logs_updated.csv")[4][:3] == ["Train", "1", "4"]
    with pytest.raises(CheckpointError, match=r"another run's; choose another logging\.log_dir"):
        train(logging=logging)
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["trial"]


def test_a_context_filter_without_contexts_is_a_warning(train, caplog):
    """As in the stock package, it does nothing to a single string."""
    train(hyperparams={"use_context_level_filter": True, "epochs": 1})
    assert "14 of 14 records have one context, of which nothing can be dropped" in caplog.text


def test_a_template_that_asks_no_question_is_a_warning(train, caplog):
    """Where the records have some: each would get the same answer."""
    train(task={"prompt": "Sum up: {transcript}"}, hyperparams={"epochs": 1})
    assert "task.prompt has no {question}, so that the questions of 14 of 14" in caplog.text


def test_examples_without_any_word_do_not_end_the_run(train, tmp_path):
    """A batch of nothing else is worth what empty texts are worth, and moves nothing."""
    data = write_meetings(tmp_path / "data.json", 2)
    records = json.loads(data.read_text())
    records |= {f"x{n}": {"original_prompt": "你好", "gpt_output": "x"} for n in range(4)}
    data.write_text(json.dumps(records))
    result = train(
        data={"train_file_path": str(data)}, hyperparams={"epochs": 1, "train_batch_size": 1}
    )
    rollouts = _lines(Path(result.folder) / "logs/rollouts.jsonl")
    assert {r["reward"] for r in rollouts if r["example"].startswith("x")} == {-0.4}


def test_a_gpu_that_is_not_there_is_a_warning(train, finished, caplog):
    """Training goes on on the CPU, to the same weights."""
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    result = train(device={"use_cuda": True, "device_map": "auto"})
    assert "there is no GPU here: training on the CPU" in caplog.text
    assert replace(result, folder="", model_path="", lock="", backend_calls=0) == replace(
        finished, folder="", model_path="", lock="", backend_calls=0
    )
