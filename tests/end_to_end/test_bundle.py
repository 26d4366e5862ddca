"""A run handed on: packed, unpacked in a foreign folder, and done again by the printed command."""

import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from cache import ExportError
from cache.export_lines import encode_trailer
from cache.forgetting import forget_keys
from cache.importing import import_store
from cache.run_locks import needed_keys
from taco.bundle_format import BundleError, decode_manifest
from taco.bundling import bundle_run
from taco.own_service import own_service
from taco.unbundling import relocated, unbundle
from tests.bundles import members_of, seal, write_archive
from tests.tiny_runs import make_tiny_compressor, write_meetings
from trainer.config import Config
from trainer.errors import ReplayError
from trainer.learning.launch import train_new
from trainer.learning.lockfile import check_lock
from trainer.learning.merkle import MerkleTree

NO_NETWORK = """
import socket

connect = socket.socket.connect


def connect_here_only(self, address):
    if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1"):
        raise AssertionError(f"the network was used: {address}")
    return connect(self, address)


lookup = socket.getaddrinfo


def look_up_here_only(host, *args, **options):
    if host not in ("127.0.0.1", "localhost", "::1"):
        raise AssertionError(f"the network was used: {host}")
    return lookup(host, *args, **options)


socket.socket.connect = connect_here_only
socket.getaddrinfo = look_up_here_only
"""


def _silent(_done, _total):
    pass


@pytest.fixture(scope="module")
def bundle(recorded, tmp_path_factory):
    """The recorded run as an archive."""
    result, store = recorded
    archive = tmp_path_factory.mktemp("bundle") / "trial.tar.gz"
    bundle_run(Path(result.folder), archive, store, _silent)
    return archive


@pytest.fixture(scope="module")
def unpacked(bundle, tmp_path_factory):
    """The archive laid out in a folder whose path needs care."""
    folder = tmp_path_factory.mktemp("elsewhere") / "a colleague's #1"
    return unbundle(bundle, folder, _silent)


@pytest.fixture(scope="module")
def run_command(tmp_path_factory):
    """Run a printed command in a shell, in a process of its own that has no network."""
    home = tmp_path_factory.mktemp("home")
    (home / "sitecustomize.py").write_text(NO_NETWORK)
    environment = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(home),
        "PYTHONPATH": str(home),
        "TACO_TEACHER_URL": "http://127.0.0.1:9",  # Nobody is there, and nobody is to be asked.
    }

    def run(command):
        return subprocess.run(
            ["sh", "-c", command],
            cwd=home,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


def test_the_printed_command_does_the_run_again(recorded, unpacked, run_command):
    """No teacher, no network, nothing of the first machine: the same lock, the same weights."""
    done = run_command(unpacked.command)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "weights: bit for bit the recorded ones" in done.stdout
    again = json.loads((unpacked.folder / "runs/trial-replay/result.json").read_text())
    assert again["lock_root"] == recorded[0].lock_root
    assert again["weights_digest"] == recorded[0].weights_digest
    assert again["backend_calls"] == 0


def test_the_printed_command_trains_on_the_recorded_masks(recorded, unpacked, run_command):
    """As it does by itself on a machine that would draw others."""
    done = run_command(f"{unpacked.command} --locked-masks")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "training on the recorded masks, as asked (--locked-masks)" in done.stdout
    assert f"root {recorded[0].lock_root}" in done.stdout
    assert "weights: bit for bit the recorded ones" in done.stdout


def test_what_is_written_names_no_place_of_the_first_machine(unpacked, bundle, meetings, base):
    """Every path is below the new folder; everything else in the config is the recorded one."""
    text = (unpacked.folder / "config.yaml").read_text()
    assert str(meetings.parents[1]) not in text
    config = yaml.safe_load(text)
    recorded = check_lock(unpacked.folder / "runs/trial/run.lock").header["config"]
    changed = {
        f"{section}.{key}": value
        for section, values in config.items()
        for key, value in values.items()
        if value != recorded[section][key]
    }
    assert changed == {
        "data.train_file_path": "data/train.json",
        "data.val_file_path": "data/validation.json",
        "model.model_load_path": "base/bert-base-multilingual-cased",
    }
    assert unpacked.foreign_metric is None
    assert shlex.quote(str(unpacked.folder)) in unpacked.command


def test_every_byte_is_sealed_and_the_same_run_gives_the_same_archive(recorded, bundle, tmp_path):
    """The manifest names every other file, whenever and wherever the archive is made."""
    again = tmp_path / "again.tar.gz"
    bundle_run(Path(recorded[0].folder), again, recorded[1], _silent)
    assert again.read_bytes() == bundle.read_bytes()
    with tarfile.open(bundle) as archive:
        first, *others = archive.getnames()
        manifest = decode_manifest(archive.extractfile(first).read())
    assert others == sorted(manifest.files)
    assert {name.partition("/")[0] for name in others} == {
        "base", "completions.jsonl", "data", "runs",
    }  # fmt: skip
    assert manifest.lock_root == recorded[0].lock_root


def test_a_run_that_was_recorded_on_postgresql_is_packed_alike(
    recorded, bundle, unpacked, postgres_url, tmp_path
):
    """Byte for byte."""
    import_store(postgres_url, unpacked.folder / "completions.jsonl")
    archive = tmp_path / "trial.tar.gz"
    bundle_run(Path(recorded[0].folder), archive, postgres_url, _silent)
    assert archive.read_bytes() == bundle.read_bytes()


def test_the_commands_pack_check_and_unpack(taco, recorded, tmp_path):
    """By hand, from beginning to end; a store without the answers ends with status 1."""
    result, store = recorded
    archive, folder = tmp_path / "trial.tar.gz", tmp_path / "new"
    packed = taco("cache", "bundle", result.folder, "-o", archive, "--store", store)
    assert packed.code == 0, packed.err
    assert re.search(rf"bytes +│ {archive.stat().st_size:,} ", packed.out)
    opened = taco("cache", "unbundle", archive, folder)
    assert opened.code == 0, opened.err
    assert f"cd {folder} && taco train config.yaml --replay runs/trial/run.lock" in opened.out
    lock, copy = folder / "runs/trial/run.lock", folder / "completions.sqlite"
    checked = taco("cache", "verify-lock", lock, "--store", copy)
    assert checked.code == 0, checked.err
    assert re.search(r"missing +│ 0 ", checked.out)
    assert result.lock_root in checked.out
    forgotten = [key.hex() for key in sorted(set(needed_keys(lock)))[:2]]
    forget_keys(copy, forgotten)
    checked = taco("cache", "verify-lock", lock, "--store", copy)
    assert checked.code == 1
    assert "Missing (2 answers named)" in checked.out
    assert all(key in checked.out for key in forgotten)


def _edited_run(result, folder, lock=lambda text: text):
    """A copy of a run, with another text in its lock."""
    shutil.copytree(result.folder, folder)
    (folder / "run.lock").write_text(lock((folder / "run.lock").read_text()))
    return folder


def _with_config(text, **sections):
    """A lock with another config in its header, which is no leaf."""
    header, rest = text.split("\n", 1)
    document = json.loads(header)
    for name, changes in sections.items():
        document["config"][name].update(changes)
    return f"{json.dumps(document)}\n{rest}"


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda text: text.rsplit("\n", 2)[0] + "\n", "its run was stopped; resume the run first"),
        (lambda text: text.replace("scored", "failed", 1), "changed or damaged"),
    ],
)
def test_a_lock_that_cannot_be_replayed_is_not_packed(recorded, tmp_path, edit, said):
    """Unfinished, or changed."""
    run = _edited_run(recorded[0], tmp_path / "run", edit)
    with pytest.raises(ReplayError, match=said):
        bundle_run(run, tmp_path / "x.tar.gz", recorded[1], _silent)
    assert not list(tmp_path.glob("*.gz"))


