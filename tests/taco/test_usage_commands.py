"""`taco cache explain`, `runs`, `ledger` and `audit`, over stores that a real service fills."""

import json
import re

import httpx2
import pytest

from cache import Account, Amount, Completion, CompletionStore, NewEntry, fingerprint
from taco.audit import Comparison, report_of, wilson_interval
from taco.errors import UserError
from taco.own_service import own_service
from teacher_service.backends.builtin_rules import RULES_VERSION
from teacher_service.identity import builtin_identity

TEACHER = builtin_identity(RULES_VERSION)


@pytest.fixture
def store(request, tmp_path):
    """Where the test's store lies, or will: a file, unless the test asks for a database."""
    if getattr(request, "param", "sqlite") == "postgresql":
        return request.getfixturevalue("postgres_url")
    return tmp_path / "completions.sqlite"


@pytest.fixture
def cache(installed_taco, store, tmp_path):
    """Run `taco cache ARGUMENTS` on the test's store, and give what it said."""

    def run(*arguments, code=0):
        said = installed_taco(
            "cache", *arguments, "--store", str(store), TACO_HOME=str(tmp_path / "home")
        )
        assert said.code == code, said.err
        return said.out if code == 0 else said.err

    return run


@pytest.fixture
def stored(store):
    """Store these answers of the built-in teacher, one to a question; returns their requests."""

    def put(*answers):
        requests = [
            {"model": TEACHER.name, "messages": [{"role": "user", "content": f"Question {number}"}]}
            for number in range(len(answers))
        ]
        with CompletionStore.open(store) as opened:
            opened.register_teacher(TEACHER)
            opened.commit(
                [
                    NewEntry(
                        fingerprint(TEACHER.digest, request),
                        TEACHER.digest,
                        None,
                        Completion(answer, "stop"),
                    )
                    for request, answer in zip(requests, answers, strict=True)
                ]
            )
        return requests

    return put


def test_explain_names_what_differs(cache, stored, tmp_path):
    """A stored request is said to be stored; of another, the fields that differ are shown."""
    [request] = stored("Yes.")
    file = tmp_path / "asked.json"
    file.write_text(json.dumps({"request": request, "teacher": "builtin"}))
    assert re.search(r"stored +│ yes", cache("explain", str(file)))
    file.write_text(json.dumps({"request": {**request, "temperature": 0.7}}))
    said = cache("explain", str(file))
    assert re.search(r"stored +│ no", said)
    assert re.search(r"request\.temperature +│ - +│ 0\.7", said)
    assert fingerprint(TEACHER.digest, request).key.hex() in said


def test_a_canonical_document_can_be_explained_as_it_is(cache, stored, tmp_path):
    """As `taco cache show` and an export have it."""
    [request] = stored("Yes.")
    file = tmp_path / "document.json"
    file.write_text(fingerprint(TEACHER.digest, request, sample_index=1).document)
    assert re.search(r"sample_index +│ 0 +│ 1", cache("explain", str(file)))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[1]", "there is no request"),
        ('{"request": {}, "request": {}}', "occurs twice"),
        ('{"request": {}, "temprature": 1}', "got temprature"),
        ('{"request": {}, "teacher": "gpt-9"}', "no teacher is called 'gpt-9'"),
    ],
)
def test_what_cannot_be_explained_is_refused(cache, stored, tmp_path, content, said):
    """With what was expected."""
    stored("Yes.")
    file = tmp_path / "asked.json"
    file.write_text(content)
    assert said in cache("explain", str(file), code=1)


