"""Data: where texts come from, what is cleaned away, how they become rows of tokens; here, the choices."""

SPLITS = ("train", "validation", "test")
# The values of a scale that make its data set what it is.
DATA_OPTIONS = ("vocab_size", "context", "tokens_per_language", "max_diff_percent", "validation_fraction",
                "test_fraction", "held_out_tokens", "common_articles", "near_duplicates", "shares")
