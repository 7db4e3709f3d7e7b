"""Prefix tree used to complete words as a person types."""


class Trie:
    """Each node maps one letter to a smaller trie."""

    __slots__ = ("children", "terminal")

    def __init__(self):
        self.children = {}
        self.terminal = False

    def insert(self, word):
        node = self
        for letter in word:
            node = node.children.setdefault(letter, Trie())
        node.terminal = True

    def _descend(self, prefix):
        """Follow prefix letter by letter, or give None when the path ends."""
        node = self
        for letter in prefix:
            node = node.children.get(letter)
            if node is None:
                return None
        return node

    def __contains__(self, word):
        node = self._descend(word)
        return node is not None and node.terminal

    def complete(self, prefix):
        """Yield all stored words that begin with prefix, alphabetically."""
        start = self._descend(prefix)
        if start is None:
            return
        pending = [(prefix, start)]
        while pending:
            text, node = pending.pop()
            if node.terminal:
                yield text
            # Largest letter goes on first so the smallest comes off first.
            for letter in sorted(node.children, reverse=True):
                pending.append((text + letter, node.children[letter]))
