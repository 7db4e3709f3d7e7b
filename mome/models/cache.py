"""One cache of keys and values for a whole batch, shared by all experts."""

import torch
from transformers import GPT2Model
from transformers.cache_utils import Cache, DynamicLayer


class RowsOfCache:
    """Some rows and layers of a batch's cache, which an expert's body takes for a cache of its own.

    All bodies have one shape, so keys and values of every row fit one cache, whichever expert wrote them:
    what generation does to whole batches (growing, reordering beams) needs to know nothing of experts.
    `rows` None is the whole batch, `length` the number of positions that were there before this step.
    """

    def __init__(self, cache: Cache, rows: torch.Tensor | None, batch_size: int, first_layer: int, length):
        self.cache, self.rows, self.batch_size = cache, rows, batch_size
        self.first_layer, self.length = first_layer, length

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self.length
    get_query_offset = get_seq_length

    def get_mask_sizes(self, query_length: int, layer_idx: int = 0) -> tuple[int, int]:
        return self.length + query_length, 0

    def update(self, keys, values, layer_idx: int, *args, **kwargs) -> tuple[torch.Tensor, torch.Tensor]:
        """Store keys and values (rows, heads, T, D) of new positions; return these rows' of all positions."""
        number = self.first_layer + layer_idx
        while 0 < len(self.cache.layers) <= number:  # a cache made for one body has layers for one
            self.cache.layers.append(DynamicLayer())
        if self.rows is None:
            return self.cache.update(keys, values, number)
        if self.cache.get_seq_length(number) == self.length:  # a step's first expert makes room for all rows
            room = keys.new_zeros(self.batch_size, *keys.shape[1:])
            self.cache.update(room, room.clone(), number)
        layer = self.cache.layers[number]
        layer.keys[self.rows, :, self.length:], layer.values[self.rows, :, self.length:] = keys, values
        return layer.keys[self.rows], layer.values[self.rows]


def run_rows(inputs: dict, cache, length: int, wanted: dict, body: GPT2Model, rows=None,
             first_layer=0) -> list[torch.Tensor]:
    """Return the states of some rows (None: all) in a body behind `length` cached tokens.

    The last hidden states (rows, T, D); where wanted, all hidden states, and attentions (rows, heads, T, S).
    """
    batch_size = len(inputs["inputs_embeds"])
    view = None if cache is None else RowsOfCache(cache, rows, batch_size, first_layer, length)
    if rows is not None:
        inputs = {name: None if part is None else part[rows] for name, part in inputs.items()}
    found = body(**inputs, past_key_values=view, use_cache=view is not None, **wanted)
    return [found.last_hidden_state, *(found.hidden_states or ()), *(found.attentions or ())]
