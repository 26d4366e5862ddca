"""BERTScore by a local encoder, against the formula and against the authors' own package."""

import contextlib
import io
import math
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from tests.tiny_models import CORPUS, make_bert, make_encoder, make_xlm_roberta
from trainer.config_sections.scoring import BertScore
from trainer.errors import ConfigError, ModelError
from trainer.rollouts import bertscore
from trainer.rollouts.bertscore import EncodedText, Encoder, load_bertscore, match
from trainer.rollouts.scores import load_metric
from trainer.tasks.data import write_records

PAIRS = [
    ("The council met on Tuesday", CORPUS[0]),
    (CORPUS[0], "The council met on Tuesday"),
    ("Is there any objection?", "Is there any objection?"),
    ("  bridge", "A resident asked why the bridge is closed"),
    ("Die Straße wurde geöffnet", "Où est le café?"),
    ("word " * 40, "Hearing none, the minutes are approved."),
]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> Path:
    """An encoder's folder."""
    return make_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def train_file(tmp_path_factory) -> str:
    """Training data whose reference completions make the corpus of `idf`."""
    path = tmp_path_factory.mktemp("data") / "train.json"
    write_records(
        path,
        {
            str(number): {"original_prompt": "a text", "gpt_output": reference}
            for number, (_, reference) in enumerate(PAIRS)
        },
    )
    return str(path)


def made(encoder: Path, train_file: str = "", **settings):
    """(signature, scores of pairs) of BERTScore with these settings."""
    section = BertScore(model=str(encoder), **{"layer": 2, **settings})
    signature, function = load_bertscore(section, train_file, "cpu")
    return signature, lambda pairs: function(*zip(*pairs, strict=True))


def test_pieces_are_matched_greedily():
    """By hand, from the cosines (0, 1), (0.8, 0.6) and (-1, 0): rows at most 1, 0.8 and 0."""
    completion = EncodedText(
        torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, -1.0]]), torch.tensor([0.5, 0.5, 0.0])
    )
    reference = EncodedText(torch.tensor([[0.0, 1.0], [1.0, 0.0]]), torch.tensor([0.25, 0.75]))
    precision, recall = 0.5 * 1 + 0.5 * 0.8, 0.25 * 0.8 + 0.75 * 1
    f1 = 2 * precision * recall / (precision + recall)
    assert match(completion, reference).tolist() == pytest.approx([precision, recall, f1])


def test_scores_are_the_papers_formula(encoder):
    """Worked out piece by piece from what transformers gives for each text alone."""
    tokenizer, model = AutoTokenizer.from_pretrained(encoder), AutoModel.from_pretrained(encoder)

    def vectors(text):
        with torch.no_grad():
            output = model(**tokenizer(text, return_tensors="pt"), output_hidden_states=True)
        return output.hidden_states[2][0].tolist()

    def cosine(a, b):
        dot = sum(x * y for x, y in zip(a, b, strict=True))
        return dot / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))

    completion, reference = "The council met", "The council met on Main Street"
    ours, theirs = vectors(completion), vectors(reference)
    # Special pieces may be matched and do not count themselves.
    precision = [max(cosine(a, b) for b in theirs) for a in ours[1:-1]]
    recall = [max(cosine(a, b) for a in ours) for b in theirs[1:-1]]
    p, r = sum(precision) / len(precision), sum(recall) / len(recall)
    [score] = made(encoder)[1]([(completion, reference)])
    assert score == pytest.approx(2 * p * r / (p + r), abs=1e-6)


