"""A rule-based reader: answers questions about a text, or lists its facts, with no model.

It knows shapes (capitalised words, numbers, days) and cue words ("who", "budget"), and none of the
words that the generator invents. It reads compressed text too, where sentence ends and small words
may be missing; what has lost its clues is answered "unknown".

Question: find the question's names in the transcript and take the word of the kind asked for that
is nearest to one of them in the same sentence. Where the end of a sentence was dropped, the next
one counts as its continuation, and its words can mislead, as they would a human reader.

No question: a summary, one line for each cue word that has a value of its kind and a name near it;
of code, after a line that begins with "Code:", what `builtin_code` finds in it. After "Shorten:",
the text without its small words. As a judge of answers, what `builtin_judge` finds.

How the last user message is read: the last line that begins with "Question:" holds the question;
the transcript follows the first "Transcript:", "Meeting:", "Context:", "Document:", "Text:",
"Code:" or "Shorten:" that begins a line, up to the question (or to the end, where the question
comes first); without such a marker, everything but the question is the transcript. A closing
"Answer:" or "Summary:" is neither.
"""

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from teacher_service.backends.builtin_code import summarize_code
from teacher_service.backends.builtin_judge import judge

RULES_VERSION = 4
"""Part of the teacher's identity: to be raised with every change that can change an answer."""

UNKNOWN = "unknown"


class _Kind(Enum):
    NAME = "a capitalised word that is neither a day nor a word of plain English"
    NUMBER = "digits"
    DAY = "a day of the week"
    PLAIN = "any other word"


_DAYS = frozenset(("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"))

_SMALL_WORDS_TEXT = """
    a about after again all also although an and any anybody are as at be because been before both
    but by can could did do does during each everybody everyone everything few finally first for
    from had has have he her here his how however i if in is it its last many maybe more most much
    must my next no nobody none not nothing now of on once one only or other our please several she
    should since so some somebody someone something still than that the their them then there these
    they this those though three to today tomorrow two under until up was we were what when where
    whether which while who whom whose why will with without would yes yesterday yet you your
"""
_NOUNS_TEXT = """
    amount answer budget charge city context cost day deadline due lead leader meeting number owner
    place price project question responsibility review summary team text town transcript
"""
_SMALL_WORDS = frozenset(_SMALL_WORDS_TEXT.split())

# No names, though the start of a sentence or a heading may capitalise them.
_PLAIN_WORDS = _SMALL_WORDS | frozenset(_NOUNS_TEXT.split())

# What a question asks for: the first of its words that is listed here decides; else a name.
_ASKED_KINDS: dict[str, _Kind] = {
    **dict.fromkeys(("who", "whom", "whose", "where"), _Kind.NAME),
    **dict.fromkeys(("when", "day", "deadline", "due"), _Kind.DAY),
    **dict.fromkeys(("much", "many", "budget", "cost", "price", "number"), _Kind.NUMBER),
}

# What a summary lists: cue word -> its label and the kind of value that completes the fact.
_CUES: dict[str, tuple[str, _Kind]] = {
    **dict.fromkeys(
        ("lead", "leads", "led", "leader", "owner", "owned", "owns", "charge", "responsible"),
        ("lead", _Kind.NAME),
    ),
    **dict.fromkeys(("deadline", "due", "delivered", "deliver", "finish"), ("deadline", _Kind.DAY)),
    **dict.fromkeys(("budget", "cost", "spend", "spent"), ("budget", _Kind.NUMBER)),
    **dict.fromkeys(("review",), ("review", _Kind.NAME)),
}

_WORD = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d_]+|[.!?\n]")
_SENTENCE_ENDS = frozenset(".!?\n")
_QUESTION_LINE = re.compile(r"^[ \t]*Question:[ \t]*(.*)$", re.MULTILINE)
_TRANSCRIPT_MARKER = re.compile(
    r"^[ \t]*(?:Transcript|Meeting|Context|Document|Text|Code|Shorten):", re.MULTILINE
)
_ANSWER_LINE = re.compile(r"\n[ \t]*(?:Answer|Summary):[ \t]*\s*\Z")


@dataclass(frozen=True, slots=True)
class _Text:
    """A text's W words; a position is an index into all three."""

    words: tuple[str, ...]
    kinds: tuple[_Kind, ...]
    sentences: tuple[int, ...]
    """The number of the sentence that each word stands in."""
    places: Mapping[_Kind, Sequence[int]]
    """The positions of each kind's words, in order."""


def answer(messages: Sequence[Mapping[str, str]]) -> str:
    """Answers the last user message of a chat; the same messages always get the same answer.

    Args:
        messages: Chat messages `{role, content}`; all but the last user message are ignored.

    Returns:
        One word for a question, lines for a summary, "unknown" where nothing fits.
    """
    prompt = next((m["content"] for m in reversed(messages) if m["role"] == "user"), "")
    if judgement := judge(prompt):
        return judgement
    transcript, question = split_prompt(prompt)
    marker = _marker(prompt)
    if question is None and marker == "Code:":
        return summarize_code(transcript) or UNKNOWN
    if question is None and marker == "Shorten:":
        return _shorten(transcript) or UNKNOWN
    text = _parse(transcript)
    return _summarize(text) if question is None else _answer_question(text, _parse(question))


