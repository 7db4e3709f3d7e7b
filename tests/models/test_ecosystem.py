"""transformers' Trainer, pipeline and Auto classes with our models, as with any of theirs."""

from functools import partial
from math import log

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
    default_data_collator,
    pipeline,
)

from mome.data.tokenizer import N_BYTE_TOKENS, SPECIAL_TOKENS, train_tokenizer
from mome.distill.objective import make_objective
from mome.models.assemble import build_moe
from mome.models.forwards import dense_logits, use_forward
from mome.models.gpt2 import build_gpt2, gpt2_config
from mome.scales import Optimizer, Shape
from mome.train.loop import train_model
from mome.train.optimizer import learning_rate_at, make_optimizer

V = N_BYTE_TOKENS


@pytest.fixture(scope="module")
def tokenizer():
    made = train_tokenizer([], V)
    return PreTrainedTokenizerFast(tokenizer_object=made.backend_tokenizer, padding_side="left",
                                   **SPECIAL_TOKENS)


@pytest.fixture(params=["dense", "modular"])
def model(request):
    """A small model over a tokenizer of bytes; a modular one has a common expert and routes by chance."""
    if request.param == "dense":
        return build_gpt2(Shape(1, 2, 32), V, 24, seed=0)
    made = build_moe(["en", "fr", "py"], gpt2_config(Shape(1, 2, 32), V, 24), has_common_expert=True, seed=0)
    torch.manual_seed(0)
    made.router.weight[3:].normal_()
    return made


def random_rows(count, length=16):
    return torch.randint(3, V, (count, length), generator=torch.Generator().manual_seed(1))


def make_trainer(model, folder, rows, labels=None, collator=default_data_collator, **options):
    labels = rows if labels is None else labels
    data = [{"input_ids": row, "labels": label} for row, label in zip(rows, labels, strict=True)]
    if collator is not default_data_collator:
        data = [{"input_ids": row} for row in rows.tolist()]
    optimizers = options.pop("optimizers", (None, None))
    plain = {"per_device_train_batch_size": 8, "num_train_epochs": 1, "logging_steps": 1, "use_cpu": True,
             "report_to": "none", "save_strategy": "no", "disable_tqdm": True, "dataloader_pin_memory": False,
             "lr_scheduler_type": "constant", "train_sampling_strategy": "sequential"}
    return Trainer(model, TrainingArguments(str(folder), **plain | options), data_collator=collator,
                   train_dataset=data, eval_dataset=data[:6], optimizers=optimizers)


def list_losses(trainer):
    trainer.train()
    return torch.tensor([row["loss"] for row in trainer.state.log_history if "loss" in row])


def test_sixty_steps_of_the_trainer_on_random_tokens_learn_to_copy_nothing(model, tmp_path, tokenizer):
    collate = DataCollatorForLanguageModeling(tokenizer, mlm=False)
    trainer = make_trainer(model, tmp_path, random_rows(480), collator=collate, learning_rate=1e-2)
    losses = list_losses(trainer)
    assert len(losses) == 60
    assert (losses - log(V)).abs().max() < 0.3
    rows = random_rows(64, 20)
    assert abs(model.eval()(rows, labels=rows).loss - log(V)) < 0.15


