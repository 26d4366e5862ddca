"""Export, import and merge: content moves between stores, and what is served stays."""

import hashlib
import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from itertools import permutations

import pytest

from cache import (
    Completion,
    CompletionStore,
    ConflictError,
    ExportError,
    Refusal,
    StoreDamaged,
    StoreError,
    StoreLocked,
    TeacherIdentity,
    content_digest,
    fingerprint,
)
from cache.exporting import export_store
from cache.importing import import_store
from cache.merging import Conflict, MergeReport, merge_stores
from cache.on_conflict import OnConflict
from cache.selection import Selection

REFUSED = Refusal("content_filter", "No.")
RICH = Completion(
    "Ünal “leads” it.\n\U0001f600",
    "stop",
    {"prompt_tokens": 12},
    {"logprobs": {"content": [{"token": "Ü", "logprob": -0.5}]}},
    {"engine": "builtin"},
    12.0,
)


@pytest.fixture
def make_store(tmp_path, teacher, make_entry):
    """A store with these (request, answer) pairs, committed one after the other."""

    def make(name, *pairs):
        path = tmp_path / f"{name}.sqlite"
        with CompletionStore.open(path) as store:
            store.register_teacher(teacher)
            for content, answer in pairs:
                entry = make_entry(content, answer, compressed_text=f"short {content}")
                store.commit([entry]).result()
        return path

    return make


@pytest.fixture
def served(make_entry):
    """The text that a store serves for a request."""

    def ask(path, content):
        key = make_entry(content).fingerprint.key
        with CompletionStore.open(path, read_only=True) as store:
            return getattr(store.lookup([key])[key].answer, "text", None)

    return ask


def _counts(path):
    with CompletionStore.open(path, read_only=True) as store:
        stats = store.stats()
    return stats.completions, stats.alternates, stats.refusals


@pytest.fixture
def varied(make_store):
    """A store with every kind of content: rich answers, alternates, refusals in their order."""
    return make_store(
        "varied",
        ("a", RICH),
        ("a", "Other."),
        ("b", REFUSED),
        ("b", Refusal("content_filter", "Never.")),
        ("c", REFUSED),
        ("c", "Yes."),
        ("d", Completion(None, "tool_calls", extra={"tool_calls": [{"id": "1"}]})),
    )


def test_an_export_comes_back_the_same(varied, tmp_path):
    """Exported, imported into an empty store and exported again: the same bytes."""
    first = export_store(varied, tmp_path / "first.jsonl")
    report = import_store(tmp_path / "copy.sqlite", tmp_path / "first.jsonl")
    second = export_store(tmp_path / "copy.sqlite", tmp_path / "second.jsonl")
    assert first == second
    assert first.entries == 4
    assert report == MergeReport(added=4, teachers_added=1)
    assert (tmp_path / "first.jsonl").read_bytes() == (tmp_path / "second.jsonl").read_bytes()
    assert _counts(tmp_path / "copy.sqlite") == _counts(varied) == (3, 1, 3)


def test_an_export_has_a_header_sorted_records_and_a_trailer(varied, tmp_path):
    """Any program can check it: the trailer has the count and the SHA-256 of the lines before."""
    report = export_store(varied, tmp_path / "out.jsonl")
    *lines, last = (tmp_path / "out.jsonl").read_bytes().splitlines(keepends=True)
    header, *records = [json.loads(line) for line in lines]
    assert header["export"] == "taco-completions"
    assert [teacher["name"] for teacher in header["teachers"]] == ["demo"]
    assert [record["key"] for record in records] == sorted(record["key"] for record in records)
    sha256 = hashlib.sha256(b"".join(lines)).hexdigest()
    assert json.loads(last) == {"entries": 4, "sha256": sha256}
    assert report.sha256 == sha256
    rich = next(record for record in records if record["compressed_text"] == "short a")
    assert rich["completion"]["text"] == RICH.text
    assert rich["completion"]["content_digest"] == content_digest(RICH).hex()
    assert [other["text"] for other in rich["alternates"]] == ["Other."]


