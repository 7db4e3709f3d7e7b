"""The class of the teacher and of dense students: transformers' GPT-2, which takes no unknown argument."""

from transformers.models.gpt2 import modeling_gpt2
from transformers.utils import can_return_tuple

from mome.models.generation import ContextEnd


class GPT2LMHeadModel(ContextEnd, modeling_gpt2.GPT2LMHeadModel):
    """transformers' class, weights and numbers alike, with a clear error where its context ends.

    It keeps the name, by which pipelines and saved configurations know what they can do with it.
    """

    accepts_loss_kwargs = True

    def __init__(self, config):
        super().__init__(config)
        self.generation_config.use_cache = True  # the configuration's False is meant for training
        self.loss_type = "ForCausalLM"  # which it is; the Trainer counts labels by it, and asks names alone

    @can_return_tuple
    def forward(self, input_ids=None, past_key_values=None, attention_mask=None, token_type_ids=None,
                position_ids=None, inputs_embeds=None, labels=None, use_cache=None, logits_to_keep=0,
                output_hidden_states=None, output_attentions=None, num_items_in_batch=None):
        """Return what GPT2LMHeadModel returns; ValueError for a sequence that is longer than the context."""
        read = input_ids if input_ids is not None else inputs_embeds
        if read is not None:
            past = 0 if past_key_values is None else past_key_values.get_seq_length()
            self.check_positions(past + read.shape[1], None, position_ids)  # it counts padding, too
        asked = {"output_hidden_states": output_hidden_states, "output_attentions": output_attentions}
        return super().forward(
            input_ids, past_key_values=past_key_values, attention_mask=attention_mask,
            token_type_ids=token_type_ids, position_ids=position_ids, inputs_embeds=inputs_embeds,
            labels=labels, use_cache=use_cache, logits_to_keep=logits_to_keep,
            num_items_in_batch=num_items_in_batch,
            **{name: value for name, value in asked.items() if value is not None})
