"""The two model families that the stock package can deploy, and how to tell them apart."""

from typing import Any

from trainer.errors import ModelError

XLM_ROBERTA = "xlm-roberta-large"
BERT = "bert-base-multilingual-cased"
FAMILIES = (XLM_ROBERTA, BERT)

_FAMILY_OF_MODEL_TYPE = {"xlm-roberta": XLM_ROBERTA, "bert": BERT}


def family_of(path: str, config: Any = None) -> str:
    """Names the family of a compressor as the stock package would, from its path.

    Args:
        path: Where the compressor is or goes; the stock package (0.2.2) looks at nothing else.
        config: The model's configuration, which decides where the path is silent.

    Raises:
        ModelError: The path names both families, or nothing names any.
    """
    named = [family for family in FAMILIES if family in path]
    if len(named) == 2:
        raise ModelError(
            f"The path {path!r} names both model families ({' and '.join(FAMILIES)}), so the stock "
            "package would join word pieces by the wrong rule. Rename the folder: one name only."
        )
    model_type = getattr(config, "model_type", None)
    of_config = _FAMILY_OF_MODEL_TYPE.get(str(model_type))
    if named and of_config in (None, named[0]):
        return named[0]
    if named:
        raise ModelError(
            f"The path {path!r} names {named[0]}, but the model in it is of type {model_type!r}, "
            f"which is {of_config}. Rename the folder, so that the stock package can deploy it."
        )
    if of_config is None:
        raise ModelError(
            f"Expected a compressor of the family {' or '.join(FAMILIES)}; {path!r} holds a model "
            f"of type {model_type!r}. Point `model.model_load_path` at an LLMLingua-2 compressor."
        )
    return of_config
