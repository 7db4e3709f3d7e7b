import re
from collections.abc import Mapping

PLACEHOLDER = re.compile(r"\{\{\s*([\w.]+)\s*(?:\|\s*(\w+)\s*)?\}\}")

FILTERS = {
    "upper": str.upper,
    "lower": str.lower,
    "title": str.title,
    "strip": str.strip,
}


class TemplateError(LookupError):
    """Raised when a placeholder or a filter is unknown."""


def resolve(path: str, context: Mapping) -> object:
    """Walk a dotted path such as 'user.name' through nested mappings."""
    current: object = context
    for part in path.split("."):
        if not isinstance(current, Mapping) or part not in current:
            raise TemplateError(f"no value for {path!r}")
        current = current[part]
    return current


def fill(template: str, context: Mapping) -> str:
    """Replace every {{ path }} or {{ path | filter }} in the template."""

    def replace(match: re.Match) -> str:
        path, name = match.groups()
        text = str(resolve(path, context))
        if name is None:
            return text
        if name not in FILTERS:
            raise TemplateError(f"unknown filter {name!r}")
        return FILTERS[name](text)

    return PLACEHOLDER.sub(replace, template)


def placeholders(template: str) -> set[str]:
    return {match.group(1) for match in PLACEHOLDER.finditer(template)}
