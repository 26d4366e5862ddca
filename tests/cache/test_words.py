"""Which words an entry is found by."""

import json

import pytest

from cache.words import Search, entry_words, parse_search


def _document(**request):
    return json.dumps({"request": request, "teacher": "t", "v": 1})


@pytest.mark.parametrize(
    ("text", "search"),
    [
        ("Anna", Search(("anna",))),
        ("the  ORION-7!", Search(("the", "orion", "7"))),
        ("lead* orion vega*", Search(("orion",), ("lead", "vega"))),
        ("who? who?", Search(("who",))),
        ("Straße", Search(("strasse",))),
        ("会議", Search(("会", "議"))),
        ("x" * 100, Search(("x" * 64,))),
        ('"; DROP TABLE entries; -- *', Search(("drop", "table", "entries"))),
        ("", None),
        ("?! \u202e", None),
    ],
)
def test_a_search_is_its_words(text, search):
    """Whole, or as far as a star."""
    assert parse_search(text) == search


def test_a_search_of_very_many_words_is_cut():
    """Nobody types so many."""
    assert len(parse_search(" ".join(map(str, range(1000)))).words) == 16


def test_an_entry_has_the_words_of_request_and_answer():
    """Each once; not the names of fields, models and roles."""
    document = _document(
        model="secret-model",
        messages=[
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "Who leads Orion_7? be"}]},
        ],
    )
    assert entry_words(document, "Anna leads.") == [
        *("be", "brief", "who", "leads", "orion_7", "anna"),
    ]
    assert entry_words(_document(prompt=["one", "two"]), None) == ["one", "two"]
    assert entry_words(_document(prompt=[1, 2, 3]), None) == []


def test_a_damaged_entry_has_no_words():
    """And stops no index."""
    for document in ("{", "[]", "null", "{}", '{"request": null}'):
        assert entry_words(document, None) == []
    assert entry_words('{"request": ["a", {"content": "b"}]}', None) == ["a", "b"]
    assert entry_words(_document(prompt="a"), "b\udcff") == ["a", "b"]


def test_an_entry_of_very_many_words_is_cut():
    """Below what PostgreSQL takes."""
    many = " ".join(f"w{number:09}" for number in range(100_000))
    words = entry_words(_document(prompt=many), None)
    assert 300_000 < sum(map(len, words)) <= 400_000
    assert words[0] == "w000000000"
