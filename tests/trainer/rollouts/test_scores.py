import collections
import math
import re
import string
import subprocess
import sys
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.errors import ConfigError
from trainer.rollouts.scores import is_built_in, load_metric


@pytest.mark.parametrize(
    ("completion", "reference", "expected"),
    [
        ("Denver", "Denver", 1.0),
        ("The Denver.", "denver", 1.0),  # Articles, case and punctuation do not count.
        ("Ann Lee went home", "Ann Lee", 2 / 3),  # P 2/4, R 2/2.
        ("Ann", "Ann Lee", 2 / 3),  # P 1/1, R 1/2.
        ("Ann Ann Bob", "Ann Bob Bob", 2 / 3),  # Two shared of three each.
        ("Tuesday", "Monday", 0.0),
        ("well-known", "wellknown", 1.0),  # As the official script: punctuation goes, no space.
        ("theatre", "the atre", 0.0),  # An article is a whole word.
        ("the", "a", 1.0),  # Nothing is left on either side.
        ("the", "Denver", 0.0),
        ("", "Denver", 0.0),
        ("", "", 0.0),  # An empty completion scores 0, whatever it is compared with.
        (" \n", "the", 0.0),
    ],
)
def test_f1_is_squads(completion, reference, expected):
    """Token F1 with the official normalisation."""
    assert load_metric("f1")(completion, reference) == pytest.approx(expected, abs=1e-12)


def normalize_answer(s):
    """Of the SQuAD 2.0 evaluation script, as it stands there."""

    def remove_articles(text):
        regex = re.compile(r"\b(a|an|the)\b", re.UNICODE)
        return re.sub(regex, " ", text)

    def white_space_fix(text):
        return " ".join(text.split())

    def remove_punc(text):
        exclude = set(string.punctuation)
        return "".join(ch for ch in text if ch not in exclude)

    return white_space_fix(remove_articles(remove_punc(s.lower())))


def compute_f1(a_gold, a_pred):
    """Likewise."""
    gold_toks, pred_toks = (normalize_answer(s).split() for s in (a_gold, a_pred))
    common = collections.Counter(gold_toks) & collections.Counter(pred_toks)
    num_same = sum(common.values())
    if len(gold_toks) == 0 or len(pred_toks) == 0:
        return int(gold_toks == pred_toks)
    if num_same == 0:
        return 0
    precision = 1.0 * num_same / len(pred_toks)
    recall = 1.0 * num_same / len(gold_toks)
    return (2 * precision * recall) / (precision + recall)


WORDS = st.sampled_from(["Ann", "ann", "the", "An", "Lee's", "wel-l", "4,500", "é", "...", "\xa0"])
TEXTS = st.lists(WORDS, max_size=6).map(" ".join) | st.text(max_size=12)


@given(TEXTS.filter(str.strip), TEXTS)
def test_f1_and_exact_match_are_the_official_scripts(completion, reference):
    """On any texts, but for an empty completion, which scores 0 here under every metric."""
    f1, exact = load_metric("f1")(completion, reference), load_metric("exact_match")
    assert f1 == pytest.approx(compute_f1(reference, completion), abs=1e-12)
    assert exact(completion, reference) == (
        normalize_answer(completion) == normalize_answer(reference)
    )


@pytest.mark.parametrize(
    ("completion", "reference", "expected"),
    [
        # Identical, however short: the orders that the text does not have are left out.
        ("yes", "yes", 1.0),
        ("Ann spoke", "Ann spoke", 1.0),
        ("the cat sat", "the cat sat", 1.0),
        ("the cat sat on the mat", "the cat sat on the mat", 1.0),
        # Precisions 5/6, 3/5, 2/4, 1/3; no brevity penalty.
        ("the cat sat on the mat", "the cat sat on a mat", (5 / 6 * 3 / 5 * 2 / 4 / 3) ** 0.25),
        # Precisions 1, 1 over two orders; brevity penalty exp(1 - 4/2).
        ("the cat", "the cat sat down", math.exp(-1)),
        # Precision 1/2, and no bigram: smoothed (exp) to 1/2 of 1/1.
        ("the dog", "the cat", 0.5),
        ("", "yes", 0.0),
        ("  ", "yes", 0.0),
        ("yes", "", 0.0),
        ("yes", "no", 0.0),
    ],
)
def test_bleu_is_sentence_bleu_of_effective_order(completion, reference, expected):
    """BLEU from 0 to 1, by hand from its n-gram precisions and brevity penalty."""
    score = load_metric("bleu")(completion, reference)
    assert score == pytest.approx(expected, abs=1e-12)
    assert score <= 1.0


