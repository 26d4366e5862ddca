"""An entry as its page shows it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from cache import Completion, StoredEntry
from teacher_service.page.visible import SHORT, WHOLE, Shown, shown

if TYPE_CHECKING:
    from cache.records import Record

_Pairs = Sequence[tuple[str, Shown]]
_FEW, _MANY = 100, 10_000
"""Messages and fields that are shown at first, and on demand."""


@dataclass(frozen=True, slots=True)
class AnswerView:
    """One answer: a completion, or what the API declared in place of one."""

    digest: str
    text: Shown | None  # None: it has none (a tool call).
    ended: str  # The finish reason, or the refusal's.
    refused: bool
    created_at: float
    latency_s: float | None
    details: _Pairs  # Usage, other fields, provenance.


@dataclass(frozen=True, slots=True)
class EntryView:
    """One key with everything that is known about it."""

    key: str
    teacher: str  # Its digest.
    created_at: float
    messages: _Pairs  # By their roles; a plain prompt is one without.
    hidden: int  # Messages that are not among these.
    fields: _Pairs  # What else the request says.
    compressed_text: Shown | None
    document: Shown
    served: AnswerView
    others: Sequence[AnswerView]  # Alternates, then refusals that are not served.

    @property
    def is_cut(self) -> bool:
        """Something of it is not shown."""
        answers = [self.served, *self.others]
        texts = [self.document, self.compressed_text, *(answer.text for answer in answers)]
        pairs = [*self.messages, *self.fields, *(pair for one in answers for pair in one.details)]
        cut = any(text and text.cut for text in [*texts, *(text for _, text in pairs)])
        return cut or self.hidden > 0


def entry_view(record: "Record", *, whole: bool) -> EntryView:
    """A record, its long texts cut unless it is wanted `whole`."""
    limit, most = (WHOLE, _MANY) if whole else (SHORT, _FEW)
    messages, fields = _said(json.loads(record.document))
    text = record.compressed_text
    answers = [_answer(answer, limit, most) for answer in record.answers]
    return EntryView(
        record.key.hex(),
        record.teacher_digest,
        record.created_at,
        [(role, shown(text, limit)) for role, text in messages[:most]],
        max(0, len(messages) - most),
        _pairs(fields, limit, most),
        None if text is None else shown(text, limit),
        shown(record.document, limit),
        answers[0],
        answers[1:],
    )


def _answer(entry: StoredEntry, limit: int, most: int) -> AnswerView:
    answer = entry.answer
    if isinstance(answer, Completion):
        text, ended, refused = answer.text, answer.finish_reason, False
        details = {"usage": answer.usage, **(answer.extra or {})}
    else:
        text, ended, refused = answer.message, answer.reason, True
        details = {}
    return AnswerView(
        entry.content_digest.hex(),
        None if text is None else shown(text, limit),
        ended,
        refused,
        entry.created_at,
        None if answer.latency_ms is None else answer.latency_ms / 1000,
        _pairs({**details, **answer.provenance}, limit, most),
    )


def _said(document: Any) -> tuple[list[tuple[str, str]], dict[str, Any]]:
    """The messages by their roles, and what else a request says; whatever its document is."""
    match document:
        case {"request": {"messages": [{}, *_] as messages, **fields}}:
            said = [(_role(one), _content(one)) for one in messages]
        case {"request": {"prompt": prompt, **fields}}:
            said = [("prompt", prompt if isinstance(prompt, str) else json.dumps(prompt))]
        case _:
            return [], {"document": document}
    if document.get("sample_index"):
        fields["sample_index"] = document["sample_index"]
    return said, {str(name): value for name, value in fields.items()}


def _role(message: Any) -> str:
    return str(message.get("role", "?")) if isinstance(message, dict) else "?"


def _content(message: Any) -> str:
    """A message's text; one of several parts, or of none, as JSON."""
    if not isinstance(message, dict):
        return json.dumps(message, ensure_ascii=False)
    content = message.get("content")
    if isinstance(content, str) and message.keys() <= {"role", "content"}:
        return content
    return json.dumps(
        {name: value for name, value in message.items() if name != "role"},
        ensure_ascii=False,
        indent=1,
    )


def _pairs(fields: Mapping[str, Any], limit: int, most: int) -> _Pairs:
    from cache.explaining import flatten

    found = ((name, value) for name, value in flatten(dict(fields)) if value != "null")
    pairs = [(name, shown(value, limit)) for name, value in islice(found, most)]
    return [*pairs, ("…", shown("more than is shown here", limit))] if next(found, None) else pairs
