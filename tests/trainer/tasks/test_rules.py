import numpy as np

from trainer.tasks.rules import clues_first, document_frequencies, random_drop, rarest_first

WORDS = ("the", "▁Vega", "budget", "is", "forty", ",", "Ada", ".")
TOKENS = np.array([1, 3, 1, 1, 2, 1, 2, 1])
FREQUENCIES = {"the": 9, "vega": 1, "budget": 5, "is": 9, "forty": 3, "ada": 1}


def kept(mask):
    """The words that a mask keeps."""
    return [word for word, keep in zip(WORDS, mask, strict=True) if keep]


def test_frequencies_count_texts_not_occurrences():
    """A word said twice in one text counts once; case does not matter."""
    assert document_frequencies(["Ada met Ada.", "ada left", "Bo"]) == {
        "ada": 2,
        "met": 1,
        "left": 1,
        "bo": 1,
    }


def test_the_rarest_words_come_first():
    """Two words of frequency 1 fill a budget of five tokens."""
    assert kept(rarest_first(WORDS, TOKENS, 5, FREQUENCIES)) == ["▁Vega", "Ada"]


def test_a_word_that_does_not_fit_makes_room_for_the_next():
    """Six tokens: after the names one is left, too little for "forty", enough for "budget"."""
    assert kept(rarest_first(WORDS, TOKENS, 6, FREQUENCIES)) == ["▁Vega", "budget", "Ada"]


def test_stop_words_and_punctuation_are_never_kept():
    """However large the budget."""
    assert kept(rarest_first(WORDS, TOKENS, 99, FREQUENCIES)) == ["▁Vega", "budget", "forty", "Ada"]


def test_an_unseen_word_is_the_rarest():
    """A word in no text of the collection goes before all others."""
    assert kept(rarest_first(WORDS, TOKENS, 2, {**FREQUENCIES, "ada": 2, "forty": 0})) == ["forty"]


def test_random_drop_fills_the_budget_and_follows_its_generator():
    """The same generator keeps the same words, another seed others, never above the budget."""
    tokens = np.full(50, 2)
    first, again, other = (random_drop(tokens, 21, np.random.default_rng(s)) for s in (0, 0, 1))
    assert first.tolist() == again.tolist() != other.tolist()
    assert tokens[first].sum() == tokens[other].sum() == 20


def test_no_budget_keeps_nothing():
    """Both rules give an empty mask."""
    assert not rarest_first(WORDS, TOKENS, 0, FREQUENCIES).any()
    assert not random_drop(TOKENS, 0, np.random.default_rng(0)).any()


def test_the_oracle_keeps_clues_then_sentence_ends():
    """Every place of a clue; the ends as far as the budget reaches, nothing else."""
    words = ["Ada", "leads", "Orbdex", ".", "Tea", "for", "Ada", "."]
    tokens = np.array([1, 1, 3, 1, 1, 1, 1, 1])
    assert clues_first(words, tokens, 6, {"Ada", "Orbdex"}).nonzero()[0].tolist() == [0, 2, 3, 6]
    assert clues_first(words, tokens, 9, {"Ada", "Orbdex"}).nonzero()[0].tolist() == [0, 2, 3, 6, 7]
    assert clues_first(words, tokens, 1, {"Ada", "Orbdex"}).nonzero()[0].tolist() == [0]
