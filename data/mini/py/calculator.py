"""Arithmetic expressions evaluated by recursive descent."""

import operator as op
import re

TOKEN = re.compile(r"(\d+\.?\d*|\.\d+)|(\S)")
OPERATORS = {"+": op.add, "-": op.sub, "*": op.mul, "/": op.truediv}


def tokenize(text):
    for number, symbol in TOKEN.findall(text):
        yield float(number) if number else symbol


def evaluate(text):
    tokens = [*tokenize(text), None]

    def accept(*symbols):
        return tokens.pop(0) if tokens[0] in symbols else None

    def expect(condition):
        if not condition:
            raise SyntaxError(f"unexpected {tokens[0]!r}")

    def chain(operand, signs):
        value = operand()
        while sign := accept(*signs):
            value = OPERATORS[sign](value, operand())
        return value

    def product():
        return chain(power, "*/")

    def power():
        if accept("-"):
            return -power()
        base = atom()
        return base ** power() if accept("^") else base

    def atom():
        if accept("("):
            value = chain(product, "+-")
            expect(accept(")"))
            return value
        expect(isinstance(tokens[0], float))
        return tokens.pop(0)

    result = chain(product, "+-")
    expect(tokens == [None])
    return result
