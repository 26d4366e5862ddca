"""Settings of the service: a YAML file, `TACO_SERVICE__…` variables over it, overrides on top.

Unknown keys are errors wherever they come from, environment included, and name the nearest right
one; all problems are reported together.
"""

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeAlias

import yaml
from pydantic import BeforeValidator, Field, HttpUrl, ValidationError, model_validator

from teacher_service.backend_settings import (
    AzureSettings,
    Section,
    TransformersSettings,
    VLLMSettings,
)
from teacher_service.cache_control import Mode
from teacher_service.errors import SettingsError

ENVIRONMENT_PREFIX = "TACO_SERVICE__"

Tree: TypeAlias = dict[str, Any]


def _off(value: object) -> object:
    """YAML reads a bare `off` as false."""
    return "off" if value is False else value


_MayBeOff = BeforeValidator(_off)


class BuiltinSettings(Section):
    """The rule-based teacher: no download, no key."""

    latency_ms: Annotated[float, Field(ge=0)] = 0
    """How long each completion pretends to take; those of one batch take it side by side."""


class OpenAISettings(Section):
    """Any server that speaks OpenAI's API."""

    base_url: HttpUrl = HttpUrl("https://api.openai.com/v1")
    """Where it is; no part of what defines the teacher."""
    provider: Annotated[str, Field(min_length=1)] = "openai"
    """Whose model it is: with `model`, what defines the teacher. The URL does not."""
    model: Annotated[str, Field(min_length=1)] = "gpt-4o-mini-2024-07-18"
    """The pinned name that is sent upstream; a reply naming another model is an error."""
    accepted_models: tuple[str, ...] = ()
    """Other names by which a reply may call the very same model (a path, a deployment)."""
    api_key_env: str | None = "OPENAI_API_KEY"
    """The variable that holds the key; null for a server that wants none."""
    organization: str | None = None
    """Who pays, where a key belongs to several (OpenAI-Organization); null: the key's own."""
    project: str | None = None
    """The same of projects (header OpenAI-Project)."""
    limit_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """How the model wants a completion's limit to be called; OpenAI's newer ones: the second."""
    max_concurrency: Annotated[int, Field(ge=1)] = 32
    """Requests upstream at one time."""
    attempt_timeout_s: Annotated[float, Field(gt=0)] = 120
    """For one request upstream."""
    total_timeout_s: Annotated[float, Field(gt=0)] = 600
    """For one completion with all its retries, pauses included."""


class PriceSettings(Section):
    """What the teacher costs, for the ledger; nothing set: tokens are counted, money is not."""

    input_per_million: Annotated[float, Field(ge=0)] | None = None
    """For a million prompt tokens."""
    output_per_million: Annotated[float, Field(ge=0)] | None = None
    """For a million completion tokens."""
    currency: Annotated[str, Field(min_length=1, max_length=16)] = "USD"
    """In which both are; the ledger keeps currencies apart."""

    @property
    def unit(self) -> str:
        """The currency; '' where there are no prices."""
        known = self.input_per_million is not None or self.output_per_million is not None
        return self.currency if known else ""

    def of(self, prompt_tokens: int, completion_tokens: int) -> float:
        """What one answer costs; a price that is not set is 0."""
        paid_in = prompt_tokens * (self.input_per_million or 0)
        paid_out = completion_tokens * (self.output_per_million or 0)
        return (paid_in + paid_out) / 1e6


class UpstreamSettings(Section):
    """How every backend that calls over a network treats what it calls."""

    requests_per_minute: Annotated[float, Field(gt=0)] | None = None
    """Held here, before the upstream says 429; retries count too."""
    tokens_per_minute: Annotated[float, Field(gt=0)] | None = None
    """Prompt and `max_tokens` when a call is made, what it really took once it is back."""
    max_reply_bytes: Annotated[int, Field(ge=1)] = 32 * 2**20
    """A reply that is larger, or never ends, is broken off and is an error."""
    retry_share: Annotated[float, Field(ge=0)] = 0.25
    """Retries for each call, in the long run; waiting out a rate limit does not count."""
    retry_reserve: Annotated[int, Field(ge=0)] = 100
    """Retries that may be made beyond that share, until calls have earned them back."""
    breaker_failures: Annotated[int, Field(ge=1)] = 10
    """Faults in a row after which the upstream is left alone."""
    breaker_rest_s: Annotated[float, Field(gt=0)] = 5
    """For how long at first; it doubles, up to five minutes, until a probe comes back."""


class BudgetSettings(Section):
    """What may be spent upstream since the service's start; null sets no limit."""

    calls: Annotated[int, Field(ge=0)] | None = None
    """Every attempt is one."""
    usd: Annotated[float, Field(ge=0)] | None = None
    """Needs `prices`. What is under way when it is used up is still finished, stored and paid."""


_LOCAL_BACKENDS = {"builtin", "transformers"}
"""They call nobody, so that there is nothing to limit."""


