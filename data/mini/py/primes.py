"""Prime numbers: sieving, testing and factoring."""

from collections import Counter
from itertools import count, takewhile
from math import isqrt


def sieve(limit):
    """List all primes up to and including limit."""
    if limit < 2:
        return []
    flags = bytearray([1]) * (limit + 1)
    flags[0] = flags[1] = 0
    for n in range(2, isqrt(limit) + 1):
        if flags[n]:
            flags[n * n :: n] = bytes(len(range(n * n, limit + 1, n)))
    return [n for n, flag in enumerate(flags) if flag]


def is_prime(n):
    if n < 4:
        return n > 1
    if n % 2 == 0 or n % 3 == 0:
        return False
    # All remaining primes have the form 6k - 1 or 6k + 1.
    steps = takewhile(lambda d: d * d <= n, count(5, 6))
    return all(n % d and n % (d + 2) for d in steps)


def factorise(n):
    """Return a Counter that maps each prime factor to its exponent."""
    if n < 1:
        raise ValueError("only positive integers can be factorised")
    factors, divisor = Counter(), 2
    while divisor * divisor <= n:
        while n % divisor == 0:
            factors[divisor] += 1
            n //= divisor
        divisor += 1 if divisor == 2 else 2
    if n > 1:
        factors[n] += 1
    return factors


def twin_primes(limit):
    known = sieve(limit)
    return [(p, q) for p, q in zip(known, known[1:]) if q - p == 2]
