"""What a training step waits for: ours against a loop that asks the teacher one call at a time.

cold_speedup_b8, cold_speedup_b32  steps/s over those of the sequential loop, at 8 and 32 examples
                                   a step, with a teacher of 200 ms latency that knows no answer
                                   yet (32 calls may be under way at once); the same small
                                   compressor, metric and examples, one mask per example
ahead_speedup_b8, _b32             the same with `policy.one_step_ahead`
cold_seconds                       behind both, and of them the model's own
overlap_seconds                    of a step and of its waiting, at 22M parameters, with 192 calls a
                                   step of which 32 may be under way: the batch whole, in four
                                   micro-batches, and those asked about as they are drawn
cached_overhead_share              of a step's wall time when its completions are all stored, at 22M
                                   parameters: the part outside the compressor's forward pass,
                                   backward pass and optimiser

The sequential loop does what the reference implementation does: chunks padded to 512 pieces, one
Bernoulli draw per piece, the reference's loss, one chat completion after the other through the
OpenAI client. It is spared the reference's own costs (metrics loaded anew for each reward).
Seconds of a step are the median over the steps of a run, the first ones left out: they warm up.
"""

import contextlib
import itertools
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from openai import OpenAI

from benchmarks.results import publish, show
from benchmarks.workbench import (
    MODEL_PHASES,
    configure,
    make_examples,
    overhead_share,
    recording_service,
    seconds_by_phase,
)
from taco.own_service import own_service
from trainer.config import Config
from trainer.learning.launch import train_new
from trainer.policy.compressor import PromptCompressorReinforce
from trainer.policy.fresh import make_fresh_compressor
from trainer.rollouts.scores import load_metric
from trainer.tasks.data import load_examples, write_records
from trainer.types import Example

LATENCY_MS = 200
BATCH_SIZES = (8, 32)
WARM_UP = 2
STEPS = {8: 10, 32: 5}
"""Steps of ours measured at each batch size."""
SEQUENTIAL_STEPS = 3
CACHED_STEPS = 6
SMALL = {"layers": 1, "hidden": 64, "heads": 2}
"""A model whose step takes less than 0.05 s: what is measured is the waiting."""
LARGE = {"layers": 12, "hidden": 384, "heads": 6}
"""More than 22 million parameters."""
PIECES = 512
ONE_PASS = {"rollouts_per_example": 8, "passes": 1}
"""A step of eight examples is the same work whatever the demo trains."""
OVERLAPPED_BATCH = 8
CALLS_AT_ONCE = 32
OVERLAPPED_STEPS = 5
OVERLAP: dict[str, dict[str, Any]] = {
    "whole": {},
    "in four, then asked": {"micro_batch_size": 2, "overlap": False},
    "in four, each asked at once": {"micro_batch_size": 2},
}


def main() -> None:
    """Measure both loops cold, then ours from the store."""
    torch.set_num_threads(1)
    count = max(BATCH_SIZES) * (max(STEPS.values()) + WARM_UP)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        with recording_service(folder) as url:
            examples = make_examples(folder / "all.json", count, 0, "train", url)
        shutil.copy(folder / "all.json", folder / "asked-thrice.json")
        _one_question_each(folder / "all.json")
        texts = [example.original_prompt for example in examples]
        base = str(make_fresh_compressor(folder / "small", texts, **SMALL))
        seconds = {batch: _cold(folder, base, batch) for batch in BATCH_SIZES}
        large = str(make_fresh_compressor(folder / "large", texts, **LARGE))
        overlapped = _overlapped(folder, large)
        overhead, parameters = _cached(folder, large)
    show(
        f"A step, teacher of {LATENCY_MS} ms, nothing stored",
        ("examples", "one call at a time, s", "ours, s", "speedup", "one step ahead", "model, s"),
        [
            (
                str(batch),
                f"{cold.sequential:.2f}",
                f"{cold.ours:.3f}",
                f"{cold.sequential / cold.ours:.1f}x",
                f"{cold.sequential / cold.ahead:.1f}x",
                f"{cold.model:.3f}",
            )
            for batch, cold in seconds.items()
        ],
    )
    show(
        f"At 22M parameters, {OVERLAPPED_BATCH} examples a step, {CALLS_AT_ONCE} calls at once",
        ("forward passes", "s", "of them waiting"),
        [
            (name, f"{step_s:.2f}", f"{waiting_s:.2f}")
            for name, (step_s, waiting_s) in overlapped.items()
        ],
    )
    figures: dict[str, object] = {}
    for batch, cold in seconds.items():
        figures[f"cold_speedup_b{batch}"] = round(cold.sequential / cold.ours, 1)
        figures[f"ahead_speedup_b{batch}"] = round(cold.sequential / cold.ahead, 1)
    figures |= {
        "cached_overhead_share": round(overhead, 4),
        "cached_parameters": parameters,
        "overlap_seconds": {
            name: {"step": round(step_s, 3), "waiting": round(waiting_s, 3)}
            for name, (step_s, waiting_s) in overlapped.items()
        },
        "cold_seconds": {
            batch: {name: round(value, 3) for name, value in asdict(cold).items()}
            for batch, cold in seconds.items()
        },
    }
    publish("step", figures)


