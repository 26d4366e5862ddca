"""Which validation was the best so far."""

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Standing:
    """The best validation, and how many have come after it."""

    best_step: int = 0
    """0 where there was none yet."""
    best_score: float | None = None
    since_best: int = 0

    def after(self, step: int, score: float) -> "Standing":
        """The standing once a step's validation is known; the first of equals is the best."""
        if self.best_score is None or score > self.best_score:
            return Standing(step, score)
        return replace(self, since_best=self.since_best + 1)

    def is_over(self, patience: int) -> bool:
        """Whether so many validations were not better; 0 never gives up."""
        return 0 < patience <= self.since_best
