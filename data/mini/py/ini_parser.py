"""A forgiving reader and writer for INI style settings."""


class IniError(ValueError):
    def __init__(self, line_number, message):
        super().__init__(f"line {line_number}: {message}")
        self.line_number = line_number


def parse(text):
    """Return {section: {key: value}}; keys before any header go under ''."""
    sections = {"": {}}
    current = sections[""]
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip()
        if not line or line[0] in "#;":
            continue
        if line.startswith("["):
            if not line.endswith("]"):
                raise IniError(number, "section header is not closed")
            current = sections.setdefault(line[1:-1].strip(), {})
            continue
        key, equals, value = line.partition("=")
        if not equals:
            raise IniError(number, "expected key = value")
        current[key.strip().lower()] = unquote(value.strip())
    return sections


def unquote(value):
    """Strip one matching pair of quotes, which protect outer spaces."""
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "'\"":
        return value[1:-1]
    return value


def dump(sections):
    blocks = []
    for name, pairs in sections.items():
        lines = [f"[{name}]"] if name else []
        lines += [f'{key} = "{value}"' if value != value.strip() else f"{key} = {value}"
                  for key, value in pairs.items()]
        if lines:
            blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"
