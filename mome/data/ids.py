"""What ids stand for: the tokenizer that made them, known by its hash."""

import hashlib
import json

# A text that spells out "</s>" holds four characters, not the end of a document.
PLAIN = {"add_special_tokens": False, "return_attention_mask": False, "split_special_tokens": True}


def hash_tokenizer(tokenizer) -> str:
    """Return the SHA-256 of a fast tokenizer's rules, padding and truncation aside; if equal, so are ids."""
    rules = json.loads(tokenizer.backend_tokenizer.to_str()) | {"padding": None, "truncation": None}
    text = json.dumps(rules, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def check_ids(ids, vocab_size: int) -> None:
    """Raise ValueError unless every id of an array or tensor lies in the vocabulary."""
    if 0 not in ids.shape and not (int(ids.min()) >= 0 and int(ids.max()) < vocab_size):
        raise ValueError(f"input_ids from {int(ids.min())} to {int(ids.max())} are not allowed; "
                         f"known are ids from 0 to {vocab_size - 1}")