@pytest.mark.parametrize("options", [{}, {"idf": True}, {"layer": 3}], ids=str)
def test_scores_are_those_of_the_authors_package(encoder, train_file, options):
    """`bert-score` on the same pairs, all at once; it fails on empty texts."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from bert_score import BERTScorer

    completions, references = map(list, zip(*PAIRS, strict=True))
    idf = options.get("idf", False)
    with contextlib.redirect_stderr(io.StringIO()):
        theirs = BERTScorer(
            str(encoder),
            num_layers=options.get("layer", 2),
            idf=idf,
            idf_sents=references if idf else None,
            nthreads=0,
            device="cpu",
        ).score(completions, references)[2]
    ours = made(encoder, train_file, **options)[1](PAIRS)
    assert ours == pytest.approx(theirs.tolist(), abs=1e-5)
    assert len({round(score, 3) for score in ours}) > 4


def test_identical_texts_score_one_and_empty_ones_nothing(encoder):
    """Never above 1, and no NaN."""
    score = made(encoder)[1]
    same, *empty = score([("the bridge", "the bridge"), ("the bridge", ""), ("", ""), ("", "a")])
    assert same == pytest.approx(1.0, abs=1e-6)
    assert same <= 1.0
    assert empty == [0.0, 0.0, 0.0]


def test_a_score_depends_on_its_two_texts_alone(encoder):
    """Bit for bit, whatever else is scored with them, in which order, remembered or not."""
    texts = [*CORPUS, *(" ".join(CORPUS[:3])[:end] for end in range(1, 60, 7))]
    pairs = [(a, b) for a in texts for b in texts[:5] if a.strip()]
    encoder_file = str(encoder)
    alone = {
        pair: bertscore._f1(Encoder(encoder_file, None, 2, "cpu"), [pair], 0.0)[0]
        for pair in pairs[::9]
    }
    together = dict(zip(pairs, made(encoder)[1](pairs), strict=True))
    backwards = dict(zip(pairs[::-1], made(encoder)[1](pairs[::-1]), strict=True))
    assert together == backwards
    assert {pair: together[pair] for pair in alone} == alone


def test_what_it_remembers_is_bounded(encoder, monkeypatch):
    """The oldest texts go first; none is run again as long as it is remembered."""
    one_text = Encoder(str(encoder), None, 2, "cpu").encode([CORPUS[0]])[CORPUS[0]]
    monkeypatch.setattr(bertscore, "_REMEMBERED_BYTES", 3 * one_text.vectors_TH.nbytes)
    small = Encoder(str(encoder), None, 2, "cpu")
    runs = []
    monkeypatch.setattr(
        small, "_forward", lambda *args: runs.append(args) or Encoder._forward(small, *args)
    )
    for texts, expected in ((["a", "b"], 1), (["b", "a"], 1), (CORPUS, None), (["a"], None)):
        before = len(runs)
        assert small.encode(texts).keys() == set(texts)
        assert expected is None or len(runs) == expected
    assert len(runs) > before  # "a" had to go.
    assert small._bytes <= 3 * one_text.vectors_TH.nbytes


def test_long_texts_are_cut_where_the_encoder_ends(encoder):
    """As the package does; and the end of a long text then tells nothing apart."""
    long = "the council met on Tuesday " * 200
    first, second = made(encoder)[1]([(long, long), (long + "bridge", long)])
    assert first == second == pytest.approx(1.0, abs=1e-6)


def test_a_baseline_rescales(encoder, tmp_path):
    """(F - b) / (1 - b), by the layer's line; so that it may be below 0."""
    table = tmp_path / "baseline.tsv"
    table.write_text("LAYER,P,R,F\n1,0.1,0.1,0.1\n2,0.5,0.5,0.6\n")
    raw = made(encoder)[1](PAIRS)
    signature, score = made(encoder, baseline_file_path=str(table))
    assert score(PAIRS) == pytest.approx([(f1 - 0.6) / 0.4 for f1 in raw])
    assert "|baseline:0.6|" in signature


def test_the_signature_says_what_was_compared_by(encoder, train_file, tmp_path):
    """Model, digest of weights and tokenizer, layer, options; another model is another digest."""
    signature, _ = made(encoder)
    digest = Encoder(str(encoder), None, 2, "cpu").digest
    model = f"model:tiny-encoder|sha256:{digest[:16]}|layer:2"
    assert signature == f"bertscore|{model}|idf:no|baseline:no|version:1"
    assert made(encoder, train_file, idf=True)[0] != signature
    moved = shutil.copytree(encoder, tmp_path / "tiny-encoder")
    assert made(moved)[0] == signature  # A digest, no path.
    other = make_encoder(tmp_path / "other", seed=2)
    assert made(other)[0] != signature
    vocabulary = (moved / "tokenizer.json").read_text().replace("council", "counsel")
    (moved / "tokenizer.json").write_text(vocabulary)
    load_bertscore.cache_clear()
    assert made(moved)[0] != signature


@pytest.mark.parametrize("make", [make_bert, make_xlm_roberta])
def test_other_builds_of_encoders(tmp_path, make):
    """A compressor's own encoder does, too; whatever head it has is left out."""
    score = made(make(tmp_path), layer=1)[1]
    same, other = score([(CORPUS[1], CORPUS[1]), (CORPUS[1], CORPUS[8])])
    assert other < same == pytest.approx(1.0, abs=1e-6)


def test_what_cannot_be_used_is_said(encoder, tmp_path):
    """Each with the key to change."""
    with pytest.raises(ConfigError, match=r"bertscore\.model(.|\n)*got none"):
        load_bertscore(BertScore(), "", "cpu")
    with pytest.raises(ModelError, match=r"bertscore\.model.* to be the folder of an encoder"):
        made(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"bertscore\.layer(.|\n)*from 1 to 3, got 4"):
        made(encoder, layer=4)
    with pytest.raises(ConfigError, match=r"from 1 to 3, got None"):
        made(encoder, layer=None)
    table = tmp_path / "baseline.tsv"
    for content, problem in (
        (None, "expected a table"),
        ("LAYER,P\n2,1\n", "expected a table"),
        ("LAYER,P,R,F\n1,0,0,0\n", "expected a line for layer 2"),
        ("LAYER,P,R,F\n2,1,1,1\n", "F below 1"),
    ):
        if content:
            table.write_text(content)
        with pytest.raises(ConfigError, match=problem):
            made(encoder, baseline_file_path=str(table))
        load_bertscore.cache_clear()


def test_without_a_config_there_is_no_model():
    """Where only a metric's name is known, such as `taco cache audit --metric`."""
    with pytest.raises(ConfigError, match="it needs what only a run or an evaluation has"):
        load_metric("bertscore")
