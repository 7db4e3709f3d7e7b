"""Learn which word follows which, then babble in the same manner."""

import random
from collections import Counter, defaultdict, deque

START, END = "<s>", "</s>"


class MarkovChain:
    """Text generator whose memory reaches `order` words back."""

    def __init__(self, order=2):
        if order < 1:
            raise ValueError("order must be at least one")
        self.order = order
        self.followers = defaultdict(Counter)

    def learn(self, sentence):
        state = deque([START] * self.order, maxlen=self.order)
        for word in [*sentence.split(), END]:
            self.followers[tuple(state)][word] += 1
            state.append(word)

    def probability(self, context, word):
        """Share of times that word came right after the context."""
        seen = self.followers.get(tuple(context))
        if not seen:
            return 0.0
        return seen[word] / seen.total()

    def generate(self, rng=None, limit=50):
        """Compose one sentence of at most limit words."""
        if not self.followers:
            raise RuntimeError("learn something first")
        rng = rng or random.Random()
        state = deque([START] * self.order, maxlen=self.order)
        output = []
        while len(output) < limit:
            options = self.followers[tuple(state)]
            [word] = rng.choices(list(options), weights=list(options.values()))
            if word == END:
                break
            output.append(word)
            state.append(word)
        return " ".join(output)
