"""Runs: how notebooks are planned and executed, what they leave in their folders, and what is read of it."""

# What the paper says, in our words.
CLAIMS = {
    "C1": "Adaptive and fixed alpha perform alike; adaptive is marginally better.",
    "C2": "Combining both losses in each step learns more stably than alternating them.",
    "C3": "A router reaches 99.95 % F1, and logistic regression is the best classifier.",
    "C4": "PLE and JEET perform alike; MoE-CE is slightly worse without its common expert, close with it.",
    "C5": "Training on one language after another forgets; one balanced session or the MoE does not."}
FINDING_VERDICTS = ("holds", "partly", "does not hold", "cannot tell")