def test_an_empty_store_has_an_empty_export(make_store, tmp_path):
    """Header and trailer, and importing it adds nothing but the teacher."""
    assert export_store(make_store("empty"), tmp_path / "out.jsonl").entries == 0
    report = import_store(tmp_path / "copy.sqlite", tmp_path / "out.jsonl")
    assert report == MergeReport(teachers_added=1)


def test_a_selection_is_exported(make_store, tmp_path, make_entry):
    """By text, by key, by time and by teacher; a teacher that is not stored is an error."""
    path = make_store("store", ("a", "A."), ("b", "B."), ("c", "C."))
    key = make_entry("b").fingerprint.key

    def count(name, **conditions):
        return export_store(path, tmp_path / f"{name}.jsonl", Selection(**conditions)).entries

    assert count("text", text="short a") == 1
    assert count("keys", keys=[key, bytes(32)]) == 1
    assert count("none", keys=[]) == 0
    assert count("since", since=0.0) == 3
    assert count("before", before=1.0) == 0
    assert count("teacher", teacher="demo") == 3
    assert count("both", teacher="demo", text="short c") == 1
    with pytest.raises(StoreError, match=r"no teacher matches 'gpt'; the store holds: demo \("):
        count("unknown", teacher="gpt")
    assert not (tmp_path / "unknown.jsonl").exists()


def test_a_selection_names_only_the_teachers_that_it_needs(make_store, tmp_path, make_entry):
    """And the import of a part exports to the same digest as the part."""
    path = make_store("store", ("a", "A."))
    with CompletionStore.open(path) as store:
        store.register_teacher(TeacherIdentity.from_definition("gpt", "openai", {"model": "gpt"}))
    part = export_store(path, tmp_path / "part.jsonl", Selection(text="short a"))
    import_store(tmp_path / "copy.sqlite", tmp_path / "part.jsonl")
    assert export_store(tmp_path / "copy.sqlite", tmp_path / "again.jsonl") == part


def test_a_damaged_record_is_not_exported(varied, tmp_path):
    """The error names the key, and no file is left behind."""
    with closing(sqlite3.connect(varied)) as shell, shell:
        shell.execute("UPDATE completions SET text = 'No.' WHERE text = 'Yes.'")
    with pytest.raises(StoreDamaged, match=r"key [0-9a-f]{64}: the answer hashes to"):
        export_store(varied, tmp_path / "out.jsonl")
    assert not list(tmp_path.glob("*out.jsonl*"))


