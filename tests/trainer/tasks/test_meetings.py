import hashlib
import json
import re

import pytest

from trainer.tasks.meetings import SIZES, generate_meetings, split_vocabulary


def test_the_same_seed_gives_the_same_texts_on_every_machine():
    """A digest taken elsewhere: any change to the generated data shows here."""
    text = json.dumps(generate_meetings(20, 7, "train"), sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()
    assert digest == "05931be00fdc2df76f50101667ba2694ecf74c44d24c28dbb77b14e23974c765"


def test_more_records_begin_with_the_fewer():
    """Asking for more never changes the ones before."""
    assert generate_meetings(9, 3, "test")[:4] == generate_meetings(4, 3, "test")


@pytest.mark.parametrize(("seed", "split"), [(1, "train"), (0, "test")])
def test_another_seed_or_split_gives_other_texts(seed, split):
    """Seed and split both decide what is drawn."""
    assert generate_meetings(1, 0, "train") != generate_meetings(1, seed, split)


def test_the_splits_share_no_invented_word():
    """What is tested was never seen in training, whichever slot it filled there."""
    train, test = split_vocabulary("train"), split_vocabulary("test")
    trained = {word for kind in SIZES for word in train[kind]}
    assert all(trained.isdisjoint(test[kind]) for kind in SIZES)
    assert all(len(train[kind]) == sizes["train"] for kind, sizes in SIZES.items())
    assert all(len(test[kind]) == sizes["test"] for kind, sizes in SIZES.items())


def test_every_invented_word_is_of_one_kind():
    """A person is never also a place, so a question has one right answer."""
    words = [
        word
        for split in ("train", "test")
        for kind in SIZES
        for word in split_vocabulary(split)[kind]
    ]
    assert len(words) == len(set(words))


def test_a_transcript_has_seven_sentences_of_the_stated_length():
    """Three facts and four asides, 75 to 85 words."""
    for record in generate_meetings(200, 1, "train"):
        assert 75 <= len(record["original_prompt"].split()) <= 85
        assert record["original_prompt"].count(".") == 7


def test_each_answer_is_a_word_of_the_text_in_the_sentence_of_its_project():
    """Three questions a record, each answerable from one sentence."""
    for record in generate_meetings(200, 1, "test"):
        assert len(record["questions"]) == 3
        sentences = [set(re.findall(r"\w+", s)) for s in record["original_prompt"].split(".")]
        for question in record["questions"]:
            project = re.findall(r"[A-Z]\w+", question["question"])[-1]
            assert [question["answer"] in s for s in sentences if project in s] == [True]
