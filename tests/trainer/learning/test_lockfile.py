"""The lock file: what a run did, rollout by rollout."""

import json
import os
from contextlib import closing

import pytest

from trainer.errors import ReplayError
from trainer.learning.lockfile import Lock, LockWriter, encode_leaf
from trainer.learning.merkle import MerkleTree
from trainer.types import Outcome, TeacherReply

HEADER = {"config": {"run": {"seed": 0}}, "base_digest": "b"}


@pytest.fixture
def recorded(make_rollout):
    """Five rollouts of two steps and a validation, with every kind of outcome."""
    refused = TeacherReply(Outcome.REFUSED, "", "f2", "d2")
    failed = TeacherReply(Outcome.FAILED)
    return [
        ("train", 1, make_rollout()),
        ("train", 1, make_rollout(sample_index=1, outcome=Outcome.REFUSED, replies=(refused,))),
        ("train", 2, make_rollout(example_id="ü", outcome=Outcome.FAILED, replies=(failed,))),
        ("train", 2, make_rollout(example_id="c", length_case="out_of_tolerance", replies=())),
        ("val", 2, make_rollout(keep_mask=(b"\xa0", b""))),
    ]


def _write(path, recorded, *, finish=True):
    with closing(LockWriter(path, HEADER)) as writer:
        for place in recorded:
            writer.append(*place)
        return writer.finish() if finish else writer.flush()


@pytest.fixture
def path(tmp_path, recorded):
    """A finished lock file."""
    _write(tmp_path / "run.lock", recorded)
    return tmp_path / "run.lock"


def test_what_was_written_is_found_again(path, recorded):
    """Header, root, and every rollout at its place with mask, length case and replies."""
    lock = Lock(path)
    assert lock.header == {"lock": 1, **HEADER}
    for phase, step, rollout in recorded:
        found = lock.rollout(phase, step, rollout.example_id, rollout.sample_index)
        assert found.mask == rollout.keep_mask
        assert found.length_case == rollout.length_case
        assert [(r.outcome, r.fingerprint, r.content_digest) for r in found.replies] == [
            (r.outcome, r.fingerprint, r.content_digest) for r in rollout.replies
        ]
        lock.check(phase, step, rollout)


def test_the_root_is_rfc_6962s_over_the_lines(path, recorded):
    """Anybody can compute it from the file: header and trailer are no leaves."""
    _header, *leaves, trailer = path.read_bytes().splitlines()
    tree = MerkleTree()
    for leaf, place in zip(leaves, recorded, strict=True):
        assert leaf == encode_leaf(*place)
        tree.append(leaf)
    assert json.loads(trailer) == {"leaves": 5, "root": tree.root().hex()}
    assert Lock(path).root == tree.root().hex()


def test_a_leaf_says_nothing_of_texts_and_rewards(make_rollout):
    """Digests stand for answers, and rewards follow from them; this is the published form."""
    assert encode_leaf("train", 3, make_rollout()) == (
        b'{"phase":"train","step":3,"example":"a","sample":0,"mask":["oA=="],"length":null,'
        b'"outcome":"scored","replies":[["scored","f1","d1"]]}'
    )


def test_how_an_answer_was_served_is_no_part_of_it(make_rollout):
    """The first run buys, the second finds; both did the same."""
    bought = make_rollout()
    [reply] = bought.replies
    found = make_rollout(replies=(TeacherReply(Outcome.SCORED, "", "f1", reply.content_digest),))
    assert encode_leaf("train", 1, bought) == encode_leaf("train", 1, found)


def test_any_changed_byte_of_a_leaf_is_detected(path):
    """One bit flipped, at each place in turn."""
    whole = path.read_bytes()
    header = whole.index(b"\n") + 1
    trailer = whole.rindex(b"\n", 0, -1) + 1
    assert trailer - header > 500
    for place in range(header, trailer):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(ReplayError, match=r"changed or damaged|no trailer"):
            Lock(path)


