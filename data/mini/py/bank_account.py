"""Bank accounts with exact money and a journal of movements."""

from dataclasses import dataclass, field
from datetime import date
from decimal import ROUND_HALF_EVEN, Decimal

CENT = Decimal("0.01")


class InsufficientFunds(Exception):
    pass


@dataclass(frozen=True)
class Movement:
    day: date
    amount: Decimal
    note: str


@dataclass
class Account:
    owner: str
    overdraft: Decimal = Decimal(0)
    journal: list[Movement] = field(default_factory=list)

    @property
    def balance(self) -> Decimal:
        return sum((m.amount for m in self.journal), Decimal(0))

    def deposit(self, amount: Decimal, day: date, note: str = "deposit") -> None:
        if amount <= 0:
            raise ValueError("a deposit must be positive")
        self.journal.append(Movement(day, amount.quantize(CENT, ROUND_HALF_EVEN), note))

    def withdraw(self, amount: Decimal, day: date, note: str = "withdrawal") -> None:
        if amount <= 0:
            raise ValueError("a withdrawal must be positive")
        amount = amount.quantize(CENT, ROUND_HALF_EVEN)
        if self.balance - amount < -self.overdraft:
            raise InsufficientFunds(f"{self.owner} cannot withdraw {amount}")
        self.journal.append(Movement(day, -amount, note))


def transfer(source: Account, target: Account, amount: Decimal, day: date) -> None:
    """Move money; if the withdrawal fails, the target is left untouched."""
    source.withdraw(amount, day, f"to {target.owner}")
    target.deposit(amount, day, f"from {source.owner}")
