"""BERTScore: how alike two texts are to an encoder, piece by piece.

Each piece of one text is matched with the most similar piece of the other, by the cosine of what
the encoder makes of them where they stand: precision over the completion's pieces, recall over the
reference's. The score is their F1, at most 1; raw scores of any two texts are high, and a baseline
rescales them.

Source: Zhang et al., arXiv 1904.09675. The figures are those of the authors' package `bert-score`
0.3.13, which stands still since 2023 and fails on empty texts beside transformers 5.

A score depends on its two texts alone. What an encoder gives moves in its last bits with the shape
of the batch, so that batches have few shapes, which a text's own length decides.
"""

import csv
import hashlib
import json
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import log
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer

from trainer.config_sections.scoring import BertScore
from trainer.errors import ConfigError, ModelError
from trainer.policy.isolation import quiet_transformers
from trainer.policy.saving import tensors_digest
from trainer.rollouts.text_metrics import TextFunction
from trainer.tasks.data import load_examples

_BEST_LAYERS = {
    "bert-base-multilingual-cased": 9,
    "bert-base-uncased": 9,
    "bert-large-uncased": 18,
    "deberta-large-mnli": 18,
    "deberta-xlarge-mnli": 40,
    "distilbert-base-multilingual-cased": 5,
    "distilbert-base-uncased": 5,
    "distilroberta-base": 5,
    "roberta-base": 10,
    "roberta-large": 17,
    "roberta-large-mnli": 19,
    "xlm-roberta-base": 9,
    "xlm-roberta-large": 17,
}
"""The authors' choices: those that agreed best with people's judgements of translations."""

_BYTE_LEVEL = frozenset({"deberta", "gpt2", "longformer", "roberta"})
"""Model types whose tokenizers see the first word as any other only after a space."""

_LENGTH_STEP = 16
_ROWS = {"cpu": 8}
_ROWS_ON_GPU = 32
_PAIRS_AT_ONCE = 256
_REMEMBERED_BYTES = 2**28
_VERSION = 1
"""Of the rules here, in signatures: to be raised with every change that can change a score."""


@dataclass(frozen=True, slots=True)
class EncodedText:
    """A text as the encoder sees it."""

    vectors_TH: Tensor
    """Of its T pieces, special ones too; each of length 1."""
    weights_T: Tensor
    """What each counts for: 0 for the special ones; 1 in all, but NaN where nothing counts."""


def match(completion: EncodedText, reference: EncodedText) -> Tensor:
    """(3,): precision, recall and F1 of two texts; NaN where a text has nothing that counts."""
    similarity_TU = completion.vectors_TH @ reference.vectors_TH.T
    precision = (similarity_TU.amax(1) * completion.weights_T).sum()
    recall = (similarity_TU.amax(0) * reference.weights_T).sum()
    return torch.stack([precision, recall, 2 * precision * recall / (precision + recall)])