@dataclass(frozen=True, slots=True)
class Cold:
    """Seconds of a step whose completions nobody has stored."""

    sequential: float
    ours: float
    ahead: float
    """Ours, with masks drawn one step ahead."""
    model: float
    """Of ours, what is the compressor's."""


def _cold(folder: Path, base: str, batch: int) -> Cold:
    settings = folder / f"slow-{batch}.yaml"
    settings.write_text(f"builtin: {{latency_ms: {LATENCY_MS}}}\n", encoding="utf-8")
    config = _config(base, batch, folder / "all.json")
    ahead = _config(base, batch, folder / "all.json", one_step_ahead=True)
    steps, runs = WARM_UP + STEPS[batch], folder / f"runs-{batch}"
    examples = load_examples(folder / "all.json")
    with own_service(settings, store=folder / f"sequential-{batch}.sqlite") as url:
        sequential = _sequential_steps(config, examples, url)
    with own_service(settings, store=folder / f"ours-{batch}.sqlite") as url:
        ours = _our_steps(config, runs / "ours", url, steps)
    with own_service(settings, store=folder / f"ahead-{batch}.sqlite") as url:
        drawn_ahead = _our_steps(ahead, runs / "ahead", url, steps)
    (run,) = (runs / "ours").iterdir()
    phases = seconds_by_phase(run / config.logging.log_dir, warm_up=WARM_UP)
    return Cold(sequential, ours, drawn_ahead, sum(phases[phase] for phase in MODEL_PHASES))


def _our_steps(config: Config, runs: Path, url: str, steps: int) -> float:
    """Median seconds of a step, by the clock between two lines on the console."""
    moments: list[float] = []

    def note(line: str) -> None:
        if line.startswith("step "):
            moments.append(time.perf_counter())
            if len(moments) > steps:
                raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        train_new(config, "cold", teacher_url=url, runs=runs, report=note)
    gaps = [later - earlier for earlier, later in itertools.pairwise(moments)]
    return statistics.median(gaps[WARM_UP - 1 :])


def _sequential_steps(config: Config, examples: Sequence[Example], url: str) -> float:
    """Median seconds of a step of the loop that asks one call at a time."""
    batch, steps = config.hyperparams.train_batch_size, WARM_UP + SEQUENTIAL_STEPS
    compressor = PromptCompressorReinforce(
        config.model.model_load_path, "cpu", length_tokenizer="policy"
    )
    optimizer = torch.optim.AdamW(compressor.model.parameters(), lr=config.hyperparams.policy_lr)
    metric = load_metric(config.reward.metric)
    client = OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    generator = torch.Generator().manual_seed(0)
    seconds = []
    for step in range(steps):
        start = time.perf_counter()
        chosen = examples[step * batch : (step + 1) * batch]
        inputs = compressor.tokenizer(
            [example.original_prompt for example in chosen],
            padding="max_length",
            truncation=True,
            max_length=PIECES,
            return_tensors="pt",
        )
        policy = torch.distributions.Bernoulli(
            compressor.model(**inputs).logits.softmax(-1)[..., 1]
        )
        keep = torch.bernoulli(policy.probs.detach(), generator=generator)
        kept = (keep * inputs["attention_mask"]).bool()
        rewards = []
        for ids, chosen_pieces, example in zip(inputs["input_ids"], kept, chosen, strict=True):
            text = compressor.tokenizer.decode(ids[chosen_pieces], skip_special_tokens=True)
            (question,) = example.questions
            answer = _ask(client, config, text, str(question.question))
            rewards.append(metric(answer, question.reference_completion))
        reward = torch.tensor(rewards)[:, None]
        loss = -(policy.log_prob(keep) * reward).mean() - 0.01 * policy.entropy().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[WARM_UP:])


