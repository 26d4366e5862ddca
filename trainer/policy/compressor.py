"""The compressor: the stock package's class, made fit for training and for machines offline."""

import copy
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from llmlingua import PromptCompressor
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForTokenClassification, AutoTokenizer

from trainer.errors import ModelError
from trainer.policy.families import family_of
from trainer.policy.isolation import (
    global_state_kept,
    quiet_transformers,
    tiktoken_left_alone,
)
from trainer.policy.lengths import LengthTokenizer, resolve_length_tokenizer
from trainer.policy.saving import deployable_path, replaced_at_once, write_model
from trainer.policy.transfer import padded, sent
from trainer.policy.words import HIDDEN, Chunk, CompressionOptions, Segmenter

__all__ = [
    "PromptCompressorReinforce",
    "disable_dropout",
    "family_of",
    "piece_keep_probs",
    "word_keep_probs",
]


class PromptCompressorReinforce(PromptCompressor):
    """An LLMLingua-2 compressor that can be trained.

    The stock package's arguments and methods, without its side effects: it needs no network, leaves
    the global random generators alone, and trusts no remote code. The model is in float32, without
    dropout, its tokenizer pads on the right. `[NEW0]` to `[NEW99]` are added to the vocabulary, as
    the stock package does.

    Attributes:
        family: "xlm-roberta-large" or "bert-base-multilingual-cased".
        length_tokenizer: What lengths are counted with.
    """

    def __init__(
        self,
        model_name: str,
        device_map: str = "auto",
        model_config: Mapping[str, Any] | None = None,
        open_api_config: Mapping[str, Any] | None = None,
        use_llmlingua2: bool = True,
        llmlingua2_config: Mapping[str, Any] | None = None,
        *,
        length_tokenizer: str = "auto",
    ) -> None:
        """Loads a compressor.

        Args:
            model_name: Its folder, or its name on the Hugging Face Hub.
            device_map: "auto", "cpu", "cuda" or "cuda:N"; the CPU, with a warning, where CUDA is
                asked for and absent.
            model_config: Passed on to `from_pretrained`.
            open_api_config: Kept for the stock package.
            use_llmlingua2: Must be true: no other kind has a policy over words.
            llmlingua2_config: `max_batch_size` and `max_force_token` of the stock package.
            length_tokenizer: See `trainer.policy.lengths.resolve_length_tokenizer`.

        Raises:
            ModelError: There is no such compressor, or it is none that can be trained.
        """
        if not use_llmlingua2:
            raise ModelError("Expected use_llmlingua2=True: only LLMLingua-2 can be trained here.")
        with global_state_kept(), tiktoken_left_alone(), quiet_transformers():
            super().__init__(
                str(model_name),
                available_device(device_map),
                dict(model_config or {}),
                dict(open_api_config or {}),
                use_llmlingua2=True,
                llmlingua2_config=dict(llmlingua2_config or {}),
            )
        disable_dropout(self.model)
        self.length_tokenizer = resolve_length_tokenizer(
            length_tokenizer, self.tokenizer, self.family
        )
        self.oai_tokenizer = self.length_tokenizer
        self._segmenters: dict[tuple[CompressionOptions, int, LengthTokenizer], Segmenter] = {}
        self._rl_info: list[Mapping[str, Any]] = []

    def load_model(self, model_name: str, device_map: str, model_config: dict[str, Any]) -> None:
        """Loads model and tokenizer; called by the stock constructor."""
        options = {"trust_remote_code": False, **model_config}
        dtype = options.pop("torch_dtype", options.pop("dtype", torch.float32))
        _require_folder(model_name)
        try:
            config = AutoConfig.from_pretrained(model_name, **options)
            _require_token_classifier(model_name, config)
            self.family = family_of(model_name, config)
            self.tokenizer = AutoTokenizer.from_pretrained(model_name, **options)
            model = AutoModelForTokenClassification.from_pretrained(
                model_name, config=config, dtype=dtype, **options
            )
        except (OSError, ValueError) as error:
            raise ModelError(
                f"Expected {model_name!r} to be the folder of an LLMLingua-2 compressor, or a name "
                f"that the Hugging Face Hub serves or has cached: {error}"
            ) from error
        self.tokenizer.padding_side = "right"
        self._own_tokenizer = copy.deepcopy(self.tokenizer)
        self.device = device_map
        self.model = model.to(device_map)
        self.context_idxs: list[Any] = []
        self.max_position_embeddings = config.max_position_embeddings

    def segmenter(self, options: CompressionOptions, max_seq_len: int = 512) -> Segmenter:
        """The rules that turn texts into this compressor's words and back."""
        key = (options, max_seq_len, self.length_tokenizer)
        if key not in self._segmenters:
            self._segmenters[key] = Segmenter(
                self.tokenizer, self.family, self.length_tokenizer, options, max_seq_len
            )
        return self._segmenters[key]

    def record_rl_info(self, infos: Iterable[Mapping[str, Any]]) -> None:
        """Notes what was drawn, one entry a rollout, for `get_rl_info`."""
        self._rl_info.extend(infos)

    def get_rl_info(self) -> list[Mapping[str, Any]]:
        """What was drawn since the last `clear_rl_info`, oldest first; in training, a step's.

        Each has example_id, sample_index, keep_mask (one bool array per chunk), log_prob (of the
        mask, summed over its words) and compressed_prompt.
        """
        return list(self._rl_info)

    def clear_rl_info(self) -> None:
        """Forgets what was recorded."""
        self._rl_info.clear()

    def save(self, folder: Path, *, keep_added_tokens: bool = False) -> Path:
        """Writes the compressor so that the stock package can deploy it; atomic.

        Args:
            folder: Where to; replaced if it is there.
            keep_added_tokens: Whether `[NEW0]` to `[NEW99]` stay in the vocabulary. Without them
                the stock package draws new embeddings for them, so keep them where force tokens
                were trained through them (`Segmenter.uses_added_tokens`).

        Returns:
            The path to give to the stock package: `folder` if that names the family, otherwise a
            folder of the family's name in it.

        Raises:
            ModelError: The path names the other family, or cannot be written.
        """
        target = deployable_path(folder, self.family)
        tokenizer = self.tokenizer if keep_added_tokens else self._own_tokenizer
        with replaced_at_once(target) as draft, quiet_transformers():
            write_model(self.model, tokenizer, draft)
        return target


