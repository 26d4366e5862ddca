"""A run's `budget`: held against what the service's ledger says that the run has bought."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.config_sections.running import Budget
from trainer.errors import ConfigError, TeacherSpent
from trainer.rollouts.teacher_client import TeacherClient
from trainer.rollouts.wire import Spent
from trainer.types import TeacherItem


@dataclass(frozen=True, slots=True)
class Allowance:
    """Says before a step is asked whether the run may still pay for it.

    The ledger keeps a run's sum under its id, so that it lasts however often the run is stopped or
    killed. The service's own `budget` is another limit: that of all its clients since its start.
    """

    budget: Budget
    teacher: TeacherClient
    folder: Path
    """Of the run, for what is said."""
    processes: int
    """How many ask at one time, each for about as much."""

    def check(self, items: Sequence[TeacherItem], *, judged: bool = False) -> None:
        """Let items be asked that are stored, or can be paid for.

        Args:
            items: what is to be asked.
            judged: each answer is then judged, by another answer of the teacher's.

        Raises:
            TeacherSpent: there is nothing left for them; with how to go on.
        """
        if self.budget == Budget():
            return
        spent = self.teacher.spent()
        calls = 2 if judged else 1
        if self._exceeded(spent, calls * len(items)) is None:
            return
        # What is stored is free, so only now it matters how much of it there is.
        missing = self.teacher.missing(items)
        if missing and (problem := self._exceeded(spent, calls * missing)):
            raise TeacherSpent(
                f"the run's budget is used up: {problem}. To go on, raise it: "
                f"taco train --resume {self.folder} budget.KEY=VALUE"
            )

    def _exceeded(self, spent: Spent, more: int) -> str | None:
        """Which limit `more` answers would break, in words; None: they may be bought."""
        calls, usd = self.budget.calls, self.budget.usd
        more *= self.processes
        if calls is not None and spent.calls + more > calls:
            return (
                f"budget.calls allows {calls:,}, {spent.calls:,} are bought, and the next step "
                f"needs up to {more:,}"
            )
        if usd is not None and spent.usd >= usd:
            return f"budget.usd allows {usd:g}, and {spent.usd:.6g} are spent"
        return None


def open_allowance(
    budget: Budget, teacher: TeacherClient, folder: Path, processes: int
) -> Allowance:
    """The allowance of a run whose teacher is connected.

    Raises:
        ConfigError: this teacher says nothing of what it costs.
    """
    if budget != Budget() and not teacher.is_ours:
        raise ConfigError(
            "budget",
            [
                "expected our teacher service, which keeps a ledger of each run, got another "
                "server; start ours in front of it (`taco serve`), or leave the section out"
            ],
        )
    if budget.usd is not None:
        prices = (teacher.stats() or {}).get("prices")
        if not prices or prices["currency"] != "USD":
            raise ConfigError(
                "budget.usd",
                [
                    "expected a service that knows its prices in USD, got one that does not; set "
                    "prices.input_per_million and prices.output_per_million in its settings"
                ],
            )
    return Allowance(budget, teacher, folder, processes)
