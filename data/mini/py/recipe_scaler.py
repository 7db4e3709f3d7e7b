"""Scale recipes and write the amounts the way a cook would."""

from dataclasses import dataclass, replace
from fractions import Fraction

GLYPHS = {
    Fraction(1, 4): "¼", Fraction(1, 3): "⅓", Fraction(1, 2): "½",
    Fraction(2, 3): "⅔", Fraction(3, 4): "¾",
}


@dataclass(frozen=True)
class Ingredient:
    amount: Fraction
    unit: str
    name: str

    def __str__(self) -> str:
        return " ".join(part for part in (kitchen_number(self.amount), self.unit, self.name) if part)


@dataclass(frozen=True)
class Recipe:
    title: str
    servings: int
    ingredients: tuple[Ingredient, ...]

    def scaled_to(self, servings: int) -> "Recipe":
        if servings < 1:
            raise ValueError("cook for at least one person")
        factor = Fraction(servings, self.servings)
        scaled = tuple(replace(i, amount=i.amount * factor) for i in self.ingredients)
        return replace(self, servings=servings, ingredients=scaled)


def kitchen_number(amount: Fraction) -> str:
    """Round to the nearest measure that a kitchen actually has."""
    whole = int(amount)
    choices = [Fraction(0), *GLYPHS, Fraction(1)]
    nearest = min(choices, key=lambda choice: abs(amount - whole - choice))
    if nearest == 1:
        whole, nearest = whole + 1, Fraction(0)
    glyph = GLYPHS.get(nearest, "")
    return f"{whole or ''}{glyph}" or "a pinch of"


def shopping_list(recipe: Recipe) -> str:
    lines = [f"{recipe.title} (serves {recipe.servings})"]
    return "\n".join(lines + [f"- {ingredient}" for ingredient in recipe.ingredients])