def test_an_export_never_replaces_a_file(varied, tmp_path):
    """Least of all the store itself."""
    before = varied.read_bytes()
    with pytest.raises(ExportError, match="exists: remove it, or name a new file"):
        export_store(varied, varied)
    assert varied.read_bytes() == before


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda lines: lines[:-1], "cut short: 4 whole records and no trailer"),
        (lambda lines: lines[:3], "cut short: 2 whole records"),
        (lambda lines: [*lines[:3], lines[3][:-9]], "cut short: 2 whole records"),
        (lambda lines: lines[:1], "cut short: 0 whole records"),
        (lambda lines: [], "line 1: .*not JSON"),
        (lambda lines: lines[1:], "line 1: expected the header of an export"),
        (lambda lines: [*lines[:2], *lines[3:]], "line 5: the trailer says 4 records"),
        (lambda lines: [*lines, lines[1]], "line 6: the trailer is followed by more lines"),
        (lambda lines: [lines[0], lines[2], lines[1], *lines[3:]], "line 3: .* is not greater"),
        (lambda lines: [lines[0], lines[1], *lines[1:]], "line 3: .* is not greater"),
        (
            lambda lines: [lines[0].replace(b'"version":1', b'"version":2'), *lines[1:]],
            "line 1: expected version 1 of the format, got 2",
        ),
        (
            lambda lines: [line.replace(b"Yes.", b"Yep.") for line in lines],
            "key [0-9a-f]{64}: the answer hashes to",
        ),
        (
            lambda lines: [line.replace(b'"temperature":0', b'"temperature":1') for line in lines],
            "line 2: key [0-9a-f]{64}: the document hashes to",
        ),
        (
            lambda lines: [
                line.replace(b'"prompt_tokens":12', b'"prompt_tokens":13') for line in lines
            ],
            "line 6: the trailer says",
        ),
        (
            lambda lines: [lines[0].replace(b'"rules":1', b'"rules":2'), *lines[1:]],
            "line 1: the teacher 'demo': its definition hashes to",
        ),
        (
            lambda lines: [lines[0].replace(b'"teachers":[', b'"teachers":[],"x":['), *lines[1:]],
            "line 2: the header does not name the teacher",
        ),
        (
            lambda lines: [
                line.replace(b'"finish_reason":"stop"', b'"finish_reason":7') for line in lines
            ],
            "'finish_reason': expected str, got 7",
        ),
    ],
)
def test_a_spoilt_export_is_refused_and_nothing_imported(
    varied, tmp_path, make_store, spoil, message
):
    """Cut short, reordered, changed in any place: a clear error, and the store as before."""
    export_store(varied, tmp_path / "out.jsonl")
    lines = (tmp_path / "out.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "bad.jsonl").write_bytes(b"".join(spoil(lines)))
    target = make_store("target", ("z", "Z."))
    with pytest.raises(ExportError, match=message) as refused:
        import_store(target, tmp_path / "bad.jsonl")
    assert "nothing was imported" in str(refused.value)
    assert _counts(target) == (1, 0, 0)


def test_every_cut_of_an_export_is_noticed(varied, tmp_path):
    """Whatever byte it ends at, an export that is not whole is not imported."""
    export_store(varied, tmp_path / "out.jsonl")
    content = (tmp_path / "out.jsonl").read_bytes()
    for size in range(0, len(content), 97):
        (tmp_path / "cut.jsonl").write_bytes(content[:size])
        with pytest.raises(ExportError):
            import_store(tmp_path / "target.sqlite", tmp_path / "cut.jsonl")
    assert _counts(tmp_path / "target.sqlite") == (0, 0, 0)


def test_one_planted_conflict_is_reported_once(make_store, served, make_entry, tmp_path):
    """By merge and by import alike, with the key and both digests."""
    here = make_store("here", ("a", "A."), ("b", "B."), ("c", "C."))
    there = make_store("there", ("b", "B."), ("c", "Other."), ("d", "D."))
    export_store(there, tmp_path / "there.jsonl")
    expected = MergeReport(
        added=1,
        same=1,
        conflicts=1,
        named=[
            Conflict(
                make_entry("c").fingerprint.key,
                content_digest(Completion("C.", "stop")),
                content_digest(Completion("Other.", "stop")),
            )
        ],
    )
    copy = tmp_path / "copy.sqlite"
    merge_stores(copy, [here])
    assert merge_stores(here, [there]) == expected
    assert import_store(copy, tmp_path / "there.jsonl") == expected
    for path in (here, copy):
        assert served(path, "c") == "C."
        assert served(path, "d") == "D."
        assert _counts(path) == (4, 1, 0)


def test_what_becomes_of_a_conflict_is_chosen(make_store, served):
    """`keep` drops the other answer, `fail` adds nothing at all and says so."""
    there = make_store("there", ("a", "Other."), ("b", "B."))
    kept = make_store("kept", ("a", "A."))
    assert merge_stores(kept, [there], OnConflict.KEEP).conflicts == 1
    assert _counts(kept) == (2, 0, 0)
    failed = make_store("failed", ("a", "A."))
    with pytest.raises(ConflictError, match="1 keys are answered differently, the first is"):
        merge_stores(failed, [there], OnConflict.FAIL)
    assert _counts(failed) == (1, 0, 0)
    agreeing = make_store("agreeing", ("b", "B."), ("c", "C."))
    assert merge_stores(agreeing, [kept], OnConflict.FAIL).added == 1
    assert served(agreeing, "a") == "A."


def test_merging_twice_adds_nothing(make_store):
    """The second time all is known; the alternate that was recorded stays one."""
    here, there = make_store("here", ("a", "A.")), make_store("there", ("a", "Other."))
    merge_stores(here, [there])
    assert merge_stores(here, [there]).conflicts == 1
    assert _counts(here) == (1, 1, 0)


def test_the_order_of_sources_does_not_matter(make_store, tmp_path, served):
    """Any order of three sources gives the same store; of their answers the oldest is served."""
    sources = [
        make_store("one", ("a", "First."), ("b", REFUSED), ("c", REFUSED)),
        make_store("two", ("a", "Second."), ("b", "B."), ("c", Refusal("content_filter", "2"))),
        make_store("three", ("a", "First."), ("b", REFUSED), ("d", "D.")),
    ]
    digests = set()
    for number, order in enumerate(permutations(sources)):
        target = tmp_path / f"target{number}.sqlite"
        report = merge_stores(target, order)
        assert (report.added, report.same, report.conflicts) == (4, 0, 2)
        assert report.refusals_superseded == 1
        digests.add(export_store(target, tmp_path / f"{number}.jsonl").sha256)
    assert len(digests) == 1
    assert served(target, "a") == "First."
    assert served(target, "b") == "B."


def test_what_the_target_serves_stays(make_store, served):
    """Also against an older answer of a source, which is kept beside it."""
    older = make_store("older", ("a", "Older."))
    target = make_store("target", ("a", "Mine."))
    merge_stores(target, [older])
    assert served(target, "a") == "Mine."
    assert _counts(target) == (1, 1, 0)


@pytest.mark.parametrize("policy", list(OnConflict))
def test_a_completion_supersedes_a_refusal(make_store, served, policy):
    """On whichever side it comes; that is no conflict."""
    refused = make_store("refused", ("a", REFUSED))
    answered = make_store("answered", ("a", "A."))
    for target, source in ((refused, answered), (answered, refused)):
        copy = make_store(f"{target.stem}-copy")
        merge_stores(copy, [target])
        report = merge_stores(copy, [source], policy)
        assert report == MergeReport(refusals_superseded=1)
        assert served(copy, "a") == "A."


def test_a_damaged_source_is_not_merged(make_store):
    """The error names the source and the key; the target is as before."""
    there, here = make_store("there", ("a", "A."), ("b", "B.")), make_store("here")
    with closing(sqlite3.connect(there)) as shell, shell:
        shell.execute("UPDATE completions SET text = 'X.' WHERE text = 'B.'")
    with pytest.raises(StoreDamaged, match=r"there\.sqlite: key [0-9a-f]{64}: the answer hashes"):
        merge_stores(here, [there])
    assert _counts(here) == (0, 0, 0)


def test_a_store_that_a_process_writes_is_no_target(make_store):
    """The refusal names the holder; the same store can be a source meanwhile."""
    busy, other = make_store("busy", ("a", "A.")), make_store("other")
    with CompletionStore.open(busy):
        with pytest.raises(StoreLocked, match=r"open for writing in process \d+"):
            merge_stores(busy, [other])
        assert merge_stores(other, [busy]).added == 1


def test_a_store_is_not_merged_into_itself(make_store):
    """Whatever path names it."""
    path = make_store("store", ("a", "A."))
    with pytest.raises(StoreError, match="is the target itself"):
        merge_stores(path, [path.parent / "." / path.name])


def test_records_of_two_teachers_stay_apart(make_store, tmp_path, make_entry):
    """The same request to another teacher has another key, and brings its teacher along."""
    other = TeacherIdentity.from_definition("gpt", "openai", {"model": "gpt"})
    entry = make_entry("a")
    request = json.loads(entry.fingerprint.document)["request"]
    there = tmp_path / "there.sqlite"
    with CompletionStore.open(there) as store:
        store.register_teacher(other)
        asked = fingerprint(other.digest, request)
        store.commit([replace(entry, fingerprint=asked, teacher_digest=other.digest)]).result()
    here = make_store("here", ("a", "A."))
    assert merge_stores(here, [there]) == MergeReport(added=1, teachers_added=1)
    with CompletionStore.open(here, read_only=True) as store:
        assert {known.name for known in store.teachers()} == {"demo", "gpt"}
