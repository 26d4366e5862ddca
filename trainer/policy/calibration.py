"""One threshold for a whole corpus, by which texts get the length that their content deserves.

A rate for each text keeps as much of the one that says little as of the one that says much. With
one threshold on the words' probabilities, chosen so that a corpus comes out at the target rate as a
whole, the first is cut to less and the second keeps more. It is found after training, on texts
that stand for those to come, and stored beside the model.
"""

import json
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from trainer.errors import ModelError
from trainer.policy.compressor import PromptCompressorReinforce
from trainer.policy.cuts import threshold_cuts
from trainer.policy.inference import word_probabilities
from trainer.policy.words import Segmenter

FILE = "thresholds.json"
CORPUS = 512
"""Texts that a threshold is calibrated on, at most."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """What a corpus was found to need for one rate."""

    rate: float
    """The target: compressed / original tokens of all texts together."""
    threshold: float
    """Words of a higher probability are kept."""
    achieved_rate: float
    """What the corpus came out at."""
    texts: int
    length_tokenizer: str
    """What lengths were counted with, its name."""


def calibrate(
    compressor: PromptCompressorReinforce,
    segmenter: Segmenter,
    prompts: Sequence[Sequence[str]],
    rates: Sequence[float],
) -> list[Threshold]:
    """Find for each rate the threshold by which a corpus comes nearest to it, final texts counted.

    Args:
        compressor: Whose policy decides; it is asked once.
        segmenter: What cuts the texts; its options apply.
        prompts: The contexts of each text; the first `CORPUS` of them count.
        rates: The targets.

    Raises:
        ModelError: There is no word to calibrate on.
    """
    segmented = segmenter.segment_many(prompts[:CORPUS])
    probs_of_prompt = word_probabilities(compressor, segmented)
    original = sum(prompt.original_tokens for prompt in segmented)
    found = [prob_W for probs in probs_of_prompt for prob_W in probs]
    if not found or not original:
        raise ModelError("Expected texts with words to calibrate a threshold on; got none.")
    # From the highest, at which nothing but what is forced is kept, down to everything.
    candidates = [*np.unique(np.concatenate(found))[::-1].tolist(), -1.0]

    def tokens_at(candidate: int) -> int:
        return sum(
            segmenter.count_tokens(
                segmenter.join_contexts(
                    prompt,
                    [cut.keep for cut in threshold_cuts(segmenter, prompt, probs, threshold)],
                )
            )
            for threshold in [candidates[candidate]]
            for prompt, probs in zip(segmented, probs_of_prompt, strict=True)
        )

    def nearest(rate: float) -> Threshold:
        target = rate * original
        above = bisect_left(range(len(candidates) - 1), target, key=tokens_at)
        around = range(max(above - 1, 0), above + 1)
        best = min(around, key=lambda candidate: abs(tokens_at(candidate) - target))
        return Threshold(
            rate=rate,
            threshold=candidates[best],
            achieved_rate=round(tokens_at(best) / original, 4),
            texts=len(segmented),
            length_tokenizer=compressor.length_tokenizer.name,
        )

    return list(map(nearest, rates))


def store_thresholds(folder: Path, thresholds: Sequence[Threshold]) -> None:
    """Write them beside a model.

    Raises:
        OSError: The folder cannot be written to.
    """
    document = {"thresholds": list(map(asdict, thresholds))}
    (folder / FILE).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def stored_threshold(folder: Path, rate: float) -> float:
    """The threshold that a model was calibrated to for a rate.

    Raises:
        ModelError: It was not calibrated, or to other rates.
    """
    path = folder / FILE
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        thresholds = [Threshold(**each) for each in document["thresholds"]]
    except FileNotFoundError as error:
        raise ModelError(
            f"{path}: expected the thresholds that a model was calibrated to, and there are none; "
            "train with evaluation.rate: threshold, or give a number"
        ) from error
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ModelError(
            f"{path}: expected what `taco train` wrote, and it cannot be read: {error}"
        ) from error
    for each in thresholds:
        if abs(each.rate - rate) < 1e-9:
            return each.threshold
    known = ", ".join(f"{each.rate:g}" for each in thresholds)
    raise ModelError(f"{path}: expected a threshold for rate {rate:g}; it has those for {known}.")
