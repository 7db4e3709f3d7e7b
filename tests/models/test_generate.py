"""What `generate` promises, of ours; the oracle is transformers' GPT-2."""

import pytest
import torch
from torch.testing import assert_close
from transformers import GenerationConfig, TextIteratorStreamer, WatermarkingConfig
from transformers.cache_utils import DynamicCache, EncoderDecoderCache, StaticCache
from transformers.generation import LogitsProcessorList, MinLengthLogitsProcessor, StoppingCriteriaList
from transformers.generation.configuration_utils import ALL_CACHE_IMPLEMENTATIONS

from mome.data.tokenizer import N_BYTE_TOKENS, train_tokenizer
from mome.models.assemble import build_moe
from mome.models.gpt2 import build_gpt2
from mome.scales import Shape

PLAIN = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None}


def is_modular(model):
    return hasattr(model, "experts")


def skip_without_driver():
    if torch.version.cuda and not torch.cuda.is_available():
        pytest.skip("PyTorch's build with CUDA moves no cache elsewhere without a GPU")


def make_offloading(model, gpt2):
    skip_without_driver()
    return DynamicCache(offloading=True)


def generate(model, ids, **options):
    torch.manual_seed(5)
    return model.generate(ids, **PLAIN | options)


def first_tokens(batch_id, ids):
    return list(range(3, 20))


def stop_at_12(ids, scores):
    return torch.full((len(ids),), ids.shape[1] >= 12)


def take_low(model, input_ids, logits_processor, stopping_criteria, generation_config, **kwargs):
    """A decoding loop of a user's own: twice the best of the first ten entries."""
    told = {name: kwargs[name] for name in ("expert_index",) if name in kwargs}
    for _ in range(2):
        logits = model(input_ids, use_cache=False, **told).logits
        input_ids = torch.cat([input_ids, logits[:, -1:, :10].argmax(-1)], dim=1)
    return input_ids


@pytest.mark.parametrize("options", [
    {}, {"num_beams": 3}, {"num_beams": 3, "num_return_sequences": 2, "length_penalty": 0.1},
    {"num_beams": 2, "do_sample": True}, {"do_sample": True, "top_k": 9, "temperature": 0.7},
    {"do_sample": True, "num_return_sequences": 3, "top_p": 0.8, "min_p": 0.01, "typical_p": 0.9},
    {"repetition_penalty": 3.0, "no_repeat_ngram_size": 2, "renormalize_logits": True},
    {"eos_token_id": [5, 40, 41, 42, 43, 44, 45, 46], "pad_token_id": 0, "min_new_tokens": 2},
    {"bad_words_ids": [[7], [9, 11]], "suppress_tokens": [4], "forced_eos_token_id": 8},
    {"prefix_allowed_tokens_fn": first_tokens, "num_beams": 2}, {"prefill_chunk_size": 4},
    {"logits_processor": LogitsProcessorList([MinLengthLogitsProcessor(14, 5)])},
    {"stopping_criteria": StoppingCriteriaList([stop_at_12])}, {"use_cache": False}, {"guidance_scale": 1.0},
    {"max_time": 60.0}, {"custom_generate": take_low}, {"watermarking_config": WatermarkingConfig(bias=5.0)},
    {"max_length": 15, "max_new_tokens": None}, {"temperature": None, "top_p": None, "top_k": None}])
def test_each_way_to_generate_gives_what_transformers_gpt2_gives(twin, gpt2, ids, options):
    assert torch.equal(generate(twin, ids, **options), generate(gpt2, ids, **options))


def outcome(model, ids, options):
    try:
        return generate(model, ids, **options)
    except (ValueError, OSError) as error:  # OSError: there is no such folder of custom code
        return str(error)


def make_assistant(gpt2, kind):
    """Return GPT-2 itself, or a smaller model of ours."""
    small = build_gpt2(Shape(1, 2, 16), 60, 24, seed=1)
    if kind == "small modular":
        small = build_moe(["en", "fr", "py"], small.config, has_common_expert=False, seed=1)
    return gpt2 if kind == "gpt2" else small.eval()


