"""What a config names: data, metric, length tokenizer, compressor."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from taco.doctor.findings import Finding, ok, warning, wrong
from taco.doctor.probes import ProbeFailed, ProbeTookTooLong
from trainer.config import Config
from trainer.policy.families import FAMILIES
from trainer.policy.lengths import CL100K, cl100k_file
from trainer.rollouts.scores import uses_model
from trainer.rollouts.scoring import load_scorer
from trainer.tasks.data import load_examples


def check_data(what: str, path: Path, *, asks: bool) -> Finding:
    """A data file, read and checked as training does.

    Args:
        what: it is for.
        path: its place.
        asks: whether the prompt template has `{question}`.

    Raises:
        DataError: with every bad record.
    """
    if not path.exists():
        advice = (
            "correct its path, or make it: `taco data TASK -o FOLDER`, then `taco prepare FILE "
            "--config CONFIG`"
        )
        return wrong(what, f"there is no file {path}", advice)
    examples = load_examples(path)
    questions = sum(len(example.questions) for example in examples)
    said = f"{path}: {len(examples):,} examples, {questions:,} reference completions"
    asking = any(question.question for example in examples for question in example.questions)
    if asking and not asks:
        advice = "add {question} where it belongs"
        return warning(what, f"{said}; task.prompt does not ask their questions", advice)
    return ok(what, said)


def check_metric(config: Config) -> Finding:
    """The reward's metric can be imported, and its model loaded.

    Raises:
        ConfigError, ModelError: it cannot.
    """
    model = config.bertscore.model
    if uses_model(config.reward.metric) and model and local_folder(model) is None:
        return warning(
            "metric",
            f"{model} (bertscore.model) is neither a folder nor in the hub's cache: training would "
            "download it",
            f"`hf download {model}`, while there is a network",
        )
    return ok("metric", load_scorer(config, device="cpu").signature)


def check_length_tokenizer(setting: str) -> Finding:
    """What lengths are counted with is here already."""
    if setting in ("auto", CL100K):
        return _check_cl100k(asked_for=setting == CL100K)
    if setting in ("policy", "words") or Path(setting).is_file():
        return ok("tokenizer", f"lengths by {setting}")
    advice = "set policy.length_tokenizer to auto, cl100k_base, policy, words or a tokenizer.json"
    return wrong("tokenizer", f"there is no file {setting}", advice)


def _check_cl100k(*, asked_for: bool) -> Finding:
    if file := cl100k_file():
        return ok("tokenizer", f"lengths by cl100k_base, offline ({file})")
    otherwise = (
        "it would be downloaded"
        if asked_for
        else "lengths are counted by the policy's own tokenizer, which moves rewards and cut"
    )
    return warning(
        "tokenizer",
        f"tiktoken has no cl100k_base on disk: {otherwise}",
        "put its file into the folder TIKTOKEN_CACHE_DIR, or set policy.length_tokenizer=policy",
    )


def local_folder(model: str) -> Path | None:
    """Where a compressor lies on this machine: its folder, or the hub's cache; None: nowhere."""
    if Path(model).is_dir():
        return Path(model)
    try:
        from huggingface_hub import try_to_load_from_cache

        cached = try_to_load_from_cache(model, "config.json")
    except (ImportError, ValueError):  # A path is no name on the hub.
        return None
    return Path(cached).parent if isinstance(cached, str) else None


def looks_like_a_path(model: str) -> bool:
    """Whether a name can be none on the hub, which are NAME or OWNER/NAME."""
    return model.startswith((".", "/", "~")) or model.count("/") > 1


def check_model(
    model: str, folder: Path | None, load: Callable[[str], Mapping[str, Any]]
) -> Finding:
    """Stock `llmlingua` loads the compressor and compresses with it.

    Args:
        model: as the config names it.
        folder: where it lies; None: nowhere on this machine.
        load: `probes.load_in_stock`, in a process of its own; raises ProbeFailed.
    """
    if folder is None:
        if looks_like_a_path(model):
            advice = "correct model.model_load_path, or make one: `taco base FOLDER --data FILE`"
            return wrong("model", f"there is no folder {model}", advice)
        return warning(
            "model",
            f"{model} is neither a folder nor in the hub's cache: training would download it",
            f"`hf download {model}`, while there is a network",
        )
    try:
        found = load(model)
    except ProbeTookTooLong as error:
        said = f"whether stock llmlingua loads {model} is not known: {error}"
        return warning("model", said, "ask again when the machine has less to do")
    except ProbeFailed as error:
        return wrong(
            "model",
            f"stock llmlingua cannot load {model}: {error}",
            "point model.model_load_path at an LLMLingua-2 compressor",
        )
    if found["compressed"] is None:
        return warning(
            "model",
            f"stock llmlingua loads {model}, but joins words by a name in the path "
            f"({' or '.join(FAMILIES)}), and there is none",
            "what is trained from it is saved under such a name; rename the folder to deploy it",
        )
    return ok("model", f"stock llmlingua loads {model} and compresses with it")
