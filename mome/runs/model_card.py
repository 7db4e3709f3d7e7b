"""The card of an exported model: a header for the hub, sizes, scores, how to use it, how it was made."""

import re
import time

from huggingface_hub import EvalResult, ModelCardData

import mome
from mome.data.card import LICENCES, SOURCES, take_parts
from mome.languages import CODE_LANGUAGES, language_name
from mome.provenance import find_commit
from mome.runs.origin import Origin
from mome.values import is_number

METRICS = {"nats_per_token": "nats per token", "perplexity": "perplexity", "bits_per_byte": "bits per byte"}
# What is told of each thing that a model was made from, in this order; `made.json` has all of it.
TOLD = ("source", "snapshot", "variant", "language", "languages", "vocab_size", "context", "split_seed",
        "shape", "steps", "batch_size", "tokens", "objective", "optimizer", "k", "tail", "rows_per_language",
        "shares", "replay", "started_as", "seed", "order_seed")
INNER = ("n_layer", "n_head", "n_embd", "kd_loss", "schedule", "alpha", "temperature", "kind",
         "learning_rate")
PROMPTS = {"fr": "Cliquez sur le bouton pour", "en": "Click the button to", "de": "Klicken Sie auf",
           "py": "def read(", "es": "Haga clic en", "it": "Fare clic su", "sql": "SELECT name FROM"}
CARD = """{header}
# {title}

{about}

| | |
| --- | --- |
{sizes}

## Scores

{scores}

## How to use it

{use}

## How it was made

By the MoME workbook, which implements [arXiv:2407.19610](https://arxiv.org/abs/2407.19610); exported by
version {version}.

{made}

## Licences

{licences}

## Limits

Trained for research on little text of one kind: what it writes is neither true nor safe. It was not
aligned, and nothing was filtered for what it says. Scores hold for held-out text of the same sources, not for
other text.
"""
DENSE = "A dense causal language model, a GPT-2."
DISTILLED = " It was distilled from a multilingual teacher."
MODULAR = "A causal language model of {n} GPT-2 experts{common} behind one shared embedding and head."
COMMON = " and a common expert"
ROUTED = " A router inside reads each sequence and sends it through one expert, that of its language."
UNROUTED = " Its router is not fitted: tell it by `expert_index` who answers."
ALONE = ("One expert of a modular causal language model: a GPT-2 body without embedding and head, which "
         "answers only within its model.")
UNKNOWN = "How it was trained is not known: it came from a folder that does not say."
USE = """```python
from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline

path = "."  # this folder, or its name on the hub
model = AutoModelForCausalLM.from_pretrained(path, trust_remote_code=True)
tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=True)  # pads on the left
write = pipeline("text-generation", model=model, tokenizer=tokenizer)
print(write("{prompt}", max_new_tokens=20, do_sample=True)[0]["generated_text"])
```

Prompt and new tokens together have room for {context:,} tokens; more is refused with a clear error. Documents
began with `{bos}`: put it before a prompt that begins one. Pad prompts on the left.
"""
SWITCHES = """
The router inside reads the prompt and sends each sequence through one expert. The model's call and `generate`
take the same switches:

```python
ids = tokenizer(["{prompt}"], return_tensors="pt").input_ids
print([model.config.languages[number] for number in model.route(ids)])
model(ids, expert_index=[{number}])  # told, one number a sequence; {number} is {last}
model.generate(ids, allowed_experts=["{first}"], max_new_tokens=20)  # the router chooses among these
model(ids, average_experts="hidden")  # all answer together; also "logits", "posterior"
{common}```
"""
COMMON_USE = 'model(ids, common_expert="off")  # also "on", which is the default, and "alone"\n'
PLAIN = """
Without `trust_remote_code` it opens as transformers' own GPT-2, with the same weights and without the clear
error at the context's end.
"""
ADD = """It fits {host}{exported}.
The file's header holds hashes of its own weights, of the tokenizer and of the embedding and head between
which it was trained: a model that it does not fit refuses it by name.

```python
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained("that model", trust_remote_code=True)
{lines}
```
"""
ADD_TOLD = """model.add_expert("{language}", "expert.safetensors")
# Answers where it is told, by expert_index or allowed_experts: no router that knows it came with it."""
ADD_ROUTED = """names = [name for name in model.config.languages if name != "{language}"]
if "{language}" in model.config.languages:
    model.remove_expert("{language}")
router = type(model.router).load("router.safetensors").keep([*names, "{language}"])
model.add_expert("{language}", "expert.safetensors", router)"""


def model_card(origin: Origin, sizes: dict[str, str], about: str, use: str, is_whole: bool = True) -> str:
    """Return the card as Markdown with YAML in front. What is not known is said to be so."""
    made, commit = origin.made, find_commit()
    steps = "\n".join(tell_step(name, step) for name, step in made.items())
    return re.sub(r"\n{3,}", "\n\n", CARD.format(
        header=write_header(origin, is_whole), title=origin.title, about=about, use=use,
        sizes="\n".join(f"| {name} | {value} |" for name, value in sizes.items()),
        scores=tabulate_scores(origin.scores), made=f"{steps}\n\n{tell_versions(made)}" if made else UNKNOWN,
        version=f"{mome.__version__}{f' (commit {commit})' if commit else ''}, {time.strftime('%Y-%m-%d')}",
        licences=list_licences(made)))