def word_keep_probs(
    model: nn.Module, chunks: Sequence[Chunk], pad_token_id: int, device: torch.device | str
) -> tuple[Tensor, Tensor]:
    """Keep probabilities of the words, as deployed: the mean over a word's pieces.

    Args:
        model: The token classifier, bare or wrapped (DDP).
        chunks: C chunks, padded here to the longest.
        pad_token_id: What to pad with; padding is masked, so its value does not matter.
        device: Where the model is.

    Returns:
        prob_CW, float32, with gradient; forced pieces count as 1, padded words are 0.
        is_word_CW, bool: false for padded words.
    """
    prob_CT, word_CT = piece_keep_probs(model, chunks, pad_token_id, device)
    forced_CT = sent(padded([chunk.piece_forced for chunk in chunks], False), device)
    count_C = sent(torch.tensor([len(chunk.words) for chunk in chunks]), device)
    W = max(len(chunk.words) for chunk in chunks)
    slot_CT = torch.where(word_CT >= 0, word_CT, W)
    total_CW = _sum_by_slot(prob_CT.masked_fill(forced_CT, 1.0), slot_CT, W)
    pieces_CW = _sum_by_slot(torch.ones_like(prob_CT), slot_CT, W)
    is_word_CW = torch.arange(W, device=device) < count_C[:, None]
    return total_CW / pieces_CW.clamp(min=1), is_word_CW


def piece_keep_probs(
    model: nn.Module,
    chunks: Sequence[Chunk],
    pad_token_id: int,
    device: torch.device | str,
    *,
    width: int = 0,
) -> tuple[Tensor, Tensor]:
    """Keep probabilities of the pieces.

    Args:
        model: As for `word_keep_probs`, like the other arguments.
        chunks: C chunks, padded here to the T pieces of the longest.
        pad_token_id: What to pad with.
        device: Where the model is.
        width: Positions to pad to, where no chunk has as many pieces.

    Returns:
        prob_CT, float32, with gradient, no piece overridden.
        word_CT, int64: `Chunk.word_of_piece`, HIDDEN where padded.
    """
    ids_CT = sent(padded([chunk.piece_ids for chunk in chunks], pad_token_id, width), device)
    word_CT = padded([chunk.word_of_piece for chunk in chunks], HIDDEN, width)
    all_seen = HIDDEN not in word_CT  # Looked at before it is sent, so that no GPU is waited for.
    word_CT = sent(word_CT, device)
    mask = None if all_seen else _attention_mask(model, word_CT != HIDDEN)
    logits_CT2 = model(input_ids=ids_CT, attention_mask=mask).logits
    return logits_CT2.float().softmax(dim=-1)[..., 1], word_CT


def _attention_mask(model: nn.Module, seen_CT: Tensor) -> Tensor:
    """Which pieces the model sees, as its attention takes it.

    PyTorch's attends by (C, 1, 1, T) as it is; from (C, T) `transformers` would write out
    (C, 1, T, T), which costs as much as the attention of a small model.
    """
    config = getattr(model, "config", None)
    by_pytorch = getattr(config, "_attn_implementation", None) == "sdpa"
    return seen_CT[:, None, None] if by_pytorch else seen_CT


def disable_dropout(model: nn.Module) -> None:
    """Sets every dropout probability to 0, so that `train()` and `eval()` compute the same.

    The configuration keeps its own values, for whoever trains the saved model further.
    """
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0


def available_device(device_map: str) -> str:
    """The one device that a `device_map` comes to on this machine."""
    has_cuda = torch.cuda.is_available()
    if device_map == "auto":
        return "cuda" if has_cuda else "cpu"
    if device_map.startswith("cuda") and not has_cuda:
        warnings.warn(f"No GPU for device {device_map!r} here: using the CPU.", stacklevel=3)
        return "cpu"
    return device_map


def _require_folder(model_name: str) -> None:
    looks_local = model_name.startswith((".", "/", "~")) or model_name.count("/") > 1
    if looks_local and not Path(model_name).is_dir():
        raise ModelError(
            f"Expected a compressor in the folder {model_name!r}; there is no such folder. Check "
            "`model.model_load_path`, or give a name on the Hugging Face Hub."
        )


def _require_token_classifier(model_name: str, config: Any) -> None:
    architectures = config.architectures or []
    if not any("ForTokenClassification" in name for name in architectures) or (
        config.num_labels != 2
    ):
        raise ModelError(
            f"Expected {model_name!r} to hold a token classifier with two labels (drop, keep); it "
            f"holds {', '.join(architectures) or 'no named architecture'} with "
            f"{config.num_labels} labels. Start from an LLMLingua-2 compressor."
        )


def _sum_by_slot(value_CT: Tensor, slot_CT: Tensor, slots: int) -> Tensor:
    """Sums a row's values by slot, in their order; slot number `slots` is thrown away."""
    total = value_CT.new_zeros(len(value_CT), slots + 1)
    return total.scatter_add(1, slot_CT, value_CT)[:, :slots]
