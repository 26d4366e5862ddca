import pytest
from hypothesis import given
from hypothesis import strategies as st

from teacher_service.backends.builtin_rules import answer, split_prompt
from trainer.tasks.meetings import generate_meetings

TEMPLATE = "Transcript:\n{}\n\nQuestion: {}\nAnswer:"
NOTES = "We met at noon. Ada will lead project Pollux. Bo ate 12 plums in Rome on Sunday."


def ask(text, question):
    """The rules' answer to a question."""
    return answer([{"role": "user", "content": TEMPLATE.format(text, question)}])


def summarize(text):
    """The rules' summary."""
    return answer([{"role": "user", "content": f"Transcript:\n{text}\n\nSummary:"}])


@pytest.mark.parametrize("split", ["train", "test"])
def test_answers_on_the_originals_are_right(split):
    """The generator's own answers are what the rules find, without knowing its lists."""
    records = generate_meetings(300, 11, split)
    pairs = [(r["original_prompt"], q) for r in records for q in r["questions"]]
    right = sum(ask(text, q["question"]) == q["answer"] for text, q in pairs)
    assert right / len(pairs) > 0.97


def test_a_summary_has_one_line_for_each_fact():
    """Three facts, three lines; small talk leaves none."""
    for record in generate_meetings(300, 12, "test"):
        lines = summarize(record["original_prompt"]).splitlines()
        assert len(lines) == 3
        for question in record["questions"]:
            assert any(question["answer"] in line for line in lines)


@pytest.mark.parametrize(
    ("text", "question", "expected"),
    [
        (NOTES, "Who leads project Pollux?", "Ada"),
        ("Ada Pollux . Bo Rome", "Who leads Pollux?", "Ada"),
        ("The budget of Pollux is 4,200 for 3 years.", "How much is the Pollux budget?", "4,200"),
        ("Pollux is due on Friday, said Ada.", "When is Pollux due?", "Friday"),
        ("Pollux will be reviewed in Rome.", "Where is the review of Pollux?", "Rome"),
        ("The budget is 40 and the deadline Monday.", "What is the deadline?", "Monday"),
    ],
)
def test_takes_the_nearest_word_of_the_kind_asked_for(text, question, expected):
    """Who and where ask for a name, when for a day, how much for a number."""
    assert ask(text, question) == expected


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("", "Who leads Pollux?"),
        ("Ada will lead.", "Who leads Pollux?"),
        ("Pollux has no deadline.", "When is Pollux due?"),
        ("The lead of Pollux is unnamed. Ada ate.", "Who leads Pollux?"),
    ],
)
def test_says_unknown_when_the_text_does_not_say(text, question):
    """No project, no word of the kind, or only one in another sentence."""
    assert ask(text, question) == "unknown"


def test_a_distractor_misleads_where_the_sentence_end_is_gone():
    """The nearest name is no longer the right one once words between were dropped."""
    assert ask("lead Pollux Bo Rome Ada", "Who leads Pollux?") == "Bo"


def test_summary_lines_keep_the_order_of_the_text():
    """Each line is a label, then the name and the value as they stand in the text."""
    text = "Ada will lead Pollux. The budget of Vega is 40. Lunch was good."
    assert summarize(text) == "lead: Ada, Pollux\nbudget: Vega, 40"
    assert summarize("Lunch was good.") == "unknown"


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("Transcript:\nA b.\n\nQuestion: Who?\nAnswer:", ("A b.", "Who?")),
        ("Be brief.\n\nMeeting: A b.\nQuestion: Who?", ("A b.", "Who?")),
        ("Question: Who?\n\nContext:\nA b.\n\nAnswer:", ("A b.", "Who?")),
        ("A b.\n\nQuestion: Who?\nAnswer:", ("A b.", "Who?")),
        ("Question: Who?\n\nA b.", ("A b.", "Who?")),
        ("Summarize.\n\nTranscript:\nA b.\n\nSummary:", ("A b.", None)),
        ("A b.", ("A b.", None)),
        ("Text:\nQuestion: Why?\nA b.\nQuestion: Who?", ("Question: Why?\nA b.", "Who?")),
    ],
)
def test_finds_transcript_and_question_in_the_prompt(prompt, expected):
    """The convention of the module's docstring, template by template."""
    assert split_prompt(prompt) == expected