class Settings(Section):
    """Everything that `serve` needs to know."""

    backend: Literal["builtin", "transformers", "vllm", "openai", "azure"] = "builtin"
    """The one line that swaps the teacher."""
    mode: Annotated[Mode, _MayBeOff] = "record"
    """`replay` serves the store alone: no backend is built, a miss is an error. `refresh` asks for
    everything anew and keeps answers that differ beside the first. `off` neither reads nor keeps.
    """
    served_models: Annotated[tuple[str, ...], Field(min_length=1)] = ("gpt-35-turbo", "builtin")
    """Names by which clients may ask for this teacher."""
    teacher: str | None = None
    """In replay, which teacher of the store: its name, or the start of its digest."""
    store: Path | str | None = None
    """The store's file, or a PostgreSQL database's URL; null for the default place."""
    canary: Annotated[Literal["auto", "refuse", "warn", "new", "off"], _MayBeOff] = "auto"
    """What follows when the teacher answers fixed prompts otherwise than at its registration.
    `refuse`: nothing new is made; `warn`: the log says so; `new`: it is a teacher of its own.
    `auto`: refuse where answers are deterministic (builtin, transformers in float32 on the CPU,
    vllm with batch_invariant), else warn. `off`: it is never asked.
    """
    identity: Literal["plain", "strict"] = "plain"
    """`strict`: where answers come from (engine, version, device, a hosted model's
    system_fingerprint) defines the teacher too, and answers from elsewhere are refused.
    """
    lease_s: Annotated[float, Field(gt=0)] = 15
    """On PostgreSQL: after how long a service that stands still loses its turn to another."""
    host: str = "127.0.0.1"
    """The address to listen on; 0.0.0.0 for all of this machine's."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    """0 takes a free one."""
    keys_file: Path | None = None
    """The keys that `taco serve keys add` makes; null for the default place. Once the file is
    there, nobody gets in without one.
    """
    allowed_hosts: tuple[str, ...] | None = None
    """Names by which clients may address the service; null: on loopback only its own, else any."""
    max_body_bytes: Annotated[int, Field(ge=1)] = 64 * 2**20
    """A larger request is refused (413)."""
    max_in_flight: Annotated[int, Field(ge=1)] = 20_000
    """Completions being made at one time; beyond it clients are told to wait."""
    log_format: Literal["text", "json"] = "text"
    """Lines for people, or one JSON object a line; both name the request that they belong to."""
    traces: bool = False
    """Send traces by OpenTelemetry (`taco-rewards[otel]`), to where its own variables say."""
    stop_grace_s: Annotated[float, Field(ge=0)] = 20
    """At a stop, how long completions under way may take to arrive and be stored."""
    prices: PriceSettings = PriceSettings()
    budget: BudgetSettings = BudgetSettings()
    upstream: UpstreamSettings = UpstreamSettings()
    builtin: BuiltinSettings = BuiltinSettings()
    transformers: TransformersSettings = TransformersSettings()
    vllm: VLLMSettings = VLLMSettings()
    openai: OpenAISettings = OpenAISettings()
    azure: AzureSettings = AzureSettings()

    @model_validator(mode="after")
    def _strict_asks(self) -> Self:
        if self.identity == "strict" and self.canary == "off":
            raise ValueError(
                "identity: strict learns from the canary where answers come from: "
                "set canary to auto, refuse, warn or new"
            )
        return self

    @model_validator(mode="after")
    def _budget_can_be_held(self) -> Self:
        if self.budget != BudgetSettings() and self.backend in _LOCAL_BACKENDS:
            raise ValueError(f"budget: backend {self.backend} calls nobody; remove the section")
        if self.budget.usd is not None and self.prices.unit != "USD":
            raise ValueError(
                "budget.usd needs prices in USD: set prices.input_per_million and "
                "prices.output_per_million"
            )
        return self


def load_settings(path: Path | None = None, overrides: Mapping[str, Any] | None = None) -> Settings:
    """Read and check the settings.

    Args:
        path: The YAML file; None for the defaults.
        overrides: A tree like the file's; wins over file and environment.

    Raises:
        SettingsError: With every problem that was found.
    """
    tree = _from_file(path) if path else {}
    for layer in (_from_environment(os.environ), overrides or {}):
        tree = _merged(tree, layer)
    try:
        return Settings.model_validate(tree)
    except ValidationError as error:
        problems = [_problem(fault) for fault in error.errors(include_url=False)]
        raise SettingsError(str(path or "service settings"), problems) from None


def _from_file(path: Path) -> Tree:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(str(path), [f"cannot be read: {error}"]) from error
    tree = _yaml(str(path), text)
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise SettingsError(str(path), [f"expected a mapping, found a {type(tree).__name__}"])
    return tree


def _from_environment(environ: Mapping[str, str]) -> Tree:
    """`TACO_SERVICE__OPENAI__MODEL=x` as `{"openai": {"model": "x"}}`; values are YAML."""
    tree: Tree = {}
    for name, value in environ.items():
        if name.startswith(ENVIRONMENT_PREFIX):
            branch = _yaml(name, value)
            for key in reversed(name.removeprefix(ENVIRONMENT_PREFIX).lower().split("__")):
                branch = {key: branch}
            tree = _merged(tree, branch)
    return tree


def _yaml(source: str, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SettingsError(source, [f"is not YAML: {error}"]) from error


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> Tree:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            value = _merged(old, value)
        merged[key] = value
    return merged


def _problem(fault: Mapping[str, Any]) -> str:
    """One fault of pydantic's as one sentence, with the nearest right key for an unknown one."""
    where = ".".join(str(part) for part in fault["loc"])
    if not where:
        return str(fault["ctx"]["error"])
    if fault["type"] != "extra_forbidden":
        return f"{where}: {fault['msg']}, found {fault['input']!r}"
    *sections, key = fault["loc"]
    model: Any = Settings
    for section in sections:
        model = model.model_fields[section].annotation
    near = difflib.get_close_matches(str(key), model.model_fields, n=1, cutoff=0)
    return f"{where}: unknown key; did you mean {near[0]!r}?"
