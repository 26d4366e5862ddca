import json
import pickle

import pytest

from trainer.errors import DataError
from trainer.tasks.data import data_digest, load_examples, split_validation, write_records
from trainer.types import Example, Question

GOOD = {"original_prompt": "Ada leads.", "gpt_output": "Ada"}
ASKED = {"question": "Who?", "gpt_output": "Ada", "answer": "Ada L."}


@pytest.fixture
def write(tmp_path):
    """Writes a data file from records, or from text as it is."""

    def written(content):
        path = tmp_path / "data.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return written


def problems_of(path, **options):
    """What `load_examples` finds wrong with a file."""
    with pytest.raises(DataError) as caught:
        load_examples(path, **options)
    assert caught.value.source == str(path)
    return list(caught.value.problems)


def test_reads_the_reference_shape(write):
    """Keys name the records; unknown fields are left alone."""
    path = write({"0": GOOD, "7": {**GOOD, "source": 3}})
    question = Question(None, "Ada")
    assert load_examples(path) == [
        Example("0", ("Ada leads.",), (question,)),
        Example("7", ("Ada leads.",), (question,)),
    ]


def test_reads_a_question_and_a_list_of_contexts(write):
    """One question beside the prompt; contexts stay apart."""
    path = write({"a": {"original_prompt": ["Ada leads.", "Bo eats."], **ASKED}})
    (example,) = load_examples(path)
    assert example.contexts == ("Ada leads.", "Bo eats.")
    assert example.questions == (Question("Who?", "Ada", ("Ada L.",)),)


def test_reads_several_right_answers(write):
    """Humans may differ, and each is right."""
    path = write({"0": {**GOOD, "answer": ["Ada", "Ada L."]}})
    assert load_examples(path)[0].questions == (Question(None, "Ada", ("Ada", "Ada L.")),)


@pytest.mark.parametrize(
    "record",
    [
        {"questions": [ASKED, {"question": "What?", "gpt_output": "It"}]},
        {
            "questions": [{"question": "Who?", "answer": "Ada L."}, {"question": "What?"}],
            "gpt_output": ["Ada", "It"],
        },
    ],
)
def test_reads_several_questions_in_both_spellings(write, record):
    """References stand in the questions, or as a list on the record."""
    (example,) = load_examples(write({"0": {"original_prompt": "Ada.", **record}}))
    assert example.questions == (Question("Who?", "Ada", ("Ada L.",)), Question("What?", "It"))


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        ([], "expected an object with original_prompt, got a list"),
        ({"gpt_output": "x"}, "original_prompt is missing"),
        ({**GOOD, "original_prompt": " \n"}, "original_prompt is empty"),
        ({**GOOD, "original_prompt": 3}, "original_prompt: expected a string, got a number"),
        ({**GOOD, "original_prompt": []}, "original_prompt is an empty list"),
        ({**GOOD, "original_prompt": ["a", ""]}, "original_prompt[1] is empty"),
        ({**GOOD, "original_prompt": ["a", None]}, "original_prompt[1]: expected a string, "),
        ({**GOOD, "original_prompt": "\ud800"}, "original_prompt contains half of a surrogate"),
        ({**GOOD, "gpt_output": True}, "gpt_output: expected a string, got a boolean"),
        ({**GOOD, "gpt_output": ["a"]}, "gpt_output: expected a string, got a list"),
        ({**GOOD, "question": ""}, "question is empty"),
        ({**GOOD, "answer": {}}, "answer: expected a string, got an object"),
        ({**GOOD, "answer": []}, "answer is an empty list"),
        ({**GOOD, "answer": ["Ada", 1]}, "answer[1]: expected a string, got a number"),
        ({**GOOD, "questions": [ASKED]}, "gpt_output: with questions expected a list, "),
        ({"original_prompt": "a", "questions": []}, "questions: expected a list of objects, "),
        ({"original_prompt": "a", "questions": ["Who?"]}, "questions: every one must be an object"),
        ({"original_prompt": "a", "questions": [{"gpt_output": "b"}]}, "questions[0].question is "),
        (
            {"original_prompt": "a", "questions": [ASKED], "question": "Who?"},
            "question stands beside questions",
        ),
        (
            {"original_prompt": "a", "questions": [{"question": "Who?"}], "gpt_output": ["b", "c"]},
            "gpt_output has 2 entries for 1 questions",
        ),
        (
            {"original_prompt": "a", "questions": [ASKED], "gpt_output": ["b"]},
            "gpt_output stands on the record and in its questions",
        ),
    ],
)
def test_names_what_is_wrong_with_a_record(write, record, problem):
    """One sentence for the record's fault, with its id."""
    (found,) = problems_of(write({"0": GOOD, "bad": record}))
    assert found.startswith(f"record 'bad': {problem}")


