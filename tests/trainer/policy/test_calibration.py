"""One threshold for a corpus, and where it is kept."""

import json
from dataclasses import replace

import numpy as np
import pytest

from tests.tiny_models import CORPUS
from trainer.errors import ModelError
from trainer.policy.calibration import (
    FILE,
    Threshold,
    calibrate,
    store_thresholds,
    stored_threshold,
)
from trainer.policy.contexts import Target
from trainer.policy.inference import compress_many, word_probabilities
from trainer.policy.words import CompressionOptions

OPTIONS = CompressionOptions(force_tokens=(".",), drop_consecutive=True)
PROMPTS = [[text] for text in CORPUS]
FOUND = Threshold(0.3, 0.625, 0.2987, 12, "policy")


def _rate(compressor, threshold):
    compressed = compress_many(
        compressor, PROMPTS, OPTIONS, Target(1.0), threshold=threshold
    )  # The rate has no say.
    return sum(each.compressed_tokens for each in compressed) / sum(
        each.original_tokens for each in compressed
    )


@pytest.mark.parametrize("rate", [0.3, 0.6])
def test_no_other_threshold_comes_nearer_to_the_rate(pair, rate):
    """All texts together, their final tokens counted; each has the length that it deserves."""
    segmenter = pair.ours.segmenter(OPTIONS)
    [found] = calibrate(pair.ours, segmenter, PROMPTS, [rate])
    assert _rate(pair.ours, found.threshold) == pytest.approx(found.achieved_rate, abs=1e-4)
    probs = word_probabilities(pair.ours, segmenter.segment_many(PROMPTS))
    every = np.unique(np.concatenate([prob_W for chunks in probs for prob_W in chunks]))
    near = every[np.argsort(abs(every - found.threshold))[:40]]
    best = min(abs(_rate(pair.ours, float(other)) - rate) for other in near)
    assert abs(_rate(pair.ours, found.threshold) - rate) == pytest.approx(best, abs=1e-9)
    compressed = compress_many(pair.ours, PROMPTS, OPTIONS, Target(rate), threshold=found.threshold)
    rates = [each.rate for each in compressed]
    assert max(rates) - min(rates) > 0.05


def test_forced_words_stay_at_any_threshold(pair):
    """And nothing else does above every probability."""
    [result] = compress_many(pair.ours, PROMPTS[:1], OPTIONS, Target(0.5), threshold=1.0)
    assert set(result.text) <= {".", " "}
    assert "." in result.text


def test_a_corpus_without_words_is_refused(pair):
    """There is nothing to calibrate on."""
    with pytest.raises(ModelError, match="got none"):
        calibrate(pair.ours, pair.ours.segmenter(OPTIONS), [[""], [" "]], [0.5])


def test_thresholds_are_kept_beside_the_model(tmp_path):
    """For each rate its own; one that is not there is said, with those that are."""
    store_thresholds(tmp_path, [FOUND, replace(FOUND, rate=0.5, threshold=0.25)])
    assert stored_threshold(tmp_path, 0.3) == 0.625
    assert stored_threshold(tmp_path, 0.5) == 0.25
    with pytest.raises(ModelError, match=r"for rate 0.4; it has those for 0.3, 0.5"):
        stored_threshold(tmp_path, 0.4)


@pytest.mark.parametrize("content", [None, "{", json.dumps({"thresholds": [{"rate": 0.3}]}), "[]"])
def test_a_model_without_thresholds_says_how_to_get_them(tmp_path, content):
    """Or that the file is none."""
    if content is not None:
        (tmp_path / FILE).write_text(content)
    expected = "train with evaluation.rate: threshold" if content is None else "cannot be read"
    with pytest.raises(ModelError, match=expected):
        stored_threshold(tmp_path, 0.3)
