"""Runs: how notebooks are planned and executed, what they leave in their folders, and what is read of it."""

CLAIMS = ("C1", "C2", "C3", "C4", "C5")
FINDING_VERDICTS = ("holds", "does not hold", "cannot tell")