def test_lists_every_bad_record(write):
    """All faults of all records at once."""
    path = write({"0": GOOD, "1": {}, "2": {"original_prompt": 1, "gpt_output": 2}, "3": None})
    assert [problem[:10] for problem in problems_of(path)] == [
        "record '1'",
        "record '2'",
        "record '2'",
        "record '3'",
    ]


def test_bad_records_come_with_a_way_to_go_on(write):
    """The command that leaves them out, after all of them."""
    path = write({"0": GOOD, "1": {}})
    with pytest.raises(DataError) as caught:
        load_examples(path)
    assert str(caught.value).splitlines() == [
        f"{path}: 1 problem",
        "record '1': original_prompt is missing",
        f"`taco data {path} -o FOLDER` leaves such records out",
    ]
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "the file is empty"),
        (" \n", "the file is empty"),
        ('{\n  "0": }', "not valid JSON at line 2, column 8"),
        ("[]", "expected a JSON object of records"),
        ("{}", "there are no records in it"),
        (
            '{"0": {"original_prompt": "a", "original_prompt": "b"}}',
            "the key 'original_prompt' occ",
        ),
        ('{"0": {}, "0": {}}', "the key '0' occurs twice"),
    ],
)
def test_refuses_a_file_that_holds_no_records(write, content, problem):
    """Each with what was expected, and where."""
    (found,) = problems_of(write(content))
    assert found.startswith(problem)


def test_refuses_a_file_that_cannot_be_read(tmp_path):
    """No such file, a folder, and another encoding."""
    assert problems_of(tmp_path / "none.json") == ["cannot be read: No such file or directory"]
    assert problems_of(tmp_path) == ["cannot be read: Is a directory"]
    (tmp_path / "latin.json").write_bytes('{"0": "é"}'.encode("latin-1"))
    assert problems_of(tmp_path / "latin.json")[0].startswith("not UTF-8: byte 7")


def test_a_missing_reference_points_to_prepare(write):
    """Training needs `gpt_output`; without the requirement the reference is empty."""
    path = write({"0": GOOD, "1": {"original_prompt": "a"}, "2": {**GOOD, "gpt_output": " "}})
    assert problems_of(path) == [
        f"gpt_output is missing in 2 of 3 records (1, 2); `taco prepare {path} --config CONFIG` "
        "fills it, with the config that trains on it"
    ]
    examples = load_examples(path, require_references=False)
    assert [e.questions[0].reference_completion for e in examples] == ["Ada", "", " "]


def test_the_digest_is_of_the_records_and_their_order(write, tmp_path):
    """White space and field order do not matter; a word, or the order of records, does."""
    digest = data_digest(write('{"0":{"original_prompt":"é","gpt_output":"b"},"1":{}}'))
    same = '{"0": {"gpt_output": "b",\n "original_prompt": "\\u00e9"}, "1": {}}'
    assert data_digest(write(same)) == digest
    assert data_digest(write(same.replace("b", "c"))) != digest
    moved = '{"1":{},"0":{"original_prompt":"é","gpt_output":"b"}}'
    assert data_digest(write(moved)) != digest


def test_the_split_is_by_id_alone():
    """Sides never depend on the other records; the share is about what was asked for."""
    examples = [Example(str(i), ("a",), ()) for i in range(2000)]
    train, validation = split_validation(examples, 0.05)
    assert len(train) + len(validation) == 2000
    assert 70 <= len(validation) <= 130
    assert split_validation(examples[:500], 0.05)[1] == [
        e for e in validation if e in examples[:500]
    ]


def test_the_split_leaves_something_to_train_on():
    """A share of zero holds nothing out, and a tiny file is all training."""
    examples = [Example("0", ("a",), ())]
    assert split_validation(examples, 0.0) == (examples, [])
    assert split_validation(examples, 1.0) == (examples, [])


def test_writing_makes_the_folder_and_keeps_the_text(tmp_path):
    """What is written is what is read, whatever the script; no temporary file stays."""
    path = tmp_path / "new" / "data.json"
    write_records(path, {"0": {**GOOD, "original_prompt": "日本\n🎈"}})
    assert load_examples(path)[0].contexts == ("日本\n🎈",)
    assert [entry.name for entry in path.parent.iterdir()] == ["data.json"]


def test_a_failed_write_leaves_the_old_file(tmp_path):
    """An interruption in the middle never costs the data."""
    path = tmp_path / "data.json"
    write_records(path, {"0": GOOD})
    with pytest.raises(TypeError):
        write_records(path, {"0": GOOD, "1": object()})
    assert len(load_examples(path)) == 1


def test_an_unwritable_place_is_a_data_error(tmp_path):
    """A file where a folder should be."""
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        write_records(tmp_path / "file" / "data.json", {"0": GOOD})