def test_answers_that_are_not_in_the_store_are_named(recorded, tmp_path):
    """The store lost one; the first use of it is in the message, and what to do."""
    store = tmp_path / "store.sqlite"
    shutil.copy(recorded[1], store)
    lock = Path(recorded[0].lock)
    key = next(needed_keys(lock))
    forget_keys(store, [key.hex()])
    said = rf"of [\d,]+ answers of .*\(the first: train step 1, example .*, key {key.hex()}\); name"
    with pytest.raises(BundleError, match=said):
        bundle_run(lock.parent, tmp_path / "x.tar.gz", store, _silent)
    assert not list(tmp_path.glob("*.gz"))


@pytest.mark.parametrize(
    ("section", "key", "said"),
    [
        ("data", "train_file_path", "the data is not the recorded one"),
        ("data", "val_file_path", "the data is not the recorded one"),
        ("model", "model_load_path", "the model to start from is not the recorded one"),
    ],
)
def test_an_input_that_was_replaced_since_is_not_packed(recorded, tmp_path, section, key, said):
    """Whoever got the bundle could not replay it."""
    other = write_meetings(tmp_path / "other.json", 4, seed=77)
    if section == "model":
        other = make_tiny_compressor(tmp_path / "base", other, seed=5)
    run = _edited_run(
        recorded[0],
        tmp_path / "run",
        lambda text: _with_config(text, **{section: {key: str(other)}}),
    )
    with pytest.raises(ReplayError, match=said):
        bundle_run(run, tmp_path / "x.tar.gz", recorded[1], _silent)


def test_an_archive_that_exists_is_not_written_over(recorded, bundle):
    """Whatever it holds."""
    before = bundle.read_bytes()
    with pytest.raises(ExportError, match=r"trial\.tar\.gz exists: remove it, or name a new file"):
        bundle_run(Path(recorded[0].folder), bundle, recorded[1], _silent)
    assert bundle.read_bytes() == before


