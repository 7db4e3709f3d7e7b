
import pytest

from mome.cli.main import main


@pytest.mark.parametrize("words, said", [
    (["train", "twin"], ["what='twin'", "teacher, student, PLE"]),
    (["train", "teacher", "--scale", "big"], ["scale='big'"]),
    (["train", "PLE", "--seed", "-1"], ["seed=-1"]),
    (["train", "student", "--overrides", "{context: 1}"], ["context=1", "2"]),
    (["train", "student", "--overrides", "{"], ["overrides='{'", "YAML"]),
    (["train", "student", "--languages", "en,en"], ["repeats"]),
    (["bench", "kd", "--repeats", "0"], ["repeats=0"]),
    (["bench", "router", "--languages", "en"], ["at least two"]),
    (["bench", "moe", "--scale", "huge"], ["scale='huge'"])])
def test_training_one_model_and_a_benchmark_check_what_they_are_given(words, said, built, capsys):
    assert main([*words, *(["--corpus", "mini"] if words[0] == "train" else [])]) == 2
    error = capsys.readouterr().err
    assert all(word in error for word in said), error
    assert not built


@pytest.mark.parametrize("what, kind", [
    ("teacher", "teacher"), ("student", "student"), ("PLE branched", "moe")])
def test_a_model_is_trained_by_the_engine_and_counts_as_used(what, kind, built, tmp_path, monkeypatch):
    words = ["train", what, "--corpus", "mini", "--scale", "smoke", "--seed", "5", "--workers", "1"]
    assert main(words) == 1  # nothing was built, so there is no folder to print
    recipe, workers, *_ = built.pop()
    assert workers == 1 and recipe.seed == 5 and recipe.kind().startswith(kind)
    noted = (tmp_path / "home/runs/train/needs.txt").read_text().splitlines()
    assert noted[-1] == recipe.name and {parent.name for parent in recipe.parents().values()} <= set(noted)


def test_in_several_processes_a_model_is_trained_in_place_and_one_process_speaks(built, tmp_path, monkeypatch,
                                                                                 capsys):
    trained = []
    monkeypatch.setattr("mome.cli.build.train_together", trained.append)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert main(["train", "teacher", "--corpus", "mini", "--scale", "smoke"]) == 0
    assert [recipe.kind() for recipe in trained] == ["teacher"] and not built
    assert capsys.readouterr().out == "" and not (tmp_path / "home").exists()


@pytest.mark.parametrize("words, said", [
    (["--seed", "-1"], "split_seed=-1"), (["--vocab-size", "10"], "vocab_size=10"),
    (["--languages", "en,xx"], "'xx'"),
    (["--shares", "en=2"], "shares="), (["--shares", "en=2,en=1"], "each name once"),
    (["--shares", "en=two"], "'two'"), (["--shares", "en=2,fr"], "NAME=VALUE"),
    (["--near-duplicates", "2"], "near_duplicates=2")])
def test_a_data_set_checks_what_it_is_given_and_is_written_where_nothing_is(
        words, said, built, tmp_path, capsys):
    assert main(["data", "--out", str(tmp_path / "new"), "--corpus", "mini", "--scale", "smoke", *words]) == 2
    assert said in capsys.readouterr().err
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    assert main(["data", "--out", str(tmp_path / "full"), "--corpus", "mini"]) == 2
    assert "is not empty" in capsys.readouterr().err
    assert not built


def test_the_options_of_a_data_set_are_in_its_recipe(built, tmp_path):
    words = ["--tokens-per-language", "5000", "--shares", "en=2,fr=1", "--no-common-articles", "--seed", "4",
             "--context", "32"]
    assert main(["data", "--out", str(tmp_path / "new"), "--corpus", "mini", "--scale", "smoke",
                 "--languages", "en,fr", *words]) == 1
    (recipe, *_), = built
    assert (recipe.tokens_per_language, recipe.shares, recipe.common_articles) == (5000,
                                                                                   (("en", 2.0), ("fr", 1.0)),
                                                                                   False)
    assert (recipe.split_seed, recipe.context) == (4, 32)


def test_a_benchmark_prints_its_table_with_the_spread_of_its_repeats(monkeypatch, capsys):
    import pandas as pd

    from mome.bench import data

    table = pd.DataFrame({"part": [0.5, 0.5], "repeat": [0, 1], "characters": [9, 9], "seconds": [1.0, 3.0]})
    monkeypatch.setattr(data, "bench_data", lambda scale, languages, repeats: table)
    assert main(["bench", "data", "--repeats", "2"]) == 0
    said = capsys.readouterr().out
    assert "median" in said and "2.0" in said