def test_a_missing_or_exchanged_leaf_is_detected(path):
    """The count and the order are hashed too."""
    header, *leaves, trailer = path.read_bytes().splitlines(keepends=True)
    for changed in (leaves[1:], leaves[::-1], [*leaves, leaves[0]]):
        path.write_bytes(b"".join([header, *changed, trailer]))
        with pytest.raises(ReplayError, match="do not hash to the recorded root"):
            Lock(path)


def test_an_unfinished_lock_says_to_resume_first(tmp_path, recorded):
    """Whether it has leaves or only its header."""
    for number, written in enumerate((recorded, [])):
        _write(tmp_path / f"{number}.lock", written, finish=False)
        with pytest.raises(ReplayError, match=r"no trailer.*resume the run first"):
            Lock(tmp_path / f"{number}.lock")


@pytest.mark.parametrize("content", [None, b"", b"\x00\xff\n", b"[1]\n", b'{"lock": 1}\n', b"{}\n"])
def test_what_is_no_lock_is_refused(tmp_path, content):
    """By name."""
    path = tmp_path / "run.lock"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ReplayError, match=r"run\.lock: "):
        Lock(path)


def test_another_format_names_what_to_use(path):
    """Numbers only grow when the leaves mean something else."""
    path.write_bytes(path.read_bytes().replace(b'{"lock": 1', b'{"lock": 9', 1))
    with pytest.raises(ReplayError, match="expected lock format 1, got 9"):
        Lock(path)


def test_a_lock_cut_back_and_gone_on_with_is_the_same(tmp_path, path, recorded):
    """Byte for byte what the run writes that is never stopped."""
    stopped = tmp_path / "stopped.lock"
    _write(stopped, recorded[:2], finish=False)
    size = stopped.stat().st_size
    _write(stopped, recorded[2:4], finish=False)
    os.truncate(stopped, size)
    root = _write(stopped, recorded[2:])
    assert stopped.read_bytes() == path.read_bytes()
    assert Lock(path).root == root


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"keep_mask": (b"\x80",)}, "the keep mask differs"),
        ({"length_case": "over_compressed"}, "recorded None, got over_compressed"),
        (
            {"replies": (TeacherReply(Outcome.SCORED, "", "f1", "d9"),)},
            "the completions differ: question 1: expected the answer d1 to f1, got the answer d9",
        ),
        (
            {"replies": (TeacherReply(Outcome.SCORED, "", "f9", "d1"),)},
            "expected the answer d1 to f1, got another request, f9",
        ),
        (
            {"replies": (TeacherReply(Outcome.FAILED, error="cache_miss: none"),)},
            r"expected the answer d1 to f1, got no answer \(cache_miss: none\)",
        ),
        ({"replies": ()}, "expected 1 replies, got 0"),
        (
            {"judgements": (TeacherReply(Outcome.SCORED, "4", "f2", "d2"),)},
            "the judge's scores differ: expected 0 replies, got 1",
        ),
        ({"outcome": Outcome.UNJUDGED}, "the same answers come to unjudged now"),
    ],
)
def test_the_first_divergence_is_named_by_its_place(path, make_rollout, changes, said):
    """Step, example and sample; then what differs and what to do."""
    expected = rf"first divergence at train step 1, example 'a', sample 0: .*{said}"
    with pytest.raises(ReplayError, match=expected):
        Lock(path).check("train", 1, make_rollout(**changes))


@pytest.mark.parametrize(
    "place", [("train", 3, "a", 0), ("train", 1, "b", 0), ("train", 1, "a", 2), ("val", 1, "a", 0)]
)
def test_a_place_that_was_not_recorded_is_refused(path, place):
    """The replay does something that the run never did."""
    with pytest.raises(ReplayError, match="the recorded run has no rollout at"):
        Lock(path).rollout(*place)