def write_header(origin: Origin, is_whole: bool) -> str:
    """Return the YAML header, made by huggingface_hub; what is not known stays out."""
    corpora, codes = list_corpora(origin.made), list_codes(origin.languages)
    label = " and ".join(dict.fromkeys("@".join(filter(None, (corpus["source"], corpus["snapshot"])))
                                       for corpus, _ in corpora)) or "unknown"
    results = [EvalResult(
        task_type="text-generation", task_name="Text generation", dataset_type=label.partition("@")[0],
        dataset_name=f"{label}, {language_name(score['language'])}", dataset_config=score["language"],
        dataset_split=score["split"], metric_type=metric, metric_name=f"{name} ({score['use']})",
        metric_value=round(score[metric], 4), metric_args={"use": score["use"], "rows": score["rows"]})
        for score in origin.scores for metric, name in METRICS.items()]
    tags = ["mome", "arxiv:2407.19610", *(["distillation"] if "targets" in origin.kinds else []),
            *(["mixture-of-experts"] if origin.kinds & {"moe", "routed_moe"} else [])]
    hub = ["google/wiki40b", *(["codeparrot/codeparrot-clean"] if "code" in codes else [])]
    return "---\n" + ModelCardData(
        language=codes or None, library_name="transformers" if is_whole else None,
        pipeline_tag="text-generation" if is_whole else None, tags=tags,
        datasets=hub if any(corpus["source"] == "wiki40b" for corpus, _ in corpora) else None,
        metrics=list(METRICS) if results else None, eval_results=results or None,
        model_name=origin.title if results else None, **name_licence(corpora)).to_yaml() + "\n---"


def list_codes(languages: list[str]) -> list[str]:
    """Return the hub's codes: ISO 639 of natural languages, `code` for all programming ones."""
    codes = ["code" if name in CODE_LANGUAGES else name.lower().partition("-")[0] for name in languages]
    return [code for code in dict.fromkeys(codes) if re.fullmatch("code|[a-z]{2,3}", code)]


def list_corpora(made: dict) -> list[tuple[dict, list[str]]]:
    """Return (fields of the corpus, languages that were taken from it) of each data set."""
    return [(made[step["parents"]["corpus"]]["fields"], step["fields"]["languages"]) for step in made.values()
            if step["kind"] == "data" and step["parents"]["corpus"] in made]


def name_licence(corpora: list[tuple[dict, list[str]]]) -> dict[str, str]:
    """Return the header's licence: the texts', as the weights are made of them."""
    names = list(dict.fromkeys(name for corpus, languages in corpora
                               for name in take_parts(LICENCES[corpus["source"]], languages)))
    if len(names) < 2:
        return {"license": names[0]} if names else {}
    return {"license": "other", "license_name": "-and-".join(names), "license_link": "README.md"}


def list_licences(made: dict) -> str:
    lines = dict.fromkeys(f"- {text}" for corpus, languages in list_corpora(made)
                          for text in take_parts(SOURCES[corpus["source"]], languages))
    known = "learned from these texts:" if lines else "learned from texts that are not known."
    return "\n".join([f"The code is under the MIT licence (`LICENSE`). The weights were {known}", "", *lines])


def tabulate_scores(scores: list[dict]) -> str:
    """Return the scores as a table of Markdown, or a sentence where there are none."""
    if not scores:
        return "The store that it was exported from holds no scores of it."
    head = ["language", "used", *METRICS.values(), "split", "rows"]
    rows = [head, ["---"] * 2 + ["---:"] * 3 + ["---", "---:"]]
    rows += [[language_name(score["language"]), score["use"], f"{score['nats_per_token']:.3f}",
              f"{score['perplexity']:.1f}", f"{score['bits_per_byte']:.3f}", score["split"],
              f"{score['rows']:,}"] for score in scores]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def tell_step(name: str, step: dict) -> str:
    """Return a thing that the model was made from as a line: title, name, day, and its values."""
    values = {**step["fields"], **{key: step["notes"][key] for key in ("tokens", "started_as")
                                   if key in step["notes"]}}
    if isinstance(values.get("tokens"), dict):
        values["tokens"] = sum(values["tokens"]["train"].values())
    told = [f"{key.replace('_', ' ')} {spell(values[key])}" for key in TOLD
            if values.get(key) not in (None, "")]
    return f"- {step['title']} (`{name}`, {step['created'][:10]}): {'; '.join(told)}".removesuffix(": ")


def spell(value) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key.removeprefix('n_')} {spell(value[key])}" for key in INNER
                         if value.get(key) not in (None, ""))
    if isinstance(value, list):
        return " ".join(map(spell, value))
    return f"{value:,}" if is_number(value, int) else f"{value:g}" if is_number(value) else str(value)


def tell_versions(made: dict) -> str:
    *_, step = made.values()
    names = ("python", "torch", "transformers", "tokenizers")
    found = ", ".join(f"{name} {step['versions'][name]}" for name in names if name in step["versions"])
    has_teacher = any(each["kind"] == "teacher" for each in made.values()) and step["kind"] != "teacher"
    teacher = " The teacher is not on the hub; `mome export` writes it, too." if has_teacher else ""
    return f"Trained with {found}.{teacher} All values stand in `made.json`."
