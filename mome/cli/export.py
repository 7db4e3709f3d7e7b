"""`mome export`: a trained model, or an expert alone, as a folder for others."""

import shlex
from pathlib import Path

from mome.cli.values import add_command, add_parameters, read_parameters
from mome.store import read_json


def add_export(commands) -> None:
    parser = add_command(
        commands, "export", export_command, "write a trained model as a folder for others",
        "transformers opens the folder without this package: weights, code for trust_remote_code, tokenizer, "
        "scores, and a card with how it was made. An expert travels as a file that add_expert takes.")
    parser.add_argument("model", help=(
        "a name in the store or the beginning of one, such as routed_moe-2031; a notebook and words of its "
        "needs, such as '04:JEET:seed 0' or '03:alpha 0.5:seed 0'; or a folder that save_pretrained wrote"))
    parser.add_argument("out", help="the new folder to write; it appears when it is whole")
    add_parameters(parser)


def export_command(model: str, out: str, **given) -> None:
    from mome.runs.export import export_model

    folder = export_model(model, Path(out).expanduser(), read_parameters(**given))
    title = read_json(folder / "made.json")["title"]
    print(f"{title}: written to {folder}\nread its README.md before others do; then, to publish it: "
          f"hf upload NAME/{folder.name} {shlex.quote(str(folder))}")