def _ask(client: OpenAI, config: Config, text: str, question: str) -> str:
    """One chat completion, with the same request as ours."""
    prompt = config.task.prompt.replace("{transcript}", text).replace("{question}", question)
    completion = client.chat.completions.create(
        model=config.task.gpt_model,
        messages=[
            {"role": "system", "content": str(config.task.system_message)},
            {"role": "user", "content": prompt},
        ],
        max_tokens=config.task.max_tokens,
        temperature=0,
        top_p=1,
        seed=42,
    )
    return completion.choices[0].message.content or ""


def _overlapped(folder: Path, base: str) -> dict[str, tuple[float, float]]:
    """Seconds of a step and of waiting for the teacher: whole, in micro-batches, and overlapped."""
    seconds = {}
    for name, compute in OVERLAP.items():
        config = configure(
            data={"train_file_path": str(folder / "asked-thrice.json"), "val_file_path": None},
            model={"model_load_path": base},
            evaluation={"val_share": 0.0},
            hyperparams={"train_batch_size": OVERLAPPED_BATCH, "policy_lr": 1e-4},
            policy=ONE_PASS,
            logging={"log_interval": 1},
            compute=compute,
        )
        with _limited_service(folder / name) as url:
            runs = folder / f"runs-{name}"
            step_s = _our_steps(config, runs, url, WARM_UP + OVERLAPPED_STEPS)
        (run,) = runs.iterdir()
        phases = seconds_by_phase(run / config.logging.log_dir, warm_up=WARM_UP)
        seconds[name] = step_s, phases["teacher"]
    return seconds


@contextlib.contextmanager
def _limited_service(folder: Path) -> Iterator[str]:
    """A service whose upstream takes `LATENCY_MS` for a completion, so many of them at once."""
    folder.mkdir()
    upstream, service = folder / "upstream.yaml", folder / "service.yaml"
    upstream.write_text(f"builtin: {{latency_ms: {LATENCY_MS}}}\n", encoding="utf-8")
    with own_service(upstream, store=folder / "upstream.sqlite") as url:
        limited = {"base_url": f"{url}/v1", "model": "builtin", "api_key_env": None}
        settings = {
            "backend": "openai",
            "served_models": ["builtin"],
            "openai": {**limited, "max_concurrency": CALLS_AT_ONCE},
        }
        service.write_text(json.dumps(settings), encoding="utf-8")  # Which is YAML too.
        with own_service(service, store=folder / "service.sqlite") as limited_url:
            yield limited_url


def _cached(folder: Path, base: str) -> tuple[float, int]:
    """The share of a step that is not the model's, and the model's parameters."""
    compressor = PromptCompressorReinforce(base, "cpu", length_tokenizer="policy")
    parameters = sum(parameter.numel() for parameter in compressor.model.parameters())
    few = folder / "few.json"
    with recording_service(folder) as url:
        make_examples(few, 8 * (CACHED_STEPS + 1), 0, "train", url)
        config = configure(
            data={"train_file_path": str(few), "val_file_path": None},
            model={"model_load_path": base},
            evaluation={"val_share": 0.0},
            hyperparams={"train_batch_size": 8, "policy_lr": 1e-4},
            policy=ONE_PASS,
        )
        for name in ("fill", "cached"):
            result = train_new(
                config, name, teacher_url=url, runs=folder / "large-runs", report=lambda _: None
            )
    seconds = seconds_by_phase(Path(result.folder) / config.logging.log_dir, warm_up=1)
    return overhead_share(seconds), parameters


def _one_question_each(data: Path) -> None:
    """Leave each record its first question: one call for each mask."""
    records = json.loads(data.read_text(encoding="utf-8"))
    first = {
        key: {**record, "questions": record["questions"][:1]} for key, record in records.items()
    }
    write_records(data, first)


def _config(base: str, batch: int, data: Path, *, one_step_ahead: bool = False) -> Config:
    return configure(
        data={"train_file_path": str(data), "val_file_path": None},
        model={"model_load_path": base},
        evaluation={"val_share": 0.0},
        hyperparams={"train_batch_size": batch},
        logging={"log_interval": 1},
        # One mask an example, like the loop beside it, and every text is asked about.
        policy={
            "loss": "reference",
            "credit": "rollout",
            "passes": 1,
            "one_step_ahead": one_step_ahead,
        },
        reward={"compression_tolerance": 1.0},
    )


if __name__ == "__main__":
    main()
