"""Meeting transcripts with facts to ask about, made from a seed.

A transcript has seven sentences in a drawn order: three facts about three invented projects, each
asked about, and four sentences of small talk whose names, numbers and days are never asked about.
People, projects, places and brands are composed from syllables, so that a small vocabulary spends
two or three word pieces on each, and those of the test split never occur in training.

The same seed gives the same texts on every platform and Python version: records draw from
`random.Random(...).random()` alone, the one method whose sequence Python promises to keep.
"""

import random
import re
from collections.abc import Sequence
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
    ),
    "day": (
        "The deadline of project {project} was moved to {day} by the client.",
        "Everything for {project} has to be delivered by {day} at the latest.",
        "We must finish {project} before the deadline, which falls on {day} now.",
        "{day} is the deadline for the {project} project, and it stays.",
        "The client expects {project} to be delivered on {day} and not later.",
    ),
    "number": (
        "The budget of {project} was fixed at {number} thousand after a debate.",
        "For the {project} project we may spend {number} thousand and no more.",
        "A budget of {number} thousand was granted to {project} this quarter.",
        "They have set aside {number} thousand as the budget of project {project}.",
        "With {number} thousand the budget for {project} is rather small.",
    ),
    "place": (
        "The review of project {project} will be held in {place} this time.",
        "We will meet in {place} for the review of the {project} project.",
        "For the {project} review everybody has to travel to {place} again.",
        "{place} was chosen as the place for the review of {project}.",
        "The client wants the {project} review to be held at {place}.",
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
    "{person} brought a {thing} and a {thing} from {place}, as always.",
    "The {brand} {thing} next to the {thing} was broken on {day}, said {person}.",
    "{person} bought a {brand} {thing} in {place} and {number} plates to match.",
    "{person} told {person} that the {trait} {thing} turned up on {day}.",
    "There was a {brand} {thing} at the station in {place}, {number} feet tall.",
    "Somebody from {place} sent us {number} photographs of a {trait} {brand} {thing}.",
    "{person} asked about the {thing} that was left behind in {place}.",
    "On {day} the {trait} {brand} {thing} fell on the {thing} of {person}.",
    "{person} ran {number} kilometres around {place} with a {brand} {thing}.",
    "We all laughed when {person} mistook the {thing} for a {trait} {thing}.",
    "A {trait} {brand} {thing} for {person} has been waiting in {place}.",
    "In {place} one can rent a {brand} {thing} and a {thing} until {day}.",
)

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
NUMBERS = tuple(str(number) for number in range(11, 100))

# Plain words for small talk, which make it as varied as what people say.
_THINGS = """
    accordion anchor apron armchair balloon banjo barrel basket bathtub beehive bell bench bicycle
    blanket bonfire bookcase boot bottle bowl bracelet bridge broom bucket button cabin cactus cage
    cake camera candle canoe carpet cart cello chandelier cheese chimney clock cloud coat compass
    cradle crown cupboard curtain cushion desk dinghy dishwasher doll donkey drawer drum duvet easel
    engine feather fence fiddle fireplace flag flute fountain fridge funnel garage garden gate goat
    goose greenhouse guitar hammer hammock harp hat hedge helmet horse hut jacket jar jigsaw jug
    kayak kennel kettle kite ladder lamp lantern lawnmower letterbox lighthouse magnet mandolin map
    marmalade mattress mirror mitten mop mug needle oar omelette orchard organ oven paddle parrot
    pear pencil piano pickle pillow pipe pony porch pram puppet quilt radio raft rake ribbon rocket
    rope sandwich saucepan saxophone scarf scooter shed shelf shovel sledge slipper sofa spade spoon
    squirrel statue stove suitcase swing tambourine teapot telescope tent toaster tractor tray
    trombone trumpet turnip typewriter ukulele umbrella vase violin waffle wagon wardrobe whistle
    window xylophone yacht zip
"""
_TRAITS = """
    ancient blue bright broken brown cheap clumsy crooked curious dusty elegant enormous faded fancy
    fluffy fragile funny gentle giant glossy golden green grey handsome heavy hollow huge humble
    lovely loud lonely muddy narrow noisy odd orange painted pale plain polished pretty purple quiet
    red rotten round rusty shabby shiny silent silver sleepy slim soft spare square squeaky sticky
    strange striped sturdy tiny ugly velvet wild wobbly wooden yellow
"""

THINGS = tuple(_THINGS.split())
TRAITS = tuple(_TRAITS.split())

# How many invented words each split has.
SIZES: dict[str, dict[Split, int]] = {
    "person": {"train": 1900, "test": 475},
    "project": {"train": 1900, "test": 475},
    "place": {"train": 1200, "test": 300},
    "brand": {"train": 1200, "test": 300},
}

# Start, middle and end of each kind of invented word. There are far more combinations than words,
# so that a vocabulary of 2,000 pieces holds syllables and few whole names.
SYLLABLES: dict[str, tuple[str, str, str]] = {
    "person": (
        "Al Bar Cor Dal El Fen Gar Hal Ir Jor Kal Lor Mar Nor Ol Per Ros Sel Tam Ul Ver Wil Bes "
        "Cam Dor Em Fil Gis Hed Il Jul Kat Lin Mir Nad Osk Pav Rud Sim Ted",
        "ad el en id im in on or os ur yv ab ec ig ul eb",
        "a o ia ek is un ette ard yn as ina ow iel ant",
    ),
    "project": (
        "Ast Brin Cyr Drav Glo Hex Krin Lum Neb Orb Phar Plex Quil Rad Stel Syn Tor Vex Xen Yt "
        "Zan Zul Ark Bol Cru Dyn Ech Flux Gyr Hyd Ion Jet Kry Log Mag Nov Opt Pul Rho Sig",
        "a e i o u ar ev ir on ot um yl ap ic od us",
        "dex lon mir nix phos rix tis vane zor bax cor dyn gent thar",
    ),
    "place": (
        "Ash Brack Brom Cald Clay Dun East Fair Green Hart Ives Kings Lang Mill New Oak Pem Quen "
        "Rush Stan Thorn Up West Wood Yar Bed Chel Dray Elm Fern Gold Hazel Kil Lud Morn",
        "a e en er ing le ley on stow ton by ra mer sel",
        "bury ford ham mouth stead wick combe dale field gate well worth",
    ),
    "brand": (
        "Bli Bon Chim Doo Fiz Gab Gog Jab Jig Koo Lul Mop Nib Noo Pip Plu Pog Rin Scoo Shim Smu "
        "Sno Tik Too Twi Vro Wiz Woo Yap Yum Zap Zig Ban Dit Fop Hup Loo Ping Quip Tru",
        "ba bo ca co da do ga go ka ko la lo ma mo pa po",
        "co fy go ly max mo oo pop tron via zap zy",
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
    """The words that fill each slot; the splits differ in those that are invented."""
    common = {"day": DAYS, "number": NUMBERS, "thing": THINGS, "trait": TRAITS}
    return common | {kind: _invented(kind, split) for kind in SYLLABLES}


def _invented(kind: str, split: Split) -> tuple[str, ...]:
    """A split's share of a kind's words, which are the same whatever is generated from them."""
    rng = random.Random(f"words/{kind}")  # noqa: S311
    parts = [syllables.split() for syllables in SYLLABLES[kind]]
    sizes = SIZES[kind]
    words: dict[str, None] = {}
    while len(words) < sizes["train"] + sizes["test"]:
        words["".join(_pick(rng, part) for part in parts)] = None
    train, test = tuple(words)[: sizes["train"]], tuple(words)[sizes["train"] :]
    return train if split == "train" else test


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
