"""Parsing and building the part of a URL that follows the question mark."""

HEX = "0123456789ABCDEF"
SAFE = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.~")


def quote(text: str) -> str:
    """Percent-encode everything outside the small set of safe bytes."""
    out = []
    for byte in text.encode("utf-8"):
        if byte in SAFE:
            out.append(chr(byte))
        else:
            out.append("%" + HEX[byte >> 4] + HEX[byte & 15])
    return "".join(out)


def unquote(text: str) -> str:
    data = bytearray()
    raw = text.replace("+", " ").encode("utf-8")
    i = 0
    while i < len(raw):
        pair = raw[i + 1 : i + 3].decode("latin-1").upper()
        if raw[i] == ord("%") and len(pair) == 2 and all(c in HEX for c in pair):
            data.append(int(pair, 16))
            i += 3
        else:
            data.append(raw[i])
            i += 1
    return data.decode("utf-8", errors="replace")


def parse_query(query: str) -> dict[str, list[str]]:
    """Collect repeated names into lists, in the order they appear."""
    fields: dict[str, list[str]] = {}
    for piece in query.lstrip("?").split("&"):
        if piece:
            name, _, value = piece.partition("=")
            fields.setdefault(unquote(name), []).append(unquote(value))
    return fields


def build_query(fields: dict[str, list[str]]) -> str:
    return "&".join(f"{quote(k)}={quote(v)}" for k, values in fields.items() for v in values)
