"""What must hold for what is stored: every hash can be computed again."""

import hashlib
import json

from cache.entries import StoredEntry, content_digest
from cache.records import Record


def record_problem(record: Record) -> str | None:
    """What is wrong with a record; None: nothing.

    Checks the document against the key and the teacher, and every answer against its digest.
    """
    if problem := document_problem(record.key, record.document, record.teacher_digest):
        return problem
    if not record.completion and not record.refusals:
        return "the request has no answer"
    return next(filter(None, map(answer_problem, record.answers)), None)


def document_problem(key: bytes, document: str, teacher_digest: str | None) -> str | None:
    """What is wrong with a request's document; None: it hashes to `key` and names the teacher."""
    found = _sha256(document)
    if found != key:
        return f"the document hashes to {_shown(found)}, not to the key"
    named = json.loads(document)["teacher"]
    if named == teacher_digest:
        return None
    return f"the document names the teacher {named}, it is filed under {teacher_digest}"


def answer_problem(entry: StoredEntry) -> str | None:
    """What is wrong with an answer; None: what a client sees hashes to the content digest."""
    try:
        found = content_digest(entry.answer)
    except ValueError as error:
        return f"the answer is damaged: {error}"
    if found == entry.content_digest:
        return None
    stated = _shown(entry.content_digest)
    return f"the answer hashes to {_shown(found)}, its content digest is {stated}"


def text_problem(text: str | None, sha256: bytes | None) -> str | None:
    """What is wrong with a compressed text; None: nothing, or there is no text."""
    found = None if text is None else _sha256(text)
    if text is not None and found is None:
        return "the compressed text is no UTF-8"
    if found == sha256:
        return None
    return f"the compressed text hashes to {_shown(found)}, its stored hash is {_shown(sha256)}"


def _sha256(text: str) -> bytes | None:
    """None: the text came from bytes that are no UTF-8."""
    try:
        return hashlib.sha256(text.encode()).digest()
    except UnicodeEncodeError:
        return None


def _shown(digest: bytes | None) -> str:
    return f"{digest.hex()[:12]}…" if digest else "nothing"
