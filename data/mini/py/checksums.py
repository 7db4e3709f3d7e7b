"""Check digits and checksums in common use."""

from itertools import cycle


def luhn_valid(number: str) -> bool:
    """The test used for payment card numbers."""
    digits = [int(c) for c in number if c.isdecimal()]
    if len(digits) < 2:
        return False
    total = 0
    for digit, double in zip(reversed(digits), cycle((False, True))):
        if double:
            digit = digit * 2 - 9 if digit > 4 else digit * 2
        total += digit
    return total % 10 == 0


def isbn13_check_digit(first_twelve: str) -> int:
    """Last digit of a book number; weights alternate between 1 and 3."""
    if len(first_twelve) != 12 or not first_twelve.isdecimal():
        raise ValueError("expected exactly twelve digits")
    total = sum(int(c) * weight for c, weight in zip(first_twelve, cycle((1, 3))))
    return -total % 10


def adler32(data: bytes) -> int:
    low, high = 1, 0
    for byte in data:
        low = (low + byte) % 65521
        high = (high + low) % 65521
    return high << 16 | low


def crc8(data: bytes, polynomial: int = 0x07) -> int:
    """Eight bit cyclic redundancy check, most significant bit first."""
    register = 0
    for byte in data:
        register ^= byte
        for _ in range(8):
            carry = register & 0x80
            register = (register << 1) & 0xFF
            if carry:
                register ^= polynomial
    return register