def split_prompt(prompt: str) -> tuple[str, str | None]:
    """Finds transcript and question in a rendered prompt template, as the module describes."""
    question_lines = list(_QUESTION_LINE.finditer(prompt))
    marker = _TRANSCRIPT_MARKER.search(prompt)
    start = marker.end() if marker else 0
    if not question_lines:
        return _ANSWER_LINE.sub("", prompt[start:]).strip(), None
    line = question_lines[-1]
    if line.start() >= start:
        before, after = prompt[start : line.start()], "" if marker else prompt[line.end() :]
    else:
        before, after = "", prompt[start:]
    return _ANSWER_LINE.sub("", before + after).strip(), line[1].strip()


def _marker(prompt: str) -> str | None:
    """The word before the transcript."""
    marker = _TRANSCRIPT_MARKER.search(prompt)
    return marker[0].strip() if marker else None


def _shorten(transcript: str) -> str:
    """A text without its small words; whatever is left keeps its form."""
    return " ".join(
        word for word in transcript.split() if word.strip(".,;:!?").lower() not in _SMALL_WORDS
    )


@lru_cache(maxsize=4096)
def _parse(text: str) -> _Text:
    """Splits a text into words; every question about one transcript shares the result."""
    words: list[str] = []
    kinds: list[_Kind] = []
    sentences: list[int] = []
    sentence = 0
    for word in _WORD.findall(text):
        if word in _SENTENCE_ENDS:
            sentence += 1
            continue
        words.append(word)
        kinds.append(_kind_of(word))
        sentences.append(sentence)
    places: dict[_Kind, list[int]] = {kind: [] for kind in _Kind}
    for position, kind in enumerate(kinds):
        places[kind].append(position)
    return _Text(tuple(words), tuple(kinds), tuple(sentences), places)


def _kind_of(word: str) -> _Kind:
    if word[0].isdigit():
        return _Kind.NUMBER
    if not word[0].isupper():
        return _Kind.PLAIN
    lowered = word.lower()
    if lowered in _DAYS:
        return _Kind.DAY
    return _Kind.PLAIN if lowered in _PLAIN_WORDS else _Kind.NAME


def _answer_question(text: _Text, question: _Text) -> str:
    names = {
        w for w, kind in zip(question.words, question.kinds, strict=True) if kind is _Kind.NAME
    }
    subjects = names or {w for w in question.words if w.lower() not in _SMALL_WORDS}
    anchors = [i for i, word in enumerate(text.words) if word in subjects]
    asked = _asked_kind(question.words)
    candidates = [i for i in text.places[asked] if text.words[i] not in subjects]
    nearest = _nearest(text, anchors, candidates)
    return UNKNOWN if nearest is None else text.words[nearest]


def _asked_kind(words: Iterable[str]) -> _Kind:
    return next(
        (_ASKED_KINDS[word.lower()] for word in words if word.lower() in _ASKED_KINDS), _Kind.NAME
    )


def _summarize(text: _Text) -> str:
    lines = (_fact(text, i) for i, word in enumerate(text.words) if word.lower() in _CUES)
    return "\n".join(dict.fromkeys(line for line in lines if line)) or UNKNOWN


def _fact(text: _Text, cue: int) -> str | None:
    """The line for one cue word: its label, then the fact's name and value in the text's order."""
    label, kind = _CUES[text.words[cue].lower()]
    value = _nearest(text, [cue], text.places[kind])
    name = _nearest(text, [cue], text.places[_Kind.NAME], without=value)
    if value is None or name is None:
        return None
    return f"{label}: " + ", ".join(text.words[i] for i in sorted((name, value)))


def _nearest(
    text: _Text, anchors: Sequence[int], candidates: Sequence[int], without: int | None = None
) -> int | None:
    """The candidate position nearest to an anchor in its sentence; the later one of equals.

    Candidates are in order, so that only an anchor's neighbours among them are looked at: a text of
    a megabyte takes no longer than many short ones.
    """
    pairs = (
        (abs(candidate - anchor), -candidate)
        for anchor in anchors
        for candidate in _neighbours(candidates, anchor, without)
        if text.sentences[anchor] == text.sentences[candidate]
    )
    best = min(pairs, default=None)
    return None if best is None else -best[1]


def _neighbours(candidates: Sequence[int], anchor: int, without: int | None) -> Iterator[int]:
    """The last candidate before an anchor and the first at or after it, one of them left out."""
    after = bisect_left(candidates, anchor)
    before = after - 1
    if after < len(candidates) and candidates[after] == without:
        after += 1
    if before >= 0 and candidates[before] == without:
        before -= 1
    if before >= 0:
        yield candidates[before]
    if after < len(candidates):
        yield candidates[after]
