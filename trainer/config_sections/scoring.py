"""What `bertscore` in a metric compares texts with."""

from trainer.config_sections.fields import Positive, Section


class BertScore(Section):
    """What `bertscore` in `reward.metric`, or in `taco evaluate --metrics`, compares texts with."""

    model: str | None = None
    """A local folder of an encoder such as roberta-large, or a name on the hub."""
    revision: str | None = None
    """Of a name on the hub: a commit, so that it stays the same model."""
    layer: Positive | None = None
    """Whose output is compared, counted from 1; null: what `bert-score`'s authors found best."""
    idf: bool = False
    """Weigh pieces by their rarity in the reference completions of the training file."""
    baseline_file_path: str | None = None
    """A table of `bert-score` (LAYER,P,R,F) to rescale by: two unrelated texts come to about 0."""
