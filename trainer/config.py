"""The whole configuration: the reference's six sections with its keys, and ten of our own.

`trainer.config_file` reads it from YAML. Neither needs torch or a network, so that a bad config is
answered at once. Helpers elsewhere get the values they use, never a config.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import model_validator

from trainer.config_sections.fields import Section
from trainer.config_sections.learning import Compute, Policy, Reuse, Reward
from trainer.config_sections.reference import Data, Device, Hyperparams, Logging, Model, Task
from trainer.config_sections.running import Budget, Evaluation, Run, Teacher
from trainer.config_sections.scoring import BertScore, Judge


class Config(Section):
    """One training run, whole."""

    data: Data
    model: Model
    task: Task
    hyperparams: Hyperparams = Hyperparams()
    logging: Logging = Logging()
    device: Device = Device()
    compute: Compute = Compute()
    policy: Policy = Policy()
    reward: Reward = Reward()
    bertscore: BertScore = BertScore()
    judge: Judge = Judge()
    teacher: Teacher = Teacher()
    budget: Budget = Budget()
    reuse: Reuse = Reuse()
    evaluation: Evaluation = Evaluation()
    run: Run = Run()

    @model_validator(mode="after")
    def _reuse_by_word(self) -> "Config":
        if self.reuse.runs and self.policy.sampler == "exact_count":
            raise ValueError(
                "reuse.runs: needs words that are drawn independently, for each to have a ratio of "
                "its own, and policy.sampler: exact_count draws them together; set rate_held"
            )
        if self.reuse.runs and self.hyperparams.use_context_level_filter:
            raise ValueError(
                "reuse.runs: hyperparams.use_context_level_filter chooses contexts by the policy "
                "of the moment, so that recorded masks are of other texts; set it to false"
            )
        if self.reuse.runs and self.policy.loss == "reference_padded":
            raise ValueError(
                "reuse.runs: has the probabilities of words, and policy.loss: reference_padded "
                "draws their pieces; set loss: reference"
            )
        if self.reuse.runs and self.policy.loss == "greedy":
            raise ValueError(
                "reuse.runs: policy.loss: greedy compares with what the run's policy would deploy, "
                "which no recorded run has asked about; set leave_one_out"
            )
        return self

    @model_validator(mode="after")
    def _nothing_of_the_moment(self) -> "Config":
        if self.policy.one_step_ahead and self.hyperparams.use_context_level_filter:
            raise ValueError(
                "policy.one_step_ahead: draws by one policy and learns with the next, and "
                "hyperparams.use_context_level_filter chooses contexts by the policy of the "
                "moment; set one of them to false"
            )
        return self

    @model_validator(mode="after")
    def _threshold_of_a_rate(self) -> "Config":
        if self.evaluation.rate != "threshold":
            return self
        if self.hyperparams.target_token >= 1 or self.hyperparams.use_context_level_filter:
            raise ValueError(
                "evaluation.rate: threshold lets texts differ in length around one rate, and "
                "hyperparams.target_token or use_context_level_filter sets each one's own; leave "
                "them out, or set evaluation.rate: exact"
            )
        if self.policy.loss == "greedy":
            raise ValueError(
                "policy.loss: greedy compares texts of the target length, which evaluation.rate: "
                "threshold gives none in particular; set evaluation.rate: stock"
            )
        return self

    @model_validator(mode="after")
    def _one_kind_of_target(self) -> "Config":
        if self.policy.rates and self.hyperparams.target_token >= 1:
            raise ValueError(
                f"policy.rates: {list(self.policy.rates)} has no effect, because "
                f"hyperparams.target_token: {self.hyperparams.target_token} sets every example's "
                "rate; leave one of them out"
            )
        if self.policy.start_rate and (self.policy.rates or self.hyperparams.target_token >= 1):
            raise ValueError(
                f"policy.start_rate: {self.policy.start_rate} leads to one rate, "
                "hyperparams.compression_rate, and policy.rates or hyperparams.target_token set "
                "others; leave it out"
            )
        return self


def resolved(config: Config) -> Mapping[str, Any]:
    """The config as plain data, every default spelt out, for the run folder and the lock."""
    return config.model_dump(mode="json")
