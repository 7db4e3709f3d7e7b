"""What a model is worth: scores, intervals, claims over seeds, forgetting, the price of routing."""
