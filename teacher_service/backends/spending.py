"""The budget: calls and money that the service may spend upstream, from its start on."""

from collections.abc import Mapping

from teacher_service.errors import BudgetExhausted
from teacher_service.settings import BudgetSettings, PriceSettings


class Spending:
    """Counts what is spent, and says when it is enough.

    Every attempt is a call, retries included: that is what an upstream counts. What is under way
    when the money is used up is finished, stored and paid, so it may be overdrawn by that much.
    """

    def __init__(self, budget: BudgetSettings, prices: PriceSettings) -> None:
        self._budget = budget
        self._prices = prices
        self.calls = 0
        self.usd = 0.0

    def start_call(self) -> None:
        """Count a call that is about to be made.

        Raises:
            BudgetExhausted: There is nothing left for it.
        """
        calls, usd = self._budget.calls, self._budget.usd
        if calls is not None and self.calls >= calls:
            self._stop("calls", calls, self.calls)
        if usd is not None and self.usd >= usd:
            self._stop("usd", usd, round(self.usd, 6))
        self.calls += 1

    def pay(self, usage: Mapping[str, object] | None) -> None:
        """Add what an answer cost."""
        tokens = [(usage or {}).get(name) for name in ("prompt_tokens", "completion_tokens")]
        prompt, completion = (count if isinstance(count, int) else 0 for count in tokens)
        self.usd += self._prices.of(prompt, completion)

    def _stop(self, key: str, allowed: float, spent: float) -> None:
        raise BudgetExhausted(
            f"the service's budget is used up: budget.{key} allows {allowed:g}, {spent:g} are "
            "spent since its start. Stored answers are still served; to go on, raise it and start "
            "the service again"
        )
