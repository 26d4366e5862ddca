"""Whether a demo showed what it must; CI runs it after `make demo`.

    python tests/check_demo.py runs/demo/summary.json

Prints every failure and exits with 1 if there is one. It stands alone: what it loads the trained
compressor with is the stock package, and nothing of ours.
"""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

SENTENCE = "It was decided that Ann Carter takes charge of the bridge project after the break."

KEYS = frozenset(
    {
        "base_f1",
        "trained_f1",
        "random_f1",
        "rule_f1",
        "achieved_rate",
        "teacher_calls",
        "replay_teacher_calls",
        "weights_digest",
        "replay_weights_digest",
        "model_path",
        "seconds",
    }
)

BOUNDS: Mapping[str, Callable[[Mapping[str, Any]], bool]] = {
    "trained_f1 is at least 0.88": lambda s: s["trained_f1"] >= 0.88,
    "trained_f1 is 20 % over base_f1": lambda s: s["trained_f1"] >= 1.2 * s["base_f1"],
    "random_f1 is under 0.30": lambda s: s["random_f1"] < 0.30,
    "achieved_rate is near the requested 0.3": lambda s: abs(s["achieved_rate"] - 0.3) <= 0.05,
    "teacher_calls are about 30,000": lambda s: 20_000 <= s["teacher_calls"] <= 40_000,
    "the replay made no backend call": lambda s: s["replay_teacher_calls"] == 0,
    "the replay gave the same weights": lambda s: (
        s["weights_digest"] == s["replay_weights_digest"] != ""
    ),
    "it took three minutes at most": lambda s: s["seconds"] <= 180,
}


def problems(summary: Mapping[str, Any], root: Path) -> Iterator[str]:
    """Everything that the demo's summary should say and does not.

    Args:
        summary: what `summary.json` holds.
        root: what `model_path` is relative to.
    """
    if missing := KEYS - summary.keys():
        yield f"expected the keys {', '.join(sorted(KEYS))}; missing: {', '.join(sorted(missing))}"
        return
    for statement, holds in BOUNDS.items():
        if not holds(summary):
            yield f"expected that {statement}; the summary is {dict(summary)}"
    yield from _model_problems(root / summary["model_path"])


def _model_problems(path: Path) -> Iterator[str]:
    if not path.is_dir():
        yield f"expected the trained compressor at {path}; there is no such folder"
        return
    try:
        text = _compress(path)
    except Exception as error:
        yield f"expected the stock llmlingua to compress with {path}; it raised {error!r}"
        return
    if not 0 < len(text) < len(SENTENCE):
        yield f"expected a part of {SENTENCE!r} from {path}, got {text!r}"


def _compress(path: Path) -> str:
    """One sentence at half its length, by the stock package alone."""
    import tiktoken
    from llmlingua import PromptCompressor
    from transformers import AutoTokenizer

    # The stock constructor would download OpenAI's tokenizer to count lengths with.
    tokenizer = AutoTokenizer.from_pretrained(path)
    lengths = SimpleNamespace(encode=lambda text: tokenizer.encode(text, add_special_tokens=False))
    tiktoken.encoding_for_model = lambda _name: lengths
    compressor = PromptCompressor(str(path), device_map="cpu", use_llmlingua2=True)
    compressed = compressor.compress_prompt_llmlingua2([SENTENCE], rate=0.5)
    return str(compressed["compressed_prompt"])


def main(path: Path) -> int:
    """Check one summary; the number of problems decides the exit code."""
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        found = [f"expected the demo's summary at {path}: {error}"]
    else:
        found = list(problems(summary, Path.cwd()))
    for problem in found:
        sys.stderr.write(f"{problem}\n")
    if not found:
        sys.stdout.write(f"{path}: the demo shows what it must\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