@pytest.mark.parametrize("options, words", [
    ({"guidance_scale": 1.5}, "guidance_scale"), ({"prompt_lookup_num_tokens": 3}, ""),
    ({"guidance_scale": 1.5, "negative_prompt_ids": torch.full((1, 3), 9)}, "guidance_scale"),
    ({"assistant_model": "gpt2"}, "assistant_model"), ({"assistant_model": "small dense"}, "assistant_model"),
    ({"assistant_model": "small modular"}, "assistant_model"), ({"assistant_early_exit": 1}, "early_exit"),
    ({"penalty_alpha": 0.6, "top_k": 4}, "ontrastive"), ({"dola_layers": "low"}, "ola"),
    ({"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.5}, "roup"), ({"use_mtp": True}, "mtp"),
    ({"force_words_ids": [[7, 9]], "num_beams": 2}, "onstrained"), ({"token_healing": True}, "token"),
    ({"stop_strings": ["a"]}, "stop strings"),
    ({"custom_generate": "nowhere/nothing", "trust_remote_code": False}, "custom_generate")])
def test_what_is_not_served_is_refused_by_name_and_what_is_served_is_right(twin, gpt2, ids, options, words):
    ids, options = ids[:1].repeat(1, 2)[:, :14], dict(options)  # repeats itself: something to look up
    if "assistant_model" in options:
        options["assistant_model"] = make_assistant(gpt2, options["assistant_model"])
    forms = [options]
    if not set(options) & {"assistant_model", "negative_prompt_ids", "custom_generate"}:
        forms.append({"generation_config": GenerationConfig(**PLAIN | options)})
    for given in forms:
        try:
            wanted = outcome(gpt2, ids, given)
        except IndexError:  # transformers' odd word for a model that has no early exit
            wanted = None
        if wanted is None and not is_modular(twin):
            continue
        found = outcome(twin, ids, given)
        if isinstance(found, str):
            assert words and words in found and (is_modular(twin) or isinstance(wanted, str))
        else:
            assert torch.equal(found, wanted)


@pytest.mark.parametrize("told", [{}, {"expert_index": [2]}, {"common_expert": "alone"},
                                  {"average_experts": "logits"}, {"allowed_experts": ["fr", "py"]}])
def test_assisted_generation_of_distinct_experts_gives_the_text_of_plain_generation(build, ids, told):
    model, assistant = build(has_common_expert=True), build(has_common_expert=True)
    assistant.experts["fr"].ln_f.bias.data.normal_()
    for row in ids[:2]:
        row = row.repeat(2)[None, :14]
        wanted = generate(model, row, **told)
        for options in ({"prompt_lookup_num_tokens": 3}, {"assistant_model": assistant}):
            assert torch.equal(generate(model, row, **options, **told), wanted)


def count_forwards(model):
    calls = []
    model.get_input_embeddings().register_forward_pre_hook(lambda *_: calls.append(1))
    return calls


def test_assistance_fills_the_context_or_is_refused_before_the_first_step(twin, ids):
    calls = count_forwards(twin)
    for row in ids:
        row = row.repeat(2)[None, :14]
        wanted = generate(twin, row, max_new_tokens=10)
        for options in ({"prompt_lookup_num_tokens": 3}, {"assistant_model": twin}):
            calls.clear()
            try:
                assert torch.equal(generate(twin, row, max_new_tokens=10, **options), wanted)
            except ValueError as error:  # transformers 5.23 looks up more than fits
                assert "context" in str(error) and not calls


@pytest.mark.parametrize("name", [*ALL_CACHE_IMPLEMENTATIONS, "paged", "magnetic"])
def test_a_named_cache_gives_the_text_of_no_cache_or_is_refused_by_name(twin, ids, name):
    if "offloaded" in name:
        skip_without_driver()
    wanted = generate(twin, ids, use_cache=False)
    for place in ("keyword", "config", "model"):
        try:
            asked = {"cache_implementation": name}
            if place == "config":
                asked = {"generation_config": GenerationConfig(**asked)}
            elif place == "model":
                twin.generation_config.cache_implementation, asked = name, {}
            found = generate(twin, ids, **asked)
        except torch.AcceleratorError:
            assert "offloaded" in name and not is_modular(twin)
            pytest.skip("an offloading cache, which a torch built for CUDA makes only where it finds a GPU")
        except ValueError as error:
            assert "cache_implementation" in str(error) and name in str(error) and name != "dynamic"
        except (ImportError, AssertionError):  # for want of a library of fewer bits, and of a GPU
            assert name.startswith(("quantized", "offloaded")) and not is_modular(twin)
        else:
            assert torch.equal(found, wanted)


@pytest.mark.parametrize("make", [
    lambda model, gpt2: DynamicCache(), lambda model, gpt2: DynamicCache(config=model.config),
    lambda model, gpt2: DynamicCache(config=gpt2.config), make_offloading,
    lambda model, gpt2: StaticCache(config=gpt2.config, max_cache_len=24),
    lambda model, gpt2: StaticCache(config=model.config, max_cache_len=24),
    lambda model, gpt2: EncoderDecoderCache(DynamicCache(), DynamicCache()),
    lambda model, gpt2: (), lambda model, gpt2: "warm",
    lambda model, gpt2: ((torch.zeros(6, 2, 0, 8),) * 2,) * 2])
def test_a_given_cache_gives_the_text_of_no_cache_or_is_refused_by_name(twin, gpt2, ids, make):
    try:
        cache = make(twin, gpt2)
    except torch.AcceleratorError:
        pytest.skip("an offloading cache, which a torch built for CUDA makes only where it finds a GPU")
    if not is_modular(twin) and (not hasattr(cache, "update") or getattr(cache, "offloading", False)):
        pytest.skip("transformers' own words for things that are no cache, or need a GPU")
    for call, wanted in ((generate, generate(twin, ids)),
                         (lambda model, *args, **given: model(*args, **given).logits, twin(ids).logits)):
        try:
            found = call(twin, ids, past_key_values=make(twin, gpt2), use_cache=True)
        except ValueError as error:
            assert ("past_key_values" in str(error) and type(cache) is not DynamicCache) or cache.offloading
        else:
            assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_continuous_batches_are_refused_as_they_know_no_experts_and_no_strict_forward(twin):
    for call in (twin.generate_batch, twin.init_continuous_batching):
        with pytest.raises(ValueError, match="batch"):
            call([[3, 4, 5]])


def test_prompts_come_under_every_name_and_choices_in_every_form(twin, ids):
    wanted, plain = generate(twin, ids), GenerationConfig(**PLAIN)
    assert torch.equal(twin.generate(ids, plain), wanted)
    assert torch.equal(twin.generate(inputs=ids, generation_config=plain), wanted)
    assert torch.equal(twin.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **PLAIN), wanted)
    twin.generation_config.max_new_tokens, twin.generation_config.eos_token_id = 6, None
    assert torch.equal(twin.generate(ids), wanted)
    assert torch.equal(twin.bfloat16().generate(ids)[:, :10], ids)
    with pytest.raises(ValueError, match="input_ids"):
        twin.generate(ids, input_ids=ids)


def test_embeddings_as_prompts_give_the_new_tokens_of_their_ids(build, twin, gpt2, ids):
    told, embedded = {"expert_index": [0] * 6} if is_modular(twin) else {}, twin.get_input_embeddings()(ids)
    for options in ({}, {"num_beams": 2}, {"use_cache": False, "num_return_sequences": 2, "do_sample": True}):
        wanted = generate(gpt2, ids, **options)
        assert torch.equal(generate(twin, None, inputs_embeds=embedded, **told, **options), wanted[:, 10:])
        assert torch.equal(generate(twin, ids, inputs_embeds=embedded, **told, **options), wanted)
    model = build(has_common_expert=True)
    with pytest.raises(ValueError, match="inputs_embeds"):
        generate(model, None, inputs_embeds=model.embedding(ids))
    for use in ({"common_expert": "alone"}, {"average_experts": "hidden"}):
        found = generate(model, None, inputs_embeds=model.embedding(ids), **use)
        assert torch.equal(found, generate(model, ids, **use)[:, 10:])


@pytest.mark.parametrize("use", [{"num_beams": 2}, {"num_beams": 3, "num_return_sequences": 3},
                                 {"num_return_sequences": 2, "do_sample": True}])
def test_experts_told_by_a_list_are_repeated_with_their_rows(build, ids, experts, use):
    model = build(has_common_expert=True)
    found, wanted = (generate(model, ids, expert_index=index, **use) for index in (experts.tolist(), experts))
    assert torch.equal(found, wanted) and len(found) == 6 * use.get("num_return_sequences", 1)
    if "do_sample" not in use:
        alone = [generate(model, row[None], expert_index=[index], **use)
                 for row, index in zip(ids, experts.tolist(), strict=True)]
        assert torch.equal(found, torch.cat(alone))


@pytest.mark.parametrize("options", [{}, {"num_beams": 2}, {"do_sample": True}])
def test_all_that_a_returned_dict_holds_is_what_transformers_gpt2_gives(twin, gpt2, ids, options):
    for model in (twin, gpt2):
        model.set_attn_implementation("eager")
    names = ("return_dict_in_generate", "output_scores", "output_logits", "output_hidden_states",
             "output_attentions")
    found, wanted = (generate(model, ids, **options, **dict.fromkeys(names, True)) for model in (twin, gpt2))
    assert type(found) is type(wanted) and found.keys() == wanted.keys()
    assert torch.equal(found.sequences, wanted.sequences)
    for name in ("scores", "logits", "hidden_states"):
        assert_close(found[name], wanted[name], atol=1e-5, rtol=1e-5)
    for step, other in zip(found.attentions, wanted.attentions, strict=True):
        assert_close([layer[:, :2] for layer in step], list(other), atol=1e-5, rtol=1e-5)
    scores = (model.compute_transition_scores(one.sequences, one.scores, one.get("beam_indices"), True)
              for model, one in ((twin, found), (gpt2, wanted)))
    assert_close(*scores, atol=1e-4, rtol=1e-4)


def test_a_conversation_goes_on_from_the_cache_that_generation_returned(twin, gpt2, ids):
    first = generate(twin, ids[:, :4], return_dict_in_generate=True)
    turn = torch.cat([first.sequences, ids[:, 4:8]], dim=1)
    assert torch.equal(generate(twin, turn, past_key_values=first.past_key_values), generate(gpt2, turn))
    assert first.past_key_values.get_seq_length() == turn.shape[1] + 5


def test_pad_ids_without_a_mask_are_masked_as_transformers_infers(twin, gpt2, build, ids):
    padded, mask = ids.clone(), torch.ones_like(ids)
    padded[0, :4], padded[3, :7], padded[4, 5] = 0, 0, 0
    mask[padded == 0] = 0
    for options in ({}, {"use_cache": False}, {"pad_token_id": 7}, {"pad_token_id": 2, "eos_token_id": 2},
                    {"generation_config": GenerationConfig(**PLAIN | {"pad_token_id": 7})}):
        assert torch.equal(generate(twin, padded, **options), generate(gpt2, padded, **options)), options
    model = build(has_common_expert=True)
    model.router.weight[0] = torch.tensor([99.0, 0, 0, 0])  # a router that read padding would say English
    found, wanted = generate(model, padded), generate(model, padded, attention_mask=mask)
    assert torch.equal(found, wanted) and torch.equal(wanted[0, 4:], generate(model, ids[:1, 4:])[0])


def test_a_mask_of_any_type_means_the_same(twin, gpt2, ids):
    mask = torch.ones_like(ids)
    mask[0, :4], mask[3, :7] = 0, 0
    wanted, positions = generate(gpt2, ids, attention_mask=mask), (mask.cumsum(-1) - 1).clamp_min(0)
    logits = gpt2(ids, attention_mask=mask, position_ids=positions).logits
    for one in (mask, mask.bool(), mask.float(), mask.int()):
        assert torch.equal(generate(twin, ids, attention_mask=one), wanted)
        if is_modular(twin):  # it counts positions by the mask itself
            found = twin(ids, attention_mask=one).logits
            assert_close(found[mask == 1], logits[mask == 1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("options", [
    {}, {"num_beams": 2}, {"use_cache": False}, {"prefill_chunk_size": 4}, {"prompt_lookup_num_tokens": 3},
    {"max_length": 60, "max_new_tokens": None}, {"do_sample": True, "num_return_sequences": 2},
    {"max_new_tokens": None, "generation_config": GenerationConfig(max_length=30)}])
def test_a_prompt_whose_new_tokens_do_not_fit_is_refused_before_the_first_step(twin, ids, options):
    calls = count_forwards(twin)
    with pytest.raises(ValueError, match=r"context.*24|24.*context"):
        generate(twin, ids[:1], **{"max_new_tokens": 30} | options)
    assert not calls


def test_the_context_can_be_filled_and_a_prompt_longer_than_it_is_refused(twin, gpt2, ids):
    assert torch.equal(generate(twin, ids, max_new_tokens=14), generate(gpt2, ids, max_new_tokens=14))
    found = twin.generate(ids, do_sample=False, eos_token_id=None)  # no length asked for: to the end
    assert torch.equal(found, gpt2.generate(ids, do_sample=False, eos_token_id=None)) and found.shape[1] == 24
    with pytest.raises(ValueError, match="context"):
        generate(twin, ids.repeat(1, 3))


class Heard(list):
    put = list.append

    def end(self):
        self.append("end")


def test_streamers_hear_every_token_and_strings_stop_a_text(twin, ids):
    heard, tokenizer = Heard(), train_tokenizer([], N_BYTE_TOKENS)
    found = generate(twin, ids[:1], streamer=heard)
    assert torch.equal(torch.cat([tokens.flatten() for tokens in heard[:-1]]), found[0])
    assert heard[-1] == "end"
    model = build_gpt2(Shape(1, 2, 16), N_BYTE_TOKENS, 24, seed=0)
    if is_modular(twin):
        model = build_moe(["en", "fr"], model.config, has_common_expert=False, seed=0)
    streamer = TextIteratorStreamer(tokenizer, skip_prompt=True)
    inputs = tokenizer("text", return_tensors="pt")
    new = model.eval().generate(**inputs, streamer=streamer, **PLAIN)[0, 4:]
    assert "".join(streamer) == tokenizer.decode(new)
    found = model.generate(**inputs, stop_strings=[tokenizer.decode(new[:1])], tokenizer=tokenizer, **PLAIN)
    assert torch.equal(found[0, 4:], new[:1])


def test_a_posterior_is_refused_beside_an_assistant_which_needs_a_cache(build, ids):
    for options in ({"prompt_lookup_num_tokens": 2}, {"assistant_model": build()}):
        with pytest.raises(ValueError, match="average_experts='posterior' is not allowed with an assistant"):
            generate(build(), ids[:1], average_experts="posterior", **options)


@pytest.mark.parametrize("name", ["max_new_token", "expert", "token_type", "negative_ids"])
def test_a_misspelt_option_of_generation_is_refused_by_its_name(twin, ids, name):
    with pytest.raises((TypeError, ValueError), match=name):
        generate(twin, ids, **{name: 3})


@pytest.mark.parametrize("use", [{"allowed_experts": ["es"]}, {"allowed_experts": []},
                                 {"common_expert": "never"}, {"average_experts": "votes"}])
def test_bad_switches_are_refused_before_the_first_step(build, ids, use):
    model = build(has_common_expert=True)
    calls = count_forwards(model)
    with pytest.raises(ValueError, match=next(iter(use))):
        generate(model, ids, **use)
    assert not calls
