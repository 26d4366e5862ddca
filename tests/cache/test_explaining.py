import pytest

from cache import Completion, NewEntry, TeacherIdentity, explaining, fingerprint
from cache.explaining import Difference, Explanation, explain, flatten

QUESTION = {
    "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who?"}]
}


@pytest.fixture
def place(any_place):
    """Every test runs on each database."""
    return any_place


@pytest.fixture
def put(store, teacher):
    """Store a request and return its key."""

    def put_it(request, *, text=None, of=teacher, sample_index=0):
        asked = fingerprint(of.digest, request, sample_index)
        store.commit([NewEntry(asked, of.digest, text, Completion("Yes.", "stop"))]).result()
        return asked.key

    return put_it


@pytest.fixture
def explain_miss(store, teacher):
    """The explanation for a request that is not stored."""

    def explain_it(request, *, text=None, of=teacher, sample_index=0):
        document = fingerprint(of.digest, request, sample_index).document
        return store.query(lambda connection: explain(connection, document, text))

    return explain_it


def test_the_field_that_differs_is_named_with_both_values(put, explain_miss):
    """The nearest request, and nothing but what is different in it."""
    key = put({**QUESTION, "temperature": 0})
    found = explain_miss({**QUESTION, "temperature": 0.7})
    assert found == Explanation(key, (Difference("request.temperature", "0", "0.7"),))


def test_paths_lead_into_lists_and_objects(put, explain_miss):
    """A message's content is named by its place."""
    put(QUESTION)
    other = [QUESTION["messages"][0], {"role": "user", "content": "Where?"}]
    [difference] = explain_miss({"messages": other}).differences
    assert difference == Difference("request.messages[1].content", '"Who?"', '"Where?"')


def test_a_field_that_only_one_has_is_not_set_in_the_other(put, explain_miss):
    """None is "not set", and JSON's null is text."""
    put({**QUESTION, "top_p": 0.5, "options": {"a": None}})
    assert explain_miss({**QUESTION, "stop": ["."], "options": {"a": 0}}).differences == (
        Difference("request.options.a", "null", "0"),
        Difference("request.stop[0]", None, '"."'),
        Difference("request.top_p", "0.5", None),
    )


def test_numbers_and_booleans_are_told_apart(put, explain_miss):
    """True is not 1, though Python takes them for equal."""
    put({**QUESTION, "logprobs": 1})
    assert explain_miss({**QUESTION, "logprobs": True}).differences == (
        Difference("request.logprobs", "1", "true"),
    )


def test_another_teacher_and_another_sample_are_explained(store, put, explain_miss):
    """What lies outside the request counts too."""
    other = TeacherIdentity.from_definition("other", "builtin", {"rules": 2})
    put(QUESTION)
    fields = [each.field for each in explain_miss(QUESTION, of=other, sample_index=3).differences]
    assert fields == ["sample_index", "teacher"]


def test_the_nearest_differs_in_the_fewest_fields_then_in_the_least_text(put, explain_miss):
    """One field is nearer than two, and one word nearer than three."""

    def asking(content, **fields):
        return {"messages": [{"role": "user", "content": content}], **fields}

    put(asking("Who came to the meeting on Monday?"))
    near = put(asking("Who came to the meeting on Sunday?"))
    put(asking("What was said to us in the meeting on Friday?"))
    put(asking("Who came to the meeting on Friday?", seed=1, stop="."))
    assert explain_miss(asking("Who came to the meeting on Friday?")).key == near


def test_requests_about_the_same_text_are_found_however_old(put, explain_miss, monkeypatch):
    """By the text's hash, behind any number of later requests."""
    monkeypatch.setattr(explaining, "_CANDIDATES", 60)
    old = put({**QUESTION, "seed": 1}, text="the text")
    for number in range(70):
        put({**QUESTION, "seed": 1, "stop": [str(number), "."]})
    asked = {**QUESTION, "seed": 2}
    assert explain_miss(asked, text="the text").key == old
    assert explain_miss(asked).key != old


def test_the_same_teacher_s_requests_come_first(store, put, explain_miss, monkeypatch):
    """When there is too much to compare, another teacher's are left out, however recent."""
    monkeypatch.setattr(explaining, "_COMPARED_CHARACTERS", 1)
    other = TeacherIdentity.from_definition("other", "builtin", {"rules": 2})
    store.register_teacher(other)
    own = put({**QUESTION, "seed": 1})
    put({**QUESTION, "seed": 2}, of=other)
    assert explain_miss({**QUESTION, "seed": 2, "top_p": 1}).key == own


def test_a_long_text_is_cut_to_where_it_differs(put, explain_miss):
    """Twenty characters before the difference, eighty in all."""
    before, after = "b" * 500, "a" * 500
    put({"prompt": f"{before}X{after}"})
    [difference] = explain_miss({"prompt": f"{before}Y{after}"}).differences
    assert difference.stored == "…" + "b" * 20 + "X" + "a" * 59 + "…"
    assert difference.asked == "…" + "b" * 20 + "Y" + "a" * 59 + "…"


def test_an_empty_store_explains_nothing(explain_miss):
    """There is nothing to compare with."""
    assert explain_miss(QUESTION) is None


def test_a_stored_request_differs_in_nothing(put, explain_miss):
    """It is its own nearest one."""
    key = put(QUESTION)
    assert explain_miss(QUESTION) == Explanation(key, ())


def test_empty_lists_and_objects_are_leaves():
    """Else a request with an empty list could not be told from one without."""
    assert list(flatten({"a": [], "b": {}, "c": [{}, 1]})) == [
        ("a", "[]"),
        ("b", "{}"),
        ("c[0]", "{}"),
        ("c[1]", "1"),
    ]
