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

    def _prepare_cache_for_generation(self, generation_config, model_kwargs, *args):
        # transformers' last word before it starts, when lengths and masks are final.
        mask, context = model_kwargs.get("attention_mask"), self.config.max_position_embeddings
        padding = 0 if mask is None or mask.dim() != 2 else mask.shape[1] - int(mask.sum(dim=1).max())
        length = generation_config.max_length - padding
        if length > context:
            raise ValueError(f"prompt and new tokens are {length} together, and the context ends after "
                             f"{context}: cut the prompt, or lower max_new_tokens (max_length)")
        return super()._prepare_cache_for_generation(generation_config, model_kwargs, *args)


class ModularGeneration(ContextEnd):
    """Generation of a modular model: the prompt decides, row by row, for all that follows."""

    def generate(self, inputs=None, generation_config=None, logits_processor=None, stopping_criteria=None,
                 prefix_allowed_tokens_fn=None, synced_gpus=None, assistant_model=None, **kwargs):
        """Return generated ids as transformers does, each row by its expert; `forward`'s switches hold.

        Raises ValueError for an empty prompt, right padding, a prompt and new tokens longer than the context,
        a cache other than a dynamic one, guidance, and an assistant without this model's experts.
        """
        ids, mask = inputs if inputs is not None else kwargs.get("input_ids"), kwargs.get("attention_mask")
        embeddings, told = kwargs.get("inputs_embeds"), kwargs.get("expert_index")
        self.check_served(generation_config, assistant_model, kwargs)
        if embeddings is None:
            kwargs["attention_mask"] = mask = self.check_prompt(ids, mask)
        if told is not None:  # as a tensor, which beams repeat
            kwargs["expert_index"] = self.check_index(told, len(ids if embeddings is None else embeddings))
        elif embeddings is None and kwargs.get("average_experts") is None and (
                kwargs.get("common_expert") != "alone"):
            here, allowed = self.device, self.check_experts(kwargs.get("allowed_experts"))
            mask = None if mask is None else mask.to(here)  # prompts may lie elsewhere
            kwargs["expert_index"] = self.route(ids.to(here), mask, allowed)
        if kwargs.get("average_experts") == "posterior":  # weighs the experts by the whole sequence
            kwargs["use_cache"] = False
        return super().generate(inputs, generation_config, logits_processor, stopping_criteria,
                                prefix_allowed_tokens_fn, synced_gpus, assistant_model, **kwargs)

    def check_prompt(self, ids, mask) -> torch.Tensor | None:
        """Return the prompts' attention mask (B, T), None where all is text."""
        is_table = ids is not None and ids.dim() == 2 and ids.shape[1] > 0
        if not is_table or (mask is not None and (mask.sum(dim=-1) == 0).any()):
            raise ValueError("input_ids holds an empty prompt, or is no table (B, T); every row needs a "
                             "token, for example bos")
        pad, eos = self.generation_config.pad_token_id, self.generation_config.eos_token_id
        if mask is None and pad is not None and pad not in (eos if isinstance(eos, list) else [eos]) and (
                ids == pad).any():
            mask = (ids != pad).long()  # as transformers infers it, which comes too late to route by
        if mask is not None and (mask[:, -1] == 0).any():
            raise ValueError("attention_mask ends with padding; pad prompts on the left: padding_side='left'")
        return mask

    def check_served(self, generation_config, assistant, kwargs: dict) -> None:
        """Raise ValueError for ways to generate that would not give this model's text."""
        own = self.generation_config
        if not isinstance(generation_config, GenerationConfig | None):
            raise ValueError(f"generation_config={type(generation_config).__name__} is not allowed; it must "
                             "be a GenerationConfig, and an attention_mask goes by its name")
        given = {**vars(own), **vars(generation_config or own), **kwargs}
        if given.get("cache_implementation") not in (None, "dynamic"):
            raise ValueError(f"cache_implementation={given['cache_implementation']!r} is not allowed; the "
                             "experts of a batch share a 'dynamic' cache, which is the default")
        if given.get("guidance_scale") not in (None, 1) or kwargs.get("negative_prompt_ids") is not None:
            raise ValueError(f"guidance_scale={given.get('guidance_scale')!r} is not allowed; guidance reads "
                             "a second text, on which no router has decided")
        config = getattr(assistant, "config", None)
        if assistant is not None and getattr(config, "languages", None) != self.config.languages:
            raise ValueError(f"assistant_model={type(assistant).__name__} is not allowed; it is told this "
                             f"model's experts and must have them: {', '.join(self.config.languages)}")

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
