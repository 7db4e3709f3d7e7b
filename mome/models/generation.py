"""What stands before transformers' GenerationMixin: context's end, caches, guidance, the prompt's route."""

import torch
from transformers import GenerationConfig
from transformers.cache_utils import DynamicCache, DynamicLayer


class ContextEnd:
    """Generation that says where the context ends, before its first step instead of at its last."""

    def check_positions(self, length: int, mask: torch.Tensor | None, position_ids) -> None:
        """Raise ValueError where `length` tokens, the cached ones too, leave the context, padding aside.

        Also where `position_ids` do; they take the place of counting.
        """
        context = self.config.max_position_embeddings
        if position_ids is not None:
            low, high = (int(position_ids.min()), int(position_ids.max())) if position_ids.numel() else (0, 0)
            if low < 0 or high >= context:
                raise ValueError(f"position_ids from {low} to {high} are not allowed; the context has "
                                 f"positions from 0 to {context - 1}")
            return
        if length > context and mask is not None:
            length = int(mask.sum(dim=-1).max())
        if length > context:
            raise ValueError(f"input_ids of {length} tokens, cached ones too, are not allowed; the context "
                             f"ends after {context}: cut them, for example to their last {context}")

    def init_continuous_batching(self, *args, **kwargs):
        raise ValueError("generate_batch and cache_implementation='paged' are not allowed; generate takes "
                         "several prompts, padded on the left")

    def prepare_inputs_for_generation(self, input_ids, inputs_embeds=None, **kwargs):
        # Takes inputs_embeds by name, from which transformers knows that they may be given.
        found = super().prepare_inputs_for_generation(input_ids, inputs_embeds=inputs_embeds, **kwargs)
        for name in ("tokenizer", "assistant_tokenizer"):  # of `stop_strings`; no forward reads them
            found.pop(name, None)
        return found

    def _prepare_cache_for_generation(self, generation_config, model_kwargs, *args):
        # transformers' last word before it starts, when lengths and masks are final.
        if (layer := generation_config.assistant_early_exit) is not None:
            raise ValueError(f"assistant_early_exit={layer!r} is not allowed; this model has no early exit")
        mask, context = model_kwargs.get("attention_mask"), self.config.max_position_embeddings
        padding = 0 if mask is None or mask.dim() != 2 else mask.shape[1] - int(mask.sum(dim=1).max())
        guessed = generation_config.prompt_lookup_num_tokens or 0  # are read beyond the last new token
        length = generation_config.max_length - padding + guessed
        if length > context:
            guesses = f", {guessed} guessed ones with them," if guessed else ""
            raise ValueError(f"prompt and new tokens{guesses} are {length} together, and the context ends "
                             f"after {context}: cut the prompt, or lower max_new_tokens (max_length)")
        return super()._prepare_cache_for_generation(generation_config, model_kwargs, *args)


