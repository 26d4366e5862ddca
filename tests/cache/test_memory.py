"""Whatever the size of a store, the commands read it page by page."""

import json
import subprocess
import sys
import textwrap

ROWS = 50_000
ROW_BYTES = 3_000  # Of document and answer together: 150 MB for all rows.
# The page caches of two readers, 67 MB each: a backup reads the store while it verifies the copy.
# Measured: 125 MB, with 150,000 rows too.
ALLOWED_MB = 150

CODE = """
    import json, sys
    from pathlib import Path
    from cache import Completion, CompletionStore, NewEntry, TeacherIdentity, fingerprint
    from cache.backup import back_up_store
    from cache.exporting import export_store
    from cache.forgetting import forget_text
    from cache.importing import import_store
    from cache.merging import merge_stores
    from cache.pruning import prune_store
    from cache.selection import Selection
    from cache.verifying import verify_store

    folder, rows, row_bytes = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    teacher = TeacherIdentity.from_definition("demo", "builtin", {"rules": 1})

    def entry(number):
        text = f"{number} ".ljust(row_bytes // 2, "x")
        asked = fingerprint(teacher.digest, {"prompt": text})
        return NewEntry(asked, teacher.digest, f"c {number}", Completion(text, "stop"))

    def fill(path, count):
        with CompletionStore.open(path) as store:
            store.register_teacher(teacher)
            for start in range(0, count, 500):
                store.commit([entry(start + number) for number in range(500)]).result()

    def do_everything(path):
        counts = [export_store(path, path.with_suffix(".jsonl")).entries]
        counts.append(import_store(path.with_suffix(".imported"), path.with_suffix(".jsonl")).added)
        counts.append(merge_stores(path.with_suffix(".imported"), [path]).same)
        counts.append(verify_store(path).rows // 2)
        counts.append(back_up_store(path, path.with_suffix(".backup")).rows // 2)
        counts.append(forget_text(path, "c 1").removed)
        counts.append(prune_store(path, Selection(teacher="demo")).removed)
        return counts

    def peak_mb():
        # Of this process alone; ru_maxrss starts from the process that began it.
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) / 1000

    fill(folder / "large.sqlite", rows)
    fill(folder / "small.sqlite", 1000)
    do_everything(folder / "small.sqlite")
    before = peak_mb()
    counts = do_everything(folder / "large.sqlite")
    print(json.dumps({"grown_mb": peak_mb() - before, "counts": counts}))
"""


def test_memory_stays_flat(tmp_path):
    """Every command over 50,000 rows needs at most 150 MB more than over 1,000 rows."""
    command = [sys.executable, "-c", textwrap.dedent(CODE), tmp_path, str(ROWS), str(ROW_BYTES)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["counts"] == [ROWS] * 5 + [1, ROWS - 1]
    assert found["grown_mb"] < ALLOWED_MB, found