class Encoder:
    """An encoder cut off above the layer whose output is compared; remembers texts.

    Args:
        model: a local folder, or a name on the hub.
        revision: of a name on the hub.
        layer: counted from 1; None: the authors' choice.
        device: where it runs.

    Raises:
        ModelError: it cannot be loaded, or is no encoder of a known build.
        ConfigError: there is no such layer, or no choice of the authors'.
    """

    def __init__(self, model: str, revision: str | None, layer: int | None, device: str) -> None:
        self.name = model.rstrip("/").rpartition("/")[2]
        tokenizer, encoder = _load(model, revision)
        layers = _layers_of(encoder, model)
        self.layer = _checked(layer or _BEST_LAYERS.get(self.name), len(layers), self.name)
        del layers[self.layer :]
        self.digest = _digest(tokenizer, encoder)
        self._tokenizer, self._encoder = tokenizer, encoder.to(device).eval()
        self._device = torch.device(device)
        self._max_length = _max_length(tokenizer, encoder.config)
        self._before = " " if encoder.config.model_type in _BYTE_LEVEL else ""
        self._piece_weights: Mapping[int, float] = defaultdict(
            lambda: 1.0, dict.fromkeys((tokenizer.cls_token_id, tokenizer.sep_token_id), 0.0)
        )
        self._remembered: OrderedDict[str, EncodedText] = OrderedDict()
        self._bytes = 0

    def weigh_by_rarity(self, texts: Sequence[str]) -> None:
        """Let a piece count for its inverse document frequency in these texts."""
        frequencies = Counter(id_ for ids in self._ids(texts) for id_ in set(ids))
        count = len(texts) + 1
        weights = {id_: log(count / (found + 1)) for id_, found in frequencies.items()}
        self._piece_weights = defaultdict(lambda: log(count), weights)

    def encode(self, texts: Sequence[str]) -> dict[str, EncodedText]:
        """What the encoder makes of texts, by text; those that it remembers are looked up."""
        wanted = dict.fromkeys(texts)
        known = {text: self._remembered[text] for text in wanted if text in self._remembered}
        for text in known:
            self._remembered.move_to_end(text)
        for text, encoded in self._run([text for text in wanted if text not in known]):
            known[text] = encoded
            self._remember(text, encoded)
        return known

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        found = self._tokenizer(
            [self._before + text.strip() if text.strip() else "" for text in texts],
            truncation=True,
            max_length=self._max_length,
        )
        return list(found["input_ids"])

    def _run(self, texts: Sequence[str]) -> Iterator[tuple[str, EncodedText]]:
        by_length: defaultdict[int, list[tuple[str, list[int]]]] = defaultdict(list)
        for text, ids in zip(texts, self._ids(texts) if texts else [], strict=True):
            by_length[-(-len(ids) // _LENGTH_STEP) * _LENGTH_STEP].append((text, ids))
        rows = _ROWS.get(self._device.type, _ROWS_ON_GPU)
        for length, group in by_length.items():
            for start in range(0, len(group), rows):
                part = group[start : start + rows]
                outputs = self._forward([ids for _, ids in part], rows, length)
                for (text, ids), output_TH in zip(part, outputs, strict=False):
                    yield text, self._encoded(ids, output_TH[: len(ids)])

    @torch.no_grad()
    def _forward(self, ids: Sequence[Sequence[int]], rows: int, length: int) -> Tensor:
        """(rows, length, H), however many texts there are: rows without one are never read."""
        length = min(length, self._max_length)
        ids_RT = torch.full((rows, length), self._tokenizer.pad_token_id or 0)
        mask_RT = torch.zeros_like(ids_RT)
        mask_RT[:, 0] = 1
        for row, its_ids in enumerate(ids):
            ids_RT[row, : len(its_ids)] = torch.tensor(its_ids)
            mask_RT[row, : len(its_ids)] = 1
        inputs = {"input_ids": ids_RT, "attention_mask": mask_RT}
        placed = {name: tensor.to(self._device) for name, tensor in inputs.items()}
        outputs: Tensor = self._encoder(**placed).last_hidden_state
        return outputs

    def _encoded(self, ids: Sequence[int], output_TH: Tensor) -> EncodedText:
        weights = torch.tensor([self._piece_weights[id_] for id_ in ids], device=self._device)
        return EncodedText(
            output_TH / output_TH.norm(dim=-1, keepdim=True), weights / weights.sum()
        )

    def _remember(self, text: str, encoded: EncodedText) -> None:
        self._remembered[text] = encoded
        self._bytes += encoded.vectors_TH.nbytes
        while self._bytes > _REMEMBERED_BYTES:
            _, oldest = self._remembered.popitem(last=False)
            self._bytes -= oldest.vectors_TH.nbytes


@cache
def load_bertscore(
    settings: BertScore, train_file_path: str, device: str
) -> tuple[str, TextFunction]:
    """BERTScore as the config wants it: (signature, function); made once.

    Args:
        settings: of the config.
        train_file_path: whose reference completions say how rare a piece is, for `idf`.
        device: where the encoder runs.

    Raises:
        ConfigError: no model is named, or a baseline or layer is not there.
        ModelError: the model cannot be loaded.
    """
    if settings.model is None:
        problem = "expected an encoder's folder or name on the hub, which `bertscore` compares by"
        raise ConfigError("bertscore.model", [f"{problem}; got none"])
    encoder = Encoder(settings.model, settings.revision, settings.layer, device)
    baseline = _baseline(settings.baseline_file_path, encoder.layer)
    corpus = _reference_completions(train_file_path) if settings.idf else []
    if settings.idf:
        encoder.weigh_by_rarity(corpus)

    def function(completions: Sequence[str], references: Sequence[str]) -> list[float]:
        pairs = list(zip(completions, references, strict=True))
        return [
            score
            for start in range(0, len(pairs), _PAIRS_AT_ONCE)
            for score in _f1(encoder, pairs[start : start + _PAIRS_AT_ONCE], baseline)
        ]

    signature = "|".join(
        [
            f"bertscore|model:{encoder.name}|sha256:{encoder.digest[:16]}|layer:{encoder.layer}",
            f"idf:{_short_digest(corpus) if settings.idf else 'no'}",
            f"baseline:{baseline:g}" if baseline else "baseline:no",
            f"version:{_VERSION}",
        ]
    )
    return signature, function


def _f1(encoder: Encoder, pairs: Sequence[tuple[str, str]], baseline: float) -> list[float]:
    encoded = encoder.encode([text for pair in pairs for text in pair])
    f1_N = torch.stack([match(*(encoded[text] for text in pair))[2] for pair in pairs])
    scores: list[float] = f1_N.nan_to_num(0.0).clamp(max=1.0).tolist()
    return [(score - baseline) / (1 - baseline) for score in scores]


def _load(model: str, revision: str | None) -> tuple[Any, Any]:
    options = {"revision": revision or "main", "trust_remote_code": False}
    try:
        with quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(model, **options)
            encoder = AutoModel.from_pretrained(model, dtype=torch.float32, **options)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"Expected {model!r} (bertscore.model) to be the folder of an encoder, or a name that "
            f"the Hugging Face Hub serves or has cached: {error}"
        ) from error
    return tokenizer, encoder


def _layers_of(encoder: nn.Module, model: str) -> nn.ModuleList:
    """Its layers, from the first on."""
    for path in ("encoder.layer", "transformer.layer", "layers"):
        try:
            found = encoder.get_submodule(path)
        except AttributeError:
            continue
        if isinstance(found, nn.ModuleList):
            return found
    raise ModelError(
        f"Expected {model!r} (bertscore.model) to be an encoder built as BERT, RoBERTa, XLM-R, "
        f"DeBERTa or DistilBERT are; got {type(encoder).__name__}"
    )


def _checked(layer: int | None, layers: int, name: str) -> int:
    if layer is not None and layer <= layers:
        return layer
    problem = f"expected a layer of {name} from 1 to {layers}, got {layer}"
    advice = "`bert-score` lists its authors' choices; most are about two thirds up"
    raise ConfigError("bertscore.layer", [f"{problem}; {advice}"])


def _digest(tokenizer: Any, encoder: nn.Module) -> str:
    """SHA-256 of all that decides what a text becomes, 64 hex digits.

    Without the pooler: it is above the last layer, and random where a checkpoint has none.
    """
    weights = tensors_digest(
        (name, tensor)
        for name, tensor in encoder.state_dict().items()
        if not name.startswith("pooler.")
    )
    backend = getattr(tokenizer, "backend_tokenizer", None)
    rules = backend.to_str() if backend else json.dumps(tokenizer.get_vocab(), sort_keys=True)
    return hashlib.sha256(f"{weights}\n{rules}".encode()).hexdigest()


def _max_length(tokenizer: Any, config: Any) -> int:
    """Pieces of the longest text; what is longer is cut, as the package does."""
    positions = getattr(config, "max_position_embeddings", None) or 512
    if config.model_type in ("roberta", "xlm-roberta", "longformer"):  # They begin after the pad.
        positions -= tokenizer.pad_token_id + 1
    return int(min(tokenizer.model_max_length, positions))


def _baseline(path: str | None, layer: int) -> float:
    """The F column of a layer in a table of `bert-score`; 0 without one."""
    if path is None:
        return 0.0
    try:
        with Path(path).open(encoding="utf-8", newline="") as file:
            found = {int(row["LAYER"]): float(row["F"]) for row in csv.DictReader(file)}
    except (OSError, ValueError, KeyError, TypeError) as error:
        problem = f"{path}: expected a table with the columns LAYER,P,R,F: {error!r}"
        raise ConfigError("bertscore.baseline_file_path", [problem]) from error
    if layer not in found or not found[layer] < 1:
        problem = f"{path}: expected a line for layer {layer} with F below 1"
        raise ConfigError("bertscore.baseline_file_path", [problem])
    return found[layer]


def _reference_completions(train_file_path: str) -> list[str]:
    examples = load_examples(Path(train_file_path))
    return [question.reference_completion for each in examples for question in each.questions]


def _short_digest(texts: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:16]