class ModularGeneration(ContextEnd):
    """Generation of a modular model: the prompt decides, row by row, for all that follows."""

    def generate(self, inputs=None, generation_config=None, logits_processor=None, stopping_criteria=None,
                 prefix_allowed_tokens_fn=None, synced_gpus=None, assistant_model=None, **kwargs):
        """Return generated ids as transformers does, each row by its expert; `forward`'s switches hold.

        Raises ValueError for an empty prompt, right padding, a prompt and new tokens longer than the context,
        a cache other than a dynamic one, guidance, and an assistant without this model's experts.
        """
        given = self.check_served(generation_config, assistant_model, kwargs)
        ids = inputs if inputs is not None else kwargs.get("input_ids")
        if ids is not None and (ids.dim() != 2 or ids.shape[1] == 0):
            raise ValueError(f"input_ids of shape {tuple(ids.shape)} hold an empty prompt, or are no table "
                             "(B, T); every row needs a token, for example bos")
        if kwargs.get("average_experts") == "posterior":  # weighs the experts by the whole sequence
            if assistant_model is not None or given.get("prompt_lookup_num_tokens"):
                raise ValueError("average_experts='posterior' is not allowed with an assistant or "
                                 "prompt_lookup_num_tokens, which need a cache")
            kwargs["use_cache"] = False
        return super().generate(inputs, generation_config, logits_processor, stopping_criteria,
                                prefix_allowed_tokens_fn, synced_gpus, assistant_model, **kwargs)

    def check_served(self, generation_config, assistant, kwargs: dict) -> dict:
        """Return all that is given; ValueError for ways to generate that would not give this model's text."""
        own = self.generation_config
        if not isinstance(generation_config, GenerationConfig | None):
            raise ValueError(f"generation_config={type(generation_config).__name__} is not allowed; it must "
                             "be a GenerationConfig, and an attention_mask goes by its name")
        given = {**vars(own), **vars(generation_config or own), **kwargs}
        if given.get("cache_implementation") not in (None, "dynamic"):
            raise ValueError(f"cache_implementation={given['cache_implementation']!r} is not allowed; the "
                             "experts of a batch share a 'dynamic' cache, which is the default")
        check_cache(kwargs.get("past_key_values"))
        if given.get("guidance_scale") not in (None, 1) or kwargs.get("negative_prompt_ids") is not None:
            raise ValueError(f"guidance_scale={given.get('guidance_scale')!r} is not allowed; guidance reads "
                             "a second text, on which no router has decided")
        languages = getattr(getattr(assistant, "config", None), "languages", None)
        if assistant is not None and languages != self.config.languages:
            raise ValueError(f"assistant_model={type(assistant).__name__} is not allowed; it is told this "
                             f"model's experts and must have them: {', '.join(self.config.languages)}")
        return given

    def _expand_inputs_for_generation(self, expand_size=1, is_encoder_decoder=False, input_ids=None,
                                      **kwargs):
        # Prompts and mask are final here, and not yet copied for beams: here each finds its expert.
        mask, embeddings, told = (kwargs.get(name) for name in (
            "attention_mask", "inputs_embeds", "expert_index"))
        if mask is not None and (mask.sum(dim=-1) == 0).any():
            raise ValueError("attention_mask holds an empty prompt; every row needs a token, for example bos")
        if mask is not None and (mask[:, -1] == 0).any():
            raise ValueError("attention_mask ends with padding; pad prompts on the left: padding_side='left'")
        if told is not None:
            kwargs["expert_index"] = self.check_index(told, len(input_ids))
        elif embeddings is None and kwargs.get("average_experts") is None and (
                kwargs.get("common_expert") != "alone"):
            here, allowed = self.device, self.check_experts(kwargs.get("allowed_experts"))
            mask = None if mask is None else mask.to(here)  # prompts may lie elsewhere
            kwargs["expert_index"] = self.route(input_ids.to(here), mask, allowed)
        return super()._expand_inputs_for_generation(expand_size, is_encoder_decoder, input_ids, **kwargs)

    def _prepare_cache_for_generation(self, generation_config, model_kwargs, *args):
        generation_config.cache_implementation = None  # "dynamic" is what is made here
        if model_kwargs.get("past_key_values") is None and generation_config.use_cache is not False:
            model_kwargs["past_key_values"] = DynamicCache()  # grows by layers, of as many bodies as answer
        return super()._prepare_cache_for_generation(generation_config, model_kwargs, *args)


def check_cache(cache) -> None:
    """Raise ValueError for a cache that experts cannot share; None is allowed."""
    is_dynamic = isinstance(cache, DynamicCache) and not getattr(cache, "offloading", False)
    if cache is not None and not (is_dynamic and all(type(layer) is DynamicLayer for layer in cache.layers)):
        raise ValueError(f"past_key_values={type(cache).__name__} is not allowed; experts share a plain "
                         "DynamicCache()")
