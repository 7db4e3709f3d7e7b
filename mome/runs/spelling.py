"""Values as people write them: YAML 1.2, also where papermill has read them as YAML 1.1 before us."""

import re

import yaml

# What PyYAML raises: for a tag that does not fit its value, such as !!bool x, also Python's own errors.
ODD = (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)


class PlainLoader(yaml.SafeLoader):
    """PyYAML reads YAML 1.1, where `no` is False, 2e-3 a text and 010 is 8; this one has other patterns."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 (filled below)


for _kind, _pattern in (("null", "~|null"), ("bool", "[Tt]rue|[Ff]alse"), ("int", "[-+]?(0|[1-9][0-9_]*)"),
                        ("float", r"[-+]?([0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*|[0-9][0-9_]*(?=[eE]))"
                                  r"([eE][-+]?[0-9]+)?")):
    PlainLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(f"^({_pattern})$"), None)


def read_yaml(what: str, text: str):
    """Return the value of a YAML text; ValueError, beginning with `what`, when it is none."""
    try:
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):
            raise yaml.YAMLError("aliases are not allowed: they may grow without end")
        return yaml.load(text, PlainLoader)
    except ODD as error:
        raise ValueError(f"{what} is not readable as YAML ({' '.join(str(error).split())})") from None


def read_again(name: str, value, default):
    """Return a value that papermill has read as this module would have, for a parameter with that default.

    Its -y and -f leave 2e-3 a text and make `no` False; its -p leaves lists and mappings as texts.
    """
    if value is False and isinstance(default, str):
        return "no"
    if isinstance(value, str) and not isinstance(default, str):
        return read_yaml(f"{name}={value!r}", value)
    if isinstance(value, list):
        usual = default[0] if isinstance(default, list) and default else ""
        return [read_again(name, item, usual) for item in value]
    if isinstance(value, dict):  # of the scale's fields; what is no field has numbers, as shares do
        usual = default if isinstance(default, dict) else {}
        keys = {key: "no" if key is False else key for key in value}
        return {keys[key]: read_again(name, item, usual.get(key, 0.0)) for key, item in value.items()}
    return value
