"""Stock keeping for a small shop."""

from dataclasses import dataclass


@dataclass
class Item:
    sku: str
    title: str
    price_cents: int
    quantity: int = 0
    reorder_below: int = 5

    @property
    def value_cents(self) -> int:
        return self.price_cents * self.quantity


class OutOfStock(Exception):
    def __init__(self, item: Item, wanted: int):
        super().__init__(f"{item.title}: wanted {wanted}, have {item.quantity}")
        self.item = item


class Inventory:
    def __init__(self, items: list[Item]):
        self.items = {item.sku: item for item in items}

    def receive(self, sku: str, amount: int) -> None:
        if amount < 1:
            raise ValueError("a delivery contains at least one piece")
        self.items[sku].quantity += amount

    def sell(self, basket: dict[str, int]) -> int:
        """Sell the whole basket or nothing; return the price in cents."""
        for sku, wanted in basket.items():
            if wanted < 1:
                raise ValueError(f"cannot sell {wanted} of {sku}")
            if self.items[sku].quantity < wanted:
                raise OutOfStock(self.items[sku], wanted)
        total = 0
        for sku, wanted in basket.items():
            self.items[sku].quantity -= wanted
            total += self.items[sku].price_cents * wanted
        return total

    def to_reorder(self) -> list[Item]:
        low = (i for i in self.items.values() if i.quantity < i.reorder_below)
        return sorted(low, key=lambda i: i.quantity)