def test_a_run_whose_name_would_be_no_name_elsewhere_is_refused(recorded, tmp_path):
    """Before an archive is there that nobody can unpack."""
    run = _edited_run(recorded[0], tmp_path / "a:b")
    with pytest.raises(BundleError, match="calls the run 'a:b': expected a folder's plain name"):
        bundle_run(run, tmp_path / "x.tar.gz", recorded[1], _silent)
    assert not list(tmp_path.glob("*.gz"))


def _repacked(bundle, target, edit):
    """A bundle with consistent seals whose files were edited."""
    with tarfile.open(bundle) as archive:
        files = {each.name: archive.extractfile(each).read() for each in archive}
    manifest = decode_manifest(files.pop("manifest.json"))
    edit(files)
    seals = {name: seal(content) for name, content in files.items()}
    return write_archive(target, replace(manifest, files=seals).encode(), members_of(files))


def _of_another_root(files):
    files["runs/trial/run.lock"] = _without_last_leaf(files["runs/trial/run.lock"])


def _without_last_leaf(lock):
    header, *leaves, _trailer = lock.splitlines()
    tree = MerkleTree()
    for leaf in leaves[:-1]:
        tree.append(leaf)
    trailer = json.dumps({"leaves": tree.size, "root": tree.root().hex()}).encode()
    return b"\n".join([header, *leaves[:-1], trailer, b""])


def _without_an_answer(files):
    header, _first, *records, _trailer = files["completions.jsonl"].splitlines(keepends=True)
    kept = b"".join([header, *records])
    sha256 = hashlib.sha256(kept).hexdigest()
    files["completions.jsonl"] = kept + encode_trailer(len(records), sha256)


def _with_another_answer(files):
    files["completions.jsonl"] = files["completions.jsonl"].replace(b'"text":"', b'"text":"Not ', 1)


def _of_another_version(files):
    lock = files["runs/trial/run.lock"].decode()
    files["runs/trial/run.lock"] = _with_config(lock, policy={"new_key": 1}).encode()


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (_of_another_root, "its lock has the root [0-9a-f]{64}, not [0-9a-f]{64}"),
        (_without_an_answer, r"it lacks \d+ of \d+ answers of its lock"),
        (_with_another_answer, r"completions\.jsonl, line \d+: .*nothing was imported"),
        (_of_another_version, "policy.new_key: no such key"),
    ],
)
def test_a_bundle_whose_parts_do_not_belong_together_is_refused(bundle, tmp_path, edit, said):
    """Though every seal is right: lock, answers and config are held against each other."""
    archive = _repacked(bundle, tmp_path / "x.tar.gz", edit)
    with pytest.raises(BundleError, match=said):
        unbundle(archive, tmp_path / "new", _silent)
    assert list(tmp_path.iterdir()) == [archive]


def test_repacking_alone_changes_nothing(bundle, tmp_path):
    """So that what is refused above is refused for what was edited."""
    archive = _repacked(bundle, tmp_path / "x.tar.gz", lambda files: None)
    assert unbundle(archive, tmp_path / "new", _silent).folder.is_dir()


def test_what_auto_came_to_is_written_down(unpacked, bundle):
    """The next machine may have cl100k_base, or have it not."""
    with tarfile.open(bundle) as archive:
        manifest = decode_manifest(archive.extractfile("manifest.json").read())
    summary = check_lock(unpacked.folder / "runs/trial/run.lock")
    config = {**summary.header["config"]}
    config["policy"] = {**config["policy"], "length_tokenizer": "auto"}
    auto = replace(summary, header={**summary.header, "config": config})
    assert relocated(auto, manifest)["policy"]["length_tokenizer"] == "policy"


def test_a_run_with_files_and_code_of_its_own(
    taco, document, base, tmp_path, run_command, monkeypatch
):
    """A length tokenizer travels; a metric of one's own cannot, and is said to be foreign."""
    (tmp_path / "own_metric.py").write_text("def score(completion, reference):\n    return 0.5\n")
    monkeypatch.syspath_prepend(tmp_path)
    shutil.copy(base / "tokenizer.json", tmp_path / "lengths.json")
    sections = document(
        hyperparams={"epochs": 1},
        policy={"length_tokenizer": str(tmp_path / "lengths.json")},
        reward={"metric": "own_metric:score"},
        model={"trained_model_output_dir_hf": str(tmp_path / "trained")},
    )
    store = tmp_path / "store.sqlite"
    with own_service(store=store) as url:
        result = train_new(
            Config.model_validate(sections),
            "own",
            teacher_url=url,
            runs=tmp_path / "runs",
            report=lambda _: None,
        )
    archive = tmp_path / "own.tar.gz"
    bundle_run(Path(result.folder), archive, store, _silent)
    for path in (tmp_path / "lengths.json", store):
        path.unlink()
    said = taco("cache", "unbundle", archive, tmp_path / "new").out
    assert "The reward is own_metric:score: code that is not in the bundle" in said
    done = run_command(f"export PYTHONPATH=$PYTHONPATH:{tmp_path}; {said.splitlines()[-1]}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "weights: bit for bit the recorded ones" in done.stdout
    assert (tmp_path / "new/runs/own-replay/model").is_dir()