@pytest.mark.parametrize(
    ("metric", "completion", "reference", "expected"),
    [
        # Three of four words of the one, three of six of the other: 2 * 3 / (4 + 6).
        ("rouge1", "the cat sat down", "the cat sat on the mat", 0.6),
        # Bigrams: "the cat", "cat sat" of three and five.
        ("rouge2", "the cat sat down", "the cat sat on the mat", 0.5),
        ("rouge2", "yes", "yes", 0.0),  # One word has no bigram.
        # Longest common subsequence "cat on mat": 3 of 3 and 3 of 6.
        ("rougeL", "cat on mat", "the cat sat on the mat", 2 * 3 / 9),
        ("rougeL", "mat on cat", "the cat sat on the mat", 2 / 9),  # Order counts.
        ("rougeL", "Running!", "running", 1.0),  # Case and punctuation go; no stemming:
        ("rougeL", "runs", "running", 0.0),
        ("exact_match", "The Denver.", "denver", 1.0),
        ("exact_match", "Denver city", "denver", 0.0),
        ("exact_match", "", "the", 0.0),
        ("chrf", "abc", "abc", 1.0),
        # Characters 2/3 and 2/2, bigrams 1/2 and 1/1; orders that one side lacks are left out.
        ("chrf", "abx", "ab", 5 * (7 / 12) / (4 * (7 / 12) + 1)),
    ],
)
def test_metrics_by_hand(metric, completion, reference, expected):
    """Each as its formula has it."""
    assert load_metric(metric)(completion, reference) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("completion", ["The new bridge will open in May.", "A bridge", "x y z"])
def test_metrics_are_those_of_the_libraries(completion):
    """The well-known implementations, called directly, give the same."""
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu import sentence_bleu, sentence_chrf

    reference = "The council said that a new bridge opens in May."
    rouge = RougeScorer(["rouge1", "rouge2", "rougeL"]).score(reference, completion)
    theirs = {name: score.fmeasure for name, score in rouge.items()} | {
        "bleu": sentence_bleu(completion, [reference], use_effective_order=True).score / 100,
        "chrf": sentence_chrf(completion, [reference]).score / 100,
    }
    ours = {name: load_metric(name)(completion, reference) for name in theirs}
    assert ours == pytest.approx(theirs, abs=1e-12)


def test_a_weighted_sum_of_metrics():
    """Each part by its weight; the signature has the parts' own."""
    metric = load_metric("0.7*f1 + 0.3*rougeL")
    assert metric("Ann", "Ann Lee") == pytest.approx(2 / 3)
    assert metric("Lee Ann", "Ann Lee") == pytest.approx(0.7 + 0.3 / 2)
    assert metric.signature == (
        "0.7*[f1|norm:squad|version:2.0] + 0.3*[rougeL|measure:f1|stem:no|version:0.1.2]"
    )
    assert is_built_in("0.7*f1 + 0.3*rougeL")
    assert not is_built_in("0.7*f1 + 0.3*own_metrics:length")


def test_the_whole_answer_is_scored():
    """Lines after the first count as much."""
    bleu = load_metric("bleu")
    reference = "Ann will call the vendor.\nBob will write the report."
    assert bleu(reference, reference) == pytest.approx(1.0)
    assert bleu("Ann will call the vendor.\nnothing else came up", reference) < 0.8


