"""A causal language model in this process, by transformers: prompts in, completions out.

Decoding is written out here, because rows of one batch differ in temperature, seed and length,
which `generate` cannot do. Shapes: R rows, T tokens, V tokens of the vocabulary.
"""

import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from cache import Completion
from teacher_service.backend_settings import TransformersSettings
from teacher_service.backends.generation import GenerationRequest, Sampling
from teacher_service.backends.model_files import ModelFiles
from teacher_service.backends.token_choice import choose_tokens
from teacher_service.errors import StartError, UpstreamRejected

_UNLIMITED = 10**9
"""Tokenizers that know no limit name an absurd one."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A request as tokens."""

    tokens: tuple[int, ...]
    max_new: int
    """Most tokens of its completion."""
    sampling: Sampling


@dataclass(slots=True)
class _Row:
    """A completion that grows."""

    place: int
    """Of its prompt in the batch."""
    prompt: Prompt
    tokens: list[int] = field(default_factory=list)
    finish_reason: str | None = None


class CausalLM:
    """A model and its tokenizer, on one device.

    Not for several threads at one time.

    Raises:
        StartError: The files cannot be loaded, or there is no such device.
    """

    def __init__(self, files: ModelFiles, settings: TransformersSettings) -> None:
        code = settings.trust_remote_code
        if files.adapter and find_spec("peft") is None:
            raise StartError("an adapter needs peft: pip install 'taco-rewards[transformers]'")
        try:
            self._device = _device(settings.device)
            self._tokenizer = AutoTokenizer.from_pretrained(files.folder, trust_remote_code=code)
            self._model = AutoModelForCausalLM.from_pretrained(
                files.folder, dtype=getattr(torch, files.dtype), trust_remote_code=code
            )
            if files.adapter:
                self._model.load_adapter(str(files.adapter))
            self._model = self._model.eval().to(self._device)
        except Exception as error:  # transformers raises errors of many kinds.
            raise StartError(f"{files.folder} cannot be loaded: {error}") from error
        self._template = files.chat_template
        if self._template is None and not self._tokenizer.chat_template:
            raise StartError(
                f"{files.folder} has no chat template: name one (chat_template: FILE), or "
                "chat_template: plain for a model that only continues text"
            )
        self._context = settings.max_context_tokens or _context(self._model, self._tokenizer)
        self._end_tokens = _end_tokens(self._model, self._tokenizer)
        self._last_logits_only = (
            {"logits_to_keep": 1}
            if "logits_to_keep" in inspect.signature(self._model.forward).parameters
            else {}
        )
        # Elsewhere rows of one batch can touch each other's last digits.
        self.deterministic = self._device.type == "cpu" and files.dtype == "float32"
        self.provenance: Mapping[str, Any] = {
            "engine": "transformers",
            "engine_version": transformers.__version__,
            "torch": torch.__version__,
            "device": _device_name(self._device),
            "dtype": files.dtype,
            "batch_invariant": False,
        }

    def encode(self, request: GenerationRequest) -> Prompt:
        """Put a request into the chat template, and count what room is left for the answer.

        Raises:
            UpstreamRejected: The template refuses the messages, or there is no room.
        """
        tokens = self._tokens(request)
        asked = request.sampling.max_tokens
        room = (self._context or _UNLIMITED) - len(tokens)
        if room < 1 or not tokens:
            rejected = UpstreamRejected(
                f"the prompt has {len(tokens)} tokens, and prompt and completion together have "
                f"room for {self._context}"
            )
            if tokens:
                rejected.type = rejected.code = "context_length_exceeded"
            raise rejected
        if asked is None and self._context is None:
            raise UpstreamRejected("this model's context has no limit: set max_tokens")
        return Prompt(tokens, min(room, asked or room), request.sampling)

    @torch.inference_mode()
    def complete(
        self, prompts: Sequence[Prompt], stopped: Callable[[], bool]
    ) -> list[Completion] | None:
        """One batch, padded on the left; None where it was stopped before its end."""
        started = time.monotonic()
        batch = [_Row(place, prompt) for place, prompt in enumerate(prompts)]
        self._decode(batch, stopped)
        if not all(row.finish_reason for row in batch):
            return None
        latency_ms = (time.monotonic() - started) * 1000
        return [self._completion(row, latency_ms) for row in batch]

    def _tokens(self, request: GenerationRequest) -> tuple[int, ...]:
        if request.messages is None:
            if isinstance(request.prompt, str):
                return tuple(self._tokenizer(request.prompt)["input_ids"])
            vocabulary = self._model.get_input_embeddings().num_embeddings
            tokens = tuple(request.prompt or ())
            if not all(0 <= token < vocabulary for token in tokens):
                raise UpstreamRejected(f"prompt: token ids run from 0 to {vocabulary - 1}")
            return tokens
        try:
            text = self._tokenizer.apply_chat_template(
                list(request.messages),
                chat_template=self._template,
                add_generation_prompt=True,
                tokenize=False,
                **request.template_fields,
            )
        except Exception as error:  # Whatever the template's own code raises.
            name = type(error).__name__
            raise UpstreamRejected(f"the chat template refuses the messages ({name})") from error
        # A template writes its own special tokens.
        return tuple(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def _decode(self, batch: Sequence[_Row], stopped: Callable[[], bool]) -> None:
        """Let every row grow to its end."""
        ids_RT, mask_RT = self._padded([row.prompt.tokens for row in batch])
        position_RT = (mask_RT.cumsum(-1) - 1).clamp(min=0)
        rows, cache = list(batch), None
        for step in range(max(row.prompt.max_new for row in batch)):
            out = self._model(
                input_ids=ids_RT,
                attention_mask=mask_RT,
                position_ids=position_RT,
                past_key_values=cache,
                use_cache=True,
                **self._last_logits_only,
            )
            cache = out.past_key_values
            chosen = choose_tokens(out.logits[:, -1], [row.prompt.sampling for row in rows], step)
            for row, token in zip(rows, chosen, strict=True):
                self._grow(row, token)
            going = [place for place, row in enumerate(rows) if not row.finish_reason]
            if not going or stopped():
                return
            ids_RT = torch.tensor(chosen, device=self._device)[:, None]
            mask_RT = torch.cat([mask_RT, torch.ones_like(mask_RT[:, :1])], dim=-1)
            position_RT = position_RT[:, -1:] + 1
            # Copying the cache costs about a step: worth it once half of the rows are done.
            if len(going) <= len(rows) // 2 and hasattr(cache, "batch_select_indices"):
                kept = torch.tensor(going, device=self._device)
                cache.batch_select_indices(kept)
                ids_RT, mask_RT, position_RT = ids_RT[kept], mask_RT[kept], position_RT[kept]
                rows = [rows[place] for place in going]

    def _padded(self, prompts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        width = max(len(tokens) for tokens in prompts)
        pad = self._tokenizer.pad_token_id or 0
        ids = [[pad] * (width - len(tokens)) + list(tokens) for tokens in prompts]
        mask = [[0] * (width - len(tokens)) + [1] * len(tokens) for tokens in prompts]
        return torch.tensor(ids, device=self._device), torch.tensor(mask, device=self._device)

    def _grow(self, row: _Row, token: int) -> None:
        if row.finish_reason:
            return
        row.tokens.append(token)
        if token in self._end_tokens or self._stops(row):
            row.finish_reason = "stop"
        elif len(row.tokens) == row.prompt.max_new:
            row.finish_reason = "length"

    def _stops(self, row: _Row) -> bool:
        """Whether the last tokens hold a stop text; only as many are read as it can span."""
        stop = row.prompt.sampling.stop
        if not stop:
            return False
        tail = self._text(row.tokens[-2 * max(map(len, stop)) - 8 :])
        return any(one in tail for one in stop)

    def _completion(self, row: _Row, latency_ms: float) -> Completion:
        text = self._text(row.tokens)
        ends = [place for one in row.prompt.sampling.stop if (place := text.find(one)) >= 0]
        asked, made = len(row.prompt.tokens), len(row.tokens)
        return Completion(
            text=text[: min(ends)] if ends else text,
            finish_reason=row.finish_reason or "stop",
            usage={
                "prompt_tokens": asked,
                "completion_tokens": made,
                "total_tokens": asked + made,
            },
            extra=None,
            provenance=dict(self.provenance),
            latency_ms=latency_ms,
        )

    def _text(self, tokens: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(tokens, skip_special_tokens=True)
        return text


def _device(wanted: str) -> torch.device:
    if wanted != "auto":
        return torch.device(wanted)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _context(model: Any, tokenizer: Any) -> int | None:
    """Most tokens of prompt and completion together; None where nothing says it."""
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if limit is None and tokenizer.model_max_length < _UNLIMITED:
        limit = tokenizer.model_max_length
    return limit


def _end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """The tokens that end a completion, by the model's own settings and the tokenizer's."""
    ends = model.generation_config.eos_token_id
    several = ends if isinstance(ends, list) else [ends]
    return frozenset(end for end in (*several, tokenizer.eos_token_id) if end is not None)