def test_a_text_to_shorten_loses_its_small_words_and_nothing_else():
    """What is left keeps its form and its order."""
    prompt = (
        "Delete words.\n\nShorten:\nWe hope that Anna, of all, will lead it.\nIt is due Friday."
    )
    said = answer([{"role": "user", "content": prompt}])
    assert said == "hope Anna, lead due Friday."


def test_only_the_last_user_message_counts():
    """System messages and earlier turns are not part of the transcript."""
    messages = [
        {"role": "system", "content": "Bo leads Pollux."},
        {"role": "user", "content": "Question: Who leads Vega?\nBo leads Vega."},
        {"role": "user", "content": TEMPLATE.format(NOTES, "Who leads Pollux?")},
        {"role": "assistant", "content": "Transcript: nothing"},
    ]
    assert answer(messages) == "Ada"
    assert answer([]) == "unknown"


@given(data=st.data())
def test_any_deletion_leaves_an_answer_from_the_text(data):
    """Whatever the compressor drops, the answer is a word that is still there, or unknown."""
    record = generate_meetings(1, data.draw(st.integers(0, 20)), "test")[0]
    words = record["original_prompt"].replace(".", " .").split()
    keep = data.draw(st.lists(st.booleans(), min_size=len(words), max_size=len(words)))
    text = " ".join(word for word, kept in zip(words, keep, strict=True) if kept)
    for question in record["questions"]:
        assert ask(text, question["question"]) in {*text.replace(",", "").split(), "unknown"}
    assert summarize(text)


@given(st.text(), st.text())
def test_any_text_at_all_gets_an_answer(text, question):
    """No input raises, and the same input gets the same answer."""
    assert ask(text, question) == ask(text, question) != ""
    assert answer([{"role": "user", "content": text}])


_NAMES = {"Ada", "Bo", "Falcon", "Led", "Owns"}
_CUES = {
    **dict.fromkeys(("lead", "Led", "Owns"), ("lead", _NAMES)),
    **dict.fromkeys(("budget", "spent", "Cost"), ("budget", {"40"})),
    "due": ("deadline", {"Monday"}),
    "review": ("review", _NAMES),
}


@given(st.lists(st.sampled_from([*_CUES, *_NAMES, "Monday", "40", "the", ".", "!"]), max_size=25))
def test_a_fact_has_the_value_and_the_name_nearest_to_its_cue(words):
    """Whatever else stands around: against all pairs of positions, one by one."""

    def nearest(cue, wanted, without=None):
        there = [
            (abs(place - cue), -place)
            for place, word in enumerate(words)
            if word in wanted
            and place != without
            and not {".", "!"}.intersection(words[min(place, cue) : max(place, cue)])
        ]
        return -min(there)[1] if there else None

    lines = {}
    for cue, word in enumerate(words):
        if word in _CUES:
            label, wanted = _CUES[word]
            value = nearest(cue, wanted)
            name = nearest(cue, _NAMES, without=value)
            if value is not None and name is not None:
                lines[f"{label}: " + ", ".join(words[i] for i in sorted((value, name)))] = None
    assert summarize(" ".join(words)) == ("\n".join(lines) or "unknown")


@pytest.mark.parametrize("end", [".", ""])
def test_a_megabyte_is_answered(end):
    """In sentences or in one; all pairs of its words would take a day."""
    text = f"Ada leads Falcon and the budget is 40 thousand{end} " * 22_000
    assert summarize(text).splitlines()[0] == "lead: Ada, Falcon"
    assert ask(text, "Who leads Falcon?") == "Ada"
