"""Meeting transcripts with facts to ask about, made from a seed.

A transcript has seven sentences in a drawn order: three facts about three invented projects, each
asked about, and four sentences of small talk whose names, places, numbers and days are never asked
about. People, projects and places are composed from syllables, so that a small vocabulary spends
two or three word pieces on each, and those of the test split never occur in training.

The same seed gives the same texts on every platform and Python version: records draw from
`random.Random(...).random()` alone, the one method whose sequence Python promises to keep.
"""

import hashlib
import random
import re
from collections.abc import Sequence
from itertools import product
from typing import Any, Literal, TypeVar

T = TypeVar("T")
Split = Literal["train", "test"]
Vocabulary = dict[str, tuple[str, ...]]

WORDS_PER_TRANSCRIPT = range(75, 86)
FACTS_PER_TRANSCRIPT = 3
ASIDES_PER_TRANSCRIPT = 4

# Facts: two slots each, the project and the answer; questions: the project alone.
FACTS: dict[str, tuple[str, ...]] = {
    "person": (
        "{person} will lead the {project} project from the next sprint on.",
        "The team agreed that project {project} is now owned by {person}.",
        "It was decided that {person} takes charge of {project} after the break.",
        "The board has made {person} responsible for the whole of {project}.",
        "For {project} we have an owner at last, and that is {person}.",
        "After some discussion {person} was named as the lead of {project}.",
        "All questions about {project} go to {person}, who leads it for now.",
        "The new leader of project {project} is {person}, as we had hoped.",
    ),
    "day": (
        "The deadline of project {project} was moved to {day} by the client.",
        "Everything for {project} has to be delivered by {day} at the latest.",
        "We must finish {project} before the deadline, which falls on {day} now.",
        "{day} is the deadline for the {project} project, and it stays.",
        "The client expects {project} to be delivered on {day} and not later.",
        "On {day} the {project} project is due, said the chair again.",
        "It is agreed that {project} is due on {day} without any delay.",
        "The new deadline is {day} for all that belongs to {project}.",
    ),
    "number": (
        "The budget of {project} was fixed at {number} thousand after a debate.",
        "For the {project} project we may spend {number} thousand and no more.",
        "A budget of {number} thousand was granted to {project} this quarter.",
        "They have set aside {number} thousand as the budget of project {project}.",
        "With {number} thousand the budget for {project} is rather small.",
        "The cost of {project} must stay below {number} thousand this year.",
        "We can spend up to {number} thousand on the {project} project.",
        "It was agreed that {project} gets a budget of {number} thousand.",
    ),
    "place": (
        "The review of project {project} will be held in {place} this time.",
        "We will meet in {place} for the review of the {project} project.",
        "For the {project} review everybody has to travel to {place} again.",
        "{place} was chosen as the place for the review of {project}.",
        "The client wants the {project} review to be held at {place}.",
        "It is now certain that {place} hosts the review of {project}.",
        "As for {project}, the next review takes them all to {place}.",
        "They moved the review of project {project} from the office to {place}.",
    ),
}

QUESTIONS: dict[str, tuple[str, ...]] = {
    "person": (
        "Who leads the {project} project?",
        "Who is in charge of {project}?",
        "Who is responsible for project {project}?",
    ),
    "day": (
        "When is the deadline of {project}?",
        "When is project {project} due?",
        "On which day must {project} be delivered?",
    ),
    "number": (
        "How much is the budget of {project}?",
        "What is the budget of project {project}?",
        "How much may be spent on the {project} project?",
    ),
    "place": (
        "Where will the review of {project} be held?",
        "Where is the {project} review?",
        "In which town is the review of project {project}?",
    ),
}

ASIDES: tuple[str, ...] = (
    "{person} had lunch with {person} near the old station in {place}.",
    "The train from {place} was {number} minutes late again on {day}.",
    "{person} has moved to {place} and now walks {number} minutes to work.",
    "On {day} the canteen had soup, and {person} ate {number} dumplings.",
    "{person} told us that it rained in {place} until late on {day}.",
    "The heating in the {place} office broke down on {day}, said {person}.",
    "Somebody from {place} sent {number} photographs of the summer party.",
    "{person} still has to buy {person} a coffee since the walk on {day}.",
    "There are {number} new chairs in the kitchen, said {person} with a smile.",
    "{person} ran {number} kilometres around {place} and could hardly sit down.",
    "We all sang for {person}, who won {number} in a raffle on {day}.",
    "A parcel for {person} has been waiting in {place} since last {day}.",
    "{person} and {person} went to see an old film in {place}.",
    "In {place} the lift is stuck, and {person} climbed {number} stairs.",
    "{person} asked whether anybody had found a blue umbrella from {place}.",
    "The coffee machine made {number} cups before {person} repaired it on {day}.",
    "{person} grew up in {place}, only {number} kilometres from the sea.",
    "On {day} the choir of {place} sings, and {person} has {number} tickets.",
    "{person} will be on holiday in {place} until {day}, lucky as always.",
    "At the market in {place} one gets {number} plums for a song.",
    "As {person} told {person}, the museum in {place} is closed on {day}.",
    "There was cake from {place}, and {person} took {number} pieces of it.",
    "{person} lost the keys on {day} somewhere between {place} and {place}.",
    "The dog of {person} chased {number} ducks through the park on {day}.",
)

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
NUMBERS = tuple(str(number) for number in range(11, 100))