def test_runs_and_their_ledger_are_shown(cache, store, stored):
    """In total and by run; a run that is not there is an error."""
    stored("Yes.")
    with CompletionStore.open(store) as opened:
        opened.record_uses(
            {},
            {
                Account("one", TEACHER.digest, "miss", "USD"): Amount(1200, 5, 90_000, 3_000, 1.5),
                Account("one", TEACHER.digest, "hit", "USD"): Amount(300, 0, 20_000, 1_000, 0.5),
                Account("two", TEACHER.digest, "collapsed", "USD"): Amount(7, 0, 70, 7, 0.25),
            },
        )
    said = cache("runs")
    assert re.search(r"│ one +│ [\d: -]+ │ [\d: -]+ │ 1,200 +│ 300 +│ 0 ", said)
    total = cache("ledger")
    assert re.search(r"spent +│ 1,200 +│ 5 +│ 90,000 +│ 3,000 +│ 1\.5000", total)
    assert re.search(r"saved by collapsing +│ 7 +│ 0 +│ 70 +│ 7 +│ 0\.2500", total)
    assert re.search(r"spent +│ 0 +│ 0 +│ 0 +│ 0 +│ 0\.0000", cache("ledger", "--run", "two"))
    assert "no run 'three'" in cache("ledger", "--run", "three", code=1)


@pytest.mark.parametrize("store", ["sqlite", "postgresql"], indirect=True)
def test_an_audit_finds_what_comes_out_otherwise(cache, store, stored):
    """Against a service of its own; every differing answer is kept beside the stored one."""
    stored(*["unknown"] * 30, *["unknown Anna"] * 6, *["Anna leads it."] * 4)
    said = cache("audit", "--sample", "40")
    assert re.search(r"asked again +│ 40 ", said)
    assert re.search(r"disagreed +│ 10 ", said)
    # Wilson: 10 of 40. F1 of "unknown" against "unknown Anna" is 2/3, against the other 0.
    assert "25.0% (95 % interval: 14.2% to 40.2%)" in said
    assert re.search(r"mean reward difference +│ 0\.1500", said)
    assert re.search(r"largest reward difference +│ 1\.0000", said)
    with CompletionStore.open(store, read_only=True) as opened:
        assert (opened.stats().completions, opened.stats().alternates) == (40, 10)
    ledger = cache("ledger")
    assert re.search(r"spent +│ 40 ", ledger)
    assert re.search(r"audit-[0-9a-f]{8}", cache("runs"))


def test_an_audit_through_a_running_service(installed_taco, store, stored, tmp_path):
    """The service holds the store; the sample is read beside it, the same for the same seed."""
    stored(*["unknown"] * 5, *["Anna"] * 5)
    audit = ["cache", "audit", "--sample", "4", "--store", str(store)]
    with own_service(store=store) as url:
        said = [installed_taco(*audit, TACO_TEACHER_URL=url) for _ in range(2)]
        other = installed_taco(*audit, "--seed", "5", "--url", url)
        calls = httpx2.get(f"{url}/v1/cache/stats").json()["since_start"]["backend_calls"]
    assert said[0].code == other.code == 0
    assert said[0].out == said[1].out
    assert calls == 12


def test_an_audit_of_nothing_is_refused(cache, stored):
    """Another teacher's answers are not this one's to give."""
    stored()
    assert "holds no completion of teacher builtin" in cache("audit", code=1)


def test_failures_are_counted_apart():
    """They say nothing about drift; when there is nothing else, that is an error."""
    failed = Comparison(b"", None, 0.0, "HTTP 502: no")
    report = report_of([Comparison(b"", True, 0.0), Comparison(b"", False, -0.5), failed])
    assert (report.asked, report.failed, report.disagreed, report.rate) == (3, 1, 1, 0.5)
    assert (report.mean_reward_difference, report.max_reward_difference) == (-0.25, -0.5)
    with pytest.raises(UserError, match="HTTP 502: no"):
        report_of([failed])


@pytest.mark.parametrize(
    ("count", "total", "low", "high"),
    [(0, 100, 0.0, 0.037), (10, 40, 0.1419, 0.4019), (5, 5, 0.5655, 1.0)],
)
def test_the_interval_is_wilson_s(count, total, low, high):
    """Values of R's `prop.test(..., correct = FALSE)`."""
    assert wilson_interval(count, total) == pytest.approx((low, high), abs=1e-4)
