"""Weighted marks for a class of students."""

from bisect import bisect_right
from collections import defaultdict
from statistics import mean, median

BOUNDARIES = (60, 70, 80, 90)
LETTERS = "FDCBA"


def letter(score):
    """Translate a score out of 100 to a letter; 90 is the lowest A."""
    return LETTERS[bisect_right(BOUNDARIES, score)]


class GradeBook:
    def __init__(self, **weights):
        """Take category weights, for example homework=40, exam=60."""
        total = sum(weights.values())
        if total <= 0:
            raise ValueError("the weights must add up to something")
        self.weights = {name: weight / total for name, weight in weights.items()}
        self.marks = defaultdict(lambda: defaultdict(list))

    def record(self, student, category, score):
        if category not in self.weights:
            raise KeyError(f"no category called {category}")
        if not 0 <= score <= 100:
            raise ValueError("scores lie between 0 and 100")
        self.marks[student][category].append(score)

    def final(self, student):
        """Weighted mean over the categories that have marks so far."""
        if student not in self.marks:
            raise KeyError(f"no marks for {student}")
        earned = share = 0.0
        for category, scores in self.marks[student].items():
            earned += self.weights[category] * mean(scores)
            share += self.weights[category]
        return earned / share

    def ranking(self):
        return sorted(((self.final(s), s) for s in self.marks), reverse=True)

    def class_median(self):
        return median(self.final(student) for student in self.marks)