# Start, middle and end of each kind of invented word: 2,376 people, 2,376 projects, 1,500 places.
SYLLABLES: dict[str, tuple[str, str, str]] = {
    "person": (
        "Al Bar Cor Dal El Fen Gar Hal Ir Jor Kal Lor Mar Nor Ol Per Ros Sel Tam Ul Ver Wil",
        "ad el en id im in ol on or os ur yv",
        "a o ia ek is un ette ard yn",
    ),
    "project": (
        "Ast Brin Cyr Drav Glo Hex Krin Lum Neb Orb Phar Plex Quil Rad Stel Syn Tor Vex Xen Yt "
        "Zan Zul",
        "a e i o u ar ev ir on ot um yl",
        "dex lon mir nix phos rix tis vane zor",
    ),
    "place": (
        "Ash Brack Brom Cald Clay Dun East Fair Green Hart Ives Kings Lang Mill New Oak Pem Quen "
        "Rush Stan Thorn Up West Wood Yar",
        "a e en er ing le ley on stow ton",
        "bury ford ham mouth stead wick",
    ),
}

_SLOT = re.compile(r"\{(\w+)\}")


def generate_meetings(count: int, seed: int, split: Split) -> list[dict[str, Any]]:
    """Makes `count` records; the first n of them are the same whatever `count` is.

    Args:
        count: How many records.
        seed: Any integer.
        split: Whose people, projects and places to draw from; the two splits share none.

    Returns:
        Records `{original_prompt, questions: [{question, answer}, ...]}` with three questions
        each; the answer is one word of the text. `gpt_output` is for the teacher to fill.
    """
    vocabulary = split_vocabulary(split)
    return [
        _meeting(random.Random(f"meetings/{split}/{seed}/{index}"), vocabulary)  # noqa: S311
        for index in range(count)
    ]


def split_vocabulary(split: Split) -> Vocabulary:
    """The words that fill each slot in a split; days and numbers are the same in both."""
    invented = {
        kind: tuple(word for word in _invent(*parts) if _split_of(word) == split)
        for kind, parts in SYLLABLES.items()
    }
    return {**invented, "day": DAYS, "number": NUMBERS}


def _invent(starts: str, middles: str, ends: str) -> list[str]:
    return ["".join(parts) for parts in product(starts.split(), middles.split(), ends.split())]


def _split_of(word: str) -> Split:
    return "test" if hashlib.sha256(word.encode()).digest()[0] % 5 == 0 else "train"


def _meeting(rng: random.Random, vocabulary: Vocabulary) -> dict[str, Any]:
    record = _draft(rng, vocabulary)
    while len(record["original_prompt"].split()) not in WORDS_PER_TRANSCRIPT:
        record = _draft(rng, vocabulary)
    return record


def _draft(rng: random.Random, vocabulary: Vocabulary) -> dict[str, Any]:
    """One record of any length; no word fills two slots of it."""
    used: set[str] = set()
    kinds = [_pick(rng, tuple(FACTS)) for _ in range(FACTS_PER_TRANSCRIPT)]
    facts = [_fill(rng, _pick(rng, FACTS[kind]), vocabulary, used) for kind in kinds]
    asides = [
        _fill(rng, template, vocabulary, used)
        for template in _shuffled(rng, ASIDES)[:ASIDES_PER_TRANSCRIPT]
    ]
    sentences = [text for text, _ in _shuffled(rng, facts + asides)]
    questions = [
        {
            "question": _pick(rng, QUESTIONS[kind]).format(project=words["project"]),
            "answer": words[kind],
        }
        for kind, (_, words) in zip(kinds, facts, strict=True)
    ]
    return {"original_prompt": " ".join(sentences), "questions": questions}


def _fill(
    rng: random.Random, template: str, vocabulary: Vocabulary, used: set[str]
) -> tuple[str, dict[str, str]]:
    """Fills every slot with a fresh word: the sentence, and the word of each kind of slot."""
    words: dict[str, str] = {}

    def fresh(slot: re.Match[str]) -> str:
        word = _pick(rng, vocabulary[slot[1]])
        while word in used:
            word = _pick(rng, vocabulary[slot[1]])
        used.add(word)
        words[slot[1]] = word
        return word

    return _SLOT.sub(fresh, template), words


def _pick(rng: random.Random, values: Sequence[T]) -> T:
    return values[int(rng.random() * len(values))]


def _shuffled(rng: random.Random, values: Sequence[T]) -> list[T]:
    return sorted(values, key=lambda _: rng.random())
