"""`taco card`: the model card of a run's compressor, written from what the run recorded."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from taco.compress import model_of_run
from taco.errors import UserError

CARD = "README.md"
_SPACING = {
    "stock": "as the stock package folds white space",
    "original": "as in the source (`taco compress`; the stock package folds white space)",
}

_console = Console(highlight=False, soft_wrap=True)


def write_card(run: Path, licence: str | None) -> Path:
    """Write `README.md` beside the compressor of a finished run; the compressor's folder.

    Args:
        run: the run's folder; its `evaluation` is shown where there is one.
        licence: of the model, as the hub names it; None: not decided, and the card says so.

    Raises:
        UserError: the run is not finished, or the card cannot be written.
    """
    model = Path(model_of_run(run))
    run_record, result = (_read(run / name) for name in ("run.json", "result.json"))
    evaluation = run / "evaluation" / "report.md"
    try:
        report = evaluation.read_text(encoding="utf-8") if evaluation.exists() else None
        (model / CARD).write_text(card(run_record, result, report, licence), encoding="utf-8")
    except OSError as error:
        raise UserError(f"{model / CARD}: cannot be written: {error.strerror}") from error
    _console.print(f"model card: {model / CARD}")
    if report is None:
        _console.print(f"it shows no figures: run `taco evaluate {run}` first, then this again")
    return model


def card(
    run: Mapping[str, Any], result: Mapping[str, Any], report: str | None, licence: str | None
) -> str:
    """The card.

    Args:
        run: what `run.json` says.
        result: what `result.json` says.
        report: the evaluation as Markdown; None: there is none.
        licence: see `write_card`.
    """
    config = run["config"]
    hyperparams, policy = config["hyperparams"], config["policy"]
    rate = f"{hyperparams['compression_rate']:g}"
    facts = {
        "started from": f"{config['model']['model_load_path']}, weights {run['base_digest']}",
        "weights": result["weights_digest"],
        "teacher": f"{config['task']['gpt_model']}, digest {run['teacher'] or 'unknown'}",
        "reward": config["reward"]["metric"],
        "rate": f"{rate} (compressed / original tokens)",
        "lengths counted with": run["length_tokenizer"],
        "cut": f"{config['evaluation']['rate']} rule",
        "spacing": _SPACING[config["evaluation"].get("spacing", "stock")],
        "loss": f"{policy['loss']}, {policy['rollouts_per_example']} rollouts per example",
        "force tokens": json.dumps(hyperparams["force_tokens"]),
        "teacher calls": f"{result['teacher_calls']:,}",
        "lock": result["lock_root"] or "none: the teacher was not the project's own service",
        **{f"{name} data": f"sha256 {digest}" for name, digest in run["data_digests"].items()},
    }
    lines = "\n".join(f"- {name}: `{value}`" for name, value in facts.items())
    licence_line = licence or "not decided; that of the base and of the data bind it"
    front = "---\nlibrary_name: transformers\ntags:\n- llmlingua-2\n- prompt-compression\n"
    if licence:
        front += f"license: {licence}\n"
    figures = report.replace("\n# ", "\n## ").removeprefix("# Evaluation\n") if report else None
    return f"""{front}---

# A prompt compressor for one task

An LLMLingua-2 compressor, fine-tuned with REINFORCE (TACO-RL): a compressed prompt is good if the
teacher answers as it did on the original. Licence: {licence_line}.

```python
from llmlingua import PromptCompressor

compressor = PromptCompressor(model_name="PATH", use_llmlingua2=True, device_map="cpu")
compressor.compress_prompt_llmlingua2(["a long prompt ..."], rate={rate})
```

The path must carry the name of the model's family, as this folder's does.

## Training

{lines}

The prompt that the teacher was asked with:

```
{config["task"]["prompt"].strip()}
```

## Evaluation
{figures or chr(10) + "None yet."}
"""


def _read(path: Path) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: expected what `taco train` wrote: {error}") from error
    return document