def test_eight_rows_at_once_and_eight_accumulated_give_one_gradient(model, tmp_path):
    rows, before = random_rows(8), {name: value.clone() for name, value in model.state_dict().items()}
    labels, moves = rows.clone(), []  # supervised to unequal lengths
    labels[torch.arange(16) < torch.tensor([0, 15, 3, 9, 14, 1, 12, 6])[:, None]] = -100
    for batch_size in (8, 1):
        model.load_state_dict(before)
        make_trainer(model, tmp_path, rows, labels, per_device_train_batch_size=batch_size, learning_rate=1.0,
                     gradient_accumulation_steps=8 // batch_size, optim="sgd", max_grad_norm=0.0).train()
        moves.append({name: value - before[name] for name, value in model.state_dict().items()})
    assert any(value.abs().max() > 1e-2 for value in moves[0].values())
    for name, value in moves[0].items():
        assert_close(value, moves[1][name], atol=1e-5, rtol=1e-5)
    model.load_state_dict(before)
    model.zero_grad()
    model.train()(rows, labels=labels).loss.backward()  # and it is the gradient of the mean
    for name, weight in model.named_parameters():
        if weight.grad is not None:
            assert_close(moves[0][name], -weight.grad, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("micro_batch_size", [8, 2])
def test_the_trainers_losses_are_those_of_our_own_loop_on_the_same_batches(model, tmp_path, micro_batch_size):
    rows, values = random_rows(40), Optimizer(learning_rate=3e-3, max_grad_norm=1.0)
    start = {name: value.clone() for name, value in model.state_dict().items()}
    is_dense = not hasattr(model, "experts")
    history = train_model(model, make_objective(None, dense_logits if is_dense else use_forward()),
                          torch.arange(40).view(5, 8).numpy(), rows.numpy(), optimizer=values,
                          micro_batch_size=micro_batch_size)
    model.load_state_dict(start)
    ours = make_optimizer(model, values)
    for group in ours.param_groups:
        group["lr"] = 1.0
    rates = torch.optim.lr_scheduler.LambdaLR(
        ours, partial(learning_rate_at, steps=5, peak=values.learning_rate, warmup_fraction=0.05))
    trainer = make_trainer(model, tmp_path, rows, per_device_train_batch_size=micro_batch_size,
                           gradient_accumulation_steps=8 // micro_batch_size, optimizers=(ours, rates))
    losses = list_losses(trainer)
    assert_close(losses, torch.tensor(history.ce_loss.to_list()).float(), atol=1e-6, rtol=0)
    assert losses[0] - losses[-1] != 0


def test_evaluation_and_prediction_return_logits_whatever_else_the_model_gives(model, tmp_path):
    rows, wanted = random_rows(6), None
    for more in ({}, {"use_cache": True}, {"output_hidden_states": True}):
        for name, value in more.items():
            setattr(model.config, name, value)
        trainer = make_trainer(model, tmp_path, rows, per_device_eval_batch_size=4)
        found = trainer.predict(trainer.eval_dataset)
        logits = found.predictions[0] if "output_hidden_states" in more else found.predictions
        wanted = model.eval()(rows, labels=rows) if wanted is None else wanted
        assert_close(torch.tensor(logits), wanted.logits, atol=1e-5, rtol=1e-5)
        assert torch.equal(torch.tensor(found.label_ids), rows)
        assert trainer.evaluate()["eval_loss"] == pytest.approx(wanted.loss.item(), abs=1e-5)
    hidden = found.predictions[1]
    assert len(hidden) == 2 and hidden[1].shape == (6, 16, 32)


def test_the_trainer_recomputes_activations_smooths_labels_and_saves_what_opens_elsewhere(
        model, tmp_path, tokenizer):
    rows, losses = random_rows(16), []
    start = {name: value.clone() for name, value in model.state_dict().items()}
    for more in ({}, {"gradient_checkpointing": True}):
        model.load_state_dict(start)
        trainer = make_trainer(model, tmp_path, rows, label_smoothing_factor=0.1, learning_rate=1e-2, **more)
        trainer.processing_class = tokenizer
        losses.append(list_losses(trainer))
    assert_close(*losses, atol=1e-5, rtol=1e-5)
    assert losses[0][1] != losses[0][0]
    trainer.save_model(tmp_path / "saved")
    files = {path.name for path in (tmp_path / "saved").iterdir()} - {"training_args.bin"}
    assert {name.split(".")[-1] for name in files} <= {"json", "safetensors", "md"}
    opened = AutoModelForCausalLM.from_pretrained(tmp_path / "saved")
    assert torch.equal(opened(rows).logits, model.eval()(rows).logits)
    assert len(AutoTokenizer.from_pretrained(tmp_path / "saved")) == V


def test_a_tokenizers_batch_is_an_input_and_the_pipeline_writes_from_a_folder(model, tmp_path, tokenizer):
    model.eval().save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    prompts, options = ["one", "a longer one", "un autre"], {"max_new_tokens": 3, "do_sample": False}
    batch = AutoTokenizer.from_pretrained(tmp_path)(prompts, padding=True, return_tensors="pt")
    assert model(**batch, labels=batch["input_ids"]).loss.isfinite()
    tokens = model.generate(**batch, **options)
    written = tokenizer.batch_decode(tokens, skip_special_tokens=True)
    for writer in (pipeline("text-generation", str(tmp_path), device="cpu"),
                   pipeline("text-generation", model=model, tokenizer=tokenizer)):
        texts = [found[0]["generated_text"] for found in writer(prompts, batch_size=3, **options)]
        assert texts == written and all(map(str.startswith, texts, prompts))
        assert texts == [writer(prompt, **options)[0]["generated_text"] for prompt in prompts]
        sampled = writer("one", num_return_sequences=2, do_sample=True, max_new_tokens=3,
                         return_full_text=False)
        assert len(sampled) == 2 and not any(found["generated_text"].startswith("one") for found in sampled)
    if hasattr(model, "experts"):
        told = writer("one", expert_index=[2], **options)[0]["generated_text"]
        wanted = model.generate(tokenizer("one", return_tensors="pt").input_ids, expert_index=[2], **options)
        assert told == tokenizer.decode(wanted[0], skip_special_tokens=True)


def test_auto_classes_make_place_and_open_a_model_in_every_usual_way(model, tmp_path):
    rows = random_rows(2)
    model.eval().save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    for options in ({}, {"device_map": "auto"}, {"device_map": {"": "cpu"}}, {"dtype": "auto"},
                    {"low_cpu_mem_usage": True}, {"attn_implementation": "sdpa"}):
        opened = AutoModelForCausalLM.from_pretrained(tmp_path, **options)
        assert torch.equal(opened(rows).logits, model(rows).logits), options
    eager = AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="eager")
    found = eager(rows, output_attentions=True)
    assert_close(found.logits, model(rows).logits, atol=1e-5, rtol=1e-5)
    assert found.attentions[0].sum(-1).allclose(torch.ones(1))
    fresh = AutoModelForCausalLM.from_config(model.config)
    assert type(fresh).__name__ and fresh(rows).logits.shape == (2, 16, V)
    assert fresh.state_dict().keys() == model.state_dict().keys()
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(fresh.eval()(rows).logits, model(rows).logits)


class Adapted(nn.Module):
    """A frozen projection with a low-rank part beside it, as peft's LoRA puts in its place."""

    def __init__(self, layer, width_in, width_out):
        super().__init__()
        self.layer, self.down, self.up = layer, nn.Linear(width_in, 2), nn.Linear(2, width_out)

    def forward(self, x):
        return self.layer(x) + self.up(self.down(x))


def test_adapters_in_place_of_projections_learn_while_the_model_stays(model, tmp_path):
    model.requires_grad_(False)
    model.enable_input_require_grads()
    getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)()
    for name, layer in list(model.named_modules()):
        if name.endswith("c_attn"):
            model.set_submodule(name, Adapted(layer, 32, 96))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    rows = random_rows(24)
    losses = list_losses(make_trainer(model, tmp_path, rows, learning_rate=1e-2))
    after = model.state_dict()
    changed = {name.split(".")[-2] for name, value in before.items() if not torch.equal(value, after[name])}
    assert losses.isfinite().all() and changed == {"up", "down"}
    assert model.get_input_embeddings() is not model.get_output_embeddings()
