"""`taco train CONFIG --dry-run`: what a run may ask of its teacher and cost, before it asks."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from trainer.config import Config
from trainer.config_file import load_config
from trainer.learning.forecast import Forecast, forecast
from trainer.rollouts.connection import connect, find_teacher

_console = Console(highlight=False, soft_wrap=True)


@dataclass(frozen=True, slots=True)
class Prices:
    """What a teacher takes for a million tokens."""

    input_per_million: float
    output_per_million: float
    currency: str = "USD"

    def of(self, asked: Forecast) -> float:
        """The price of everything that may be asked."""
        paid_in = asked.total.prompt_tokens * self.input_per_million
        return (paid_in + asked.completion_tokens * self.output_per_million) / 1e6


def show_forecast(
    path: Path, overrides: Sequence[str], teacher: Path | None, prices: Prices | None
) -> None:
    """Print it.

    Args:
        path: of the config.
        overrides: of its values.
        teacher: settings of the service that the run would start; None: what runs already.
        prices: as given; None: the service's.

    Raises:
        TrainerError, StartError: config, data, base or settings cannot be used.
    """
    import torch

    from trainer.learning.inputs import load_compressor
    from trainer.learning.setup import load_data

    config = load_config(path, overrides)
    train, validation = load_data(config, require_references=False)
    tokenizer = load_compressor(config, torch.device("cpu")).length_tokenizer
    asked = forecast(config, train, validation, tokenizer)
    prices = prices or (_from_settings(teacher) if teacher else _from_service(config))
    for title, line in _lines(config, asked, len(train), len(validation), prices):
        _console.print(f"{title:<18} {line}")
    _console.print(
        "These are upper bounds: a text of the wrong length is never asked about, equal texts "
        "share one\nanswer, what the store or a reused run holds is free, and an answer may be "
        "shorter. None of it is\nknown before the masks are drawn. A call that the service has to "
        "repeat comes on top."
    )


def _lines(
    config: Config, asked: Forecast, train: int, validation: int, prices: Prices | None
) -> Iterator[tuple[str, str]]:
    hyperparams, total = config.hyperparams, asked.total
    yield "examples", f"{train:,} to train on, {validation:,} to validate on"
    missing = asked.references.calls
    filled = f"{asked.references_filled:,} of {asked.references_filled + missing:,} are filled"
    by = "" if missing == 0 else f"; `taco prepare` asks for the others: {missing:,} calls"
    yield "references", filled + by
    yield (
        "steps",
        f"{asked.steps:,} (epochs: {hyperparams.epochs}, examples a step: "
        f"{hyperparams.train_batch_size}, rollouts an example: {config.policy.samples})",
    )
    yield "training", f"at most {asked.training.calls:,} calls"
    times = f"{asked.validations:,} {'time' if asked.validations == 1 else 'times'}"
    yield "validation", f"{times}, at most {asked.validation.calls:,} calls"
    if asked.judging.calls:
        yield "judging", f"every answer once, at most {asked.judging.calls:,} calls"
    yield (
        "prompt tokens",
        f"at most {total.prompt_tokens:,}, counted with {asked.tokenizer} (the teacher's own "
        "tokenizer may count otherwise)",
    )
    yield (
        "completion tokens",
        f"at most {asked.completion_tokens:,} (task.max_tokens: {asked.max_tokens:,} a call"
        + (f", judge.max_tokens: {asked.judge_tokens:,})" if asked.judging.calls else ")"),
    )
    if prices is None:
        yield (
            "highest price",
            "unknown: give --input-per-million and --output-per-million, or the service's prices",
        )
        return
    yield (
        "highest price",
        f"{prices.of(asked):,.2f} {prices.currency} at {prices.input_per_million:g} (prompt) and "
        f"{prices.output_per_million:g} (completion) for a million tokens",
    )


def _from_settings(path: Path) -> Prices | None:
    """The prices in a service's settings; None where there are none."""
    from teacher_service.settings import load_settings

    prices = load_settings(path).prices
    return _prices(prices.model_dump()) if prices.unit else None


def _from_service(config: Config) -> Prices | None:
    """The prices of the service that the run would find; None where there is none, or it has none.

    Only its figures are asked for, no completion.
    """
    url = find_teacher(config)
    if url is None:
        return None
    with connect(config, url) as teacher:
        found = (teacher.stats() or {}).get("prices")
    return _prices(found) if found else None


def _prices(found: dict[str, object]) -> Prices:
    paid_in, paid_out = (
        float(str(found[key] or 0)) for key in ("input_per_million", "output_per_million")
    )
    return Prices(paid_in, paid_out, str(found["currency"]))
