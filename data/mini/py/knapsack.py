"""Packing problems: choose the best things that still fit."""

from typing import NamedTuple


class Thing(NamedTuple):
    name: str
    weight: int
    worth: int


def pack(things: list[Thing], capacity: int) -> tuple[int, list[Thing]]:
    """Solve the 0/1 knapsack exactly with dynamic programming."""
    # best[i][w] is the top worth using the first i things within weight w.
    best = [[0] * (capacity + 1)]
    for thing in things:
        above = best[-1]
        row = above[:]
        for w in range(thing.weight, capacity + 1):
            row[w] = max(above[w], above[w - thing.weight] + thing.worth)
        best.append(row)

    chosen, room = [], capacity
    for i in range(len(things), 0, -1):
        if best[i][room] != best[i - 1][room]:
            chosen.append(things[i - 1])
            room -= things[i - 1].weight
    return best[-1][capacity], chosen[::-1]


def fewest_coins(amount: int, coins: list[int]) -> list[int] | None:
    """Pay amount with as few coins as possible, or None if it cannot be done."""
    last_coin: list[int | None] = [None] * (amount + 1)
    used = [0] + [amount + 1] * amount
    for total in range(1, amount + 1):
        for coin in coins:
            if coin <= total and used[total - coin] + 1 < used[total]:
                used[total] = used[total - coin] + 1
                last_coin[total] = coin
    payment = []
    while amount:
        if (coin := last_coin[amount]) is None:
            return None
        payment.append(coin)
        amount -= coin
    return payment
