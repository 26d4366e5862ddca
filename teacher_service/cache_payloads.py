"""What clients get from the routes to the store."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from cache import CanaryProbe, StoredEntry, StoreStats, TeacherIdentity
from teacher_service.cache_control import Mode
from teacher_service.misses import explanation_object
from teacher_service.outcomes import Counters
from teacher_service.payloads import Json
from teacher_service.settings import PriceSettings

if TYPE_CHECKING:
    from cache.explaining import Explanation
    from cache.ledger import KeyUse, LedgerLine, RunDetails, RunSummary
    from cache.merging import MergeReport
    from cache.records import Record
    from cache.uses import Amount


def stats(
    mode: Mode,
    teacher: TeacherIdentity,
    prices: PriceSettings,
    counters: Counters,
    held: StoreStats,
) -> Json:
    """The service in figures; prices are null where the settings have none."""
    return {
        "mode": mode,
        "teacher": {"name": teacher.name, "digest": teacher.digest, "backend": teacher.backend},
        "prices": prices.model_dump() if prices.unit else None,
        "since_start": asdict(counters),
        "store": asdict(held),
    }


def looked_up(
    index: int, key: bytes, stored: StoredEntry | None, explanation: "Explanation | None"
) -> Json:
    """One item of a look-up."""
    item: Json = {"index": index, "key": key.hex(), "stored": stored is not None}
    if stored:
        digest = stored.content_digest.hex()
        return item | {"content_digest": digest, "created_at": stored.created_at}
    return item | {"explanation": explanation_object(explanation) if explanation else None}


def entry(record: "Record", uses: "Sequence[KeyUse]") -> Json:
    """Everything about one key; the record is as in an export."""
    from cache.export_lines import encode_record

    exported: Json = json.loads(encode_record(record))
    return {
        "object": "cache.entry",
        **exported,
        "served": record.served.content_digest.hex(),
        "uses": [asdict(use) for use in uses],
    }


def imported(report: "MergeReport") -> Json:
    """What came of an import."""
    named = [
        {"key": one.key.hex(), "served": one.served.hex(), "other": one.other.hex()}
        for one in report.named
    ]
    return {"object": "cache.import", **asdict(report), "named": named}


def teachers(known: Sequence[tuple[TeacherIdentity, Sequence[CanaryProbe]]], served: str) -> Json:
    """Teachers, which of them is served here, and whether one has changed."""
    data = [
        {**asdict(one), "served": one.digest == served, "canary": canary(probes)}
        for one, probes in known
    ]
    return {"object": "list", "data": data}


def canary(probes: Sequence[CanaryProbe]) -> Json | None:
    """Of how many fixed prompts the answer counts, and which of them is another now."""
    if not probes:
        return None
    return {
        "recorded_at": probes[0].recorded_at,
        "checked_at": max((one.checked_at for one in probes if one.checked_at), default=None),
        "prompts": len(probes),
        "counting": sum(one.counts for one in probes),
        "changed": [
            {"prompt": one.prompt, "recorded": one.text, "seen": one.seen}
            for one in probes
            if one.changed
        ],
    }


def run(summary: "RunSummary") -> Json:
    """One run in a list."""
    return {
        "id": summary.name,
        "object": "run",
        "started_at": summary.started_at,
        "last_used_at": summary.last_used_at,
        "answers": {how: summary.answers.get(how, 0) for how in ("hit", "miss", "collapsed")},
    }


def run_details(details: "RunDetails", lines: "Sequence[LedgerLine]") -> Json:
    """One run with what it used and cost."""
    return {
        **run(details.summary),
        "keys": details.keys,
        "first_step": details.first_step,
        "last_step": details.last_step,
        "ledger": [ledger_line(line) for line in lines],
    }


def ledger_line(line: "LedgerLine") -> Json:
    """What one teacher cost and the store saved; money is null where there were no prices."""
    priced = bool(line.currency)
    return {
        "teacher": line.teacher_digest,
        "name": line.teacher,
        "currency": line.currency or None,
        "spent": _amount(line.spent, priced=priced),
        "saved_by_hits": _amount(line.saved_by_hits, priced=priced),
        "saved_by_collapsing": _amount(line.saved_by_collapsing, priced=priced),
    }


def _amount(amount: "Amount", *, priced: bool) -> Json:
    return {**asdict(amount), "money": amount.money if priced else None}