def test_signatures_say_what_was_measured():
    """A figure travels with the metric's options and version."""
    import sacrebleu

    assert load_metric("f1").signature == "f1|norm:squad|version:2.0"
    assert load_metric("bleu").signature == (
        f"bleu|nrefs:1|case:mixed|eff:yes|tok:13a|smooth:exp|version:{sacrebleu.__version__}"
    )


def test_a_metric_is_made_once():
    """What is slow to load is not loaded again."""
    for name in ("bleu", "chrf", "rougeL"):
        assert load_metric(name).function is load_metric(name).function


def test_importing_the_registry_does_not_import_sacrebleu():
    """The slow import waits until a run first scores with it."""
    code = "import sys, trainer.rollouts.rewards; assert 'sacrebleu' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    """A user's module with metrics, importable as `own_metrics`."""
    (tmp_path / "own_metrics.py").write_text(
        "NAME = 'x'\n"
        "def length(completion, reference): return len(completion) / len(reference)\n"
        "def rounded(completion, reference): import numpy; return numpy.float32(0.5)\n"
        "def lengths(completions, references): return [len(each) for each in completions]\n"
        "lengths.batched = True\n"
        "def too_few(completions, references): return [1.0]\n"
        "too_few.batched = True\n"
        "def one_number(completions, references): return 1.0\n"
        "one_number.batched = True\n"
        "def broken(completion, reference): return float('nan')\n"
    )
    (tmp_path / "own_broken.py").write_text("import no_such_dependency\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield SimpleNamespace(path=tmp_path)
    sys.modules.pop("own_metrics", None)


def test_a_metric_may_come_from_your_own_module(own_module):
    """`module:function` is imported and called with completion and reference."""
    metric = load_metric("own_metrics:length")
    assert metric("ab", "abcd") == 0.5
    assert metric("", "abcd") == 0.0
    assert metric.signature == "own_metrics:length"
    assert load_metric("own_metrics:rounded")("a", "b") == 0.5


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("rouge", "it names no module and function"),
        ("own_metrics:", "it names no module and function"),
        ("no_such_module_of_mine:f", "No module named 'no_such_module_of_mine'"),
        ("own_broken:f", "No module named 'no_such_dependency'"),
        ("own_metrics:absent", "own_metrics has no absent"),
        ("own_metrics:NAME", "NAME is a str, no function"),
        ("0.7*f1 + rougeL", "'rougeL' is no positive weight * metric"),
        ("-1*f1", "'-1*f1' is no positive weight * metric"),
        ("0.7*f1 + 0.3*rouge", "it names no module and function"),
    ],
)
def test_a_metric_that_is_not_there_is_a_clear_error(own_module, name, part):
    """The error lists what may be used and says what is wrong with this name."""
    with pytest.raises(ConfigError, match=r"f1, .*your_package\.module:function") as raised:
        load_metric(name)
    assert part in str(raised.value)


def test_a_metric_that_gives_no_number_is_an_error(own_module):
    """NaN never becomes a reward."""
    with pytest.raises(ConfigError, match="finite number from own_metrics:broken, got nan"):
        load_metric("own_metrics:broken")("a", "b")


def test_your_own_function_may_take_a_whole_step(own_module):
    """Marked `batched`, it gets two lists: no empty completions, and equal pairs once."""
    metric = load_metric("own_metrics:lengths")
    pairs = [("ab", "x"), ("", "x"), ("abc", "y"), ("ab", "x")]
    assert metric.score(pairs) == [2.0, 0.0, 3.0, 2.0]
    assert metric("abcd", "x") == 4.0
    assert metric.score([]) == []
    summed = load_metric("0.5*own_metrics:lengths + 2*exact_match")
    assert summed.score([("ab", "ab"), ("abc", "ab")]) == [3.0, 1.5]


@pytest.mark.parametrize("name", ["too_few", "one_number"])
def test_a_batched_function_gives_one_score_for_each(own_module, name):
    """Anything else would move scores to other texts."""
    with pytest.raises(ConfigError, match=f"a list of 2 scores from own_metrics:{name}"):
        load_metric(f"own_metrics:{name}").score([("a", "b"), ("b", "c")])
