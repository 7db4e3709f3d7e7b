"""Where documents come from. Nothing here reaches the network."""

import json
import shutil
import sysconfig

import pytest

from mome import corpus
from mome.config import repository
from mome.corpus import (
    CorpusUnavailable,
    corpus_candidates,
    corpus_version,
    folder_documents,
    parse_help_page,
    read_documents,
    strip_wiki_marks,
    wiki40b_documents,
)


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    monkeypatch.setenv("MOME_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MOME_BATCH", "1")


@pytest.fixture(scope="module")
def mini() -> list[dict]:
    return list(read_documents("mini", ["en", "fr", "de", "py"], 1))


def reach(monkeypatch, tools: bool, hub: bool) -> None:
    """Make it look as if the package tools and the hub were, or were not, within reach."""
    monkeypatch.setattr(shutil, "which", lambda tool: f"/usr/bin/{tool}" if tools else None)
    monkeypatch.setattr(corpus, "hub_is_reachable", lambda *_: hub)


def write(root, files: dict) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())


# The mini corpus

def test_mini_has_the_same_articles_in_every_natural_language(mini):
    ids = {language: {row["article_id"] for row in mini if row["language"] == language} for language in ("en", "fr", "de", "py")}
    assert ids["en"] == ids["fr"] == ids["de"]
    assert len(ids["en"]) == len(ids["py"]) == 64


def test_mini_gives_text_under_exactly_three_names(mini):
    assert all(set(row) == {"language", "article_id", "text"} and row["text"].strip() for row in mini)
    assert list(dict.fromkeys(row["language"] for row in mini)) == ["en", "fr", "de", "py"]


def test_no_two_documents_of_mini_in_one_language_are_equal(mini):
    assert len({(row["language"], row["text"]) for row in mini}) == len(mini)


def test_a_document_of_mini_is_its_file_letter_for_letter(mini):
    text = next(row["text"] for row in mini if (row["language"], row["article_id"]) == ("fr", "apple"))
    assert text == (repository() / "data/mini/fr/apple.txt").read_text(encoding="utf-8")
    assert "dégage de l'éthylène" in text


def test_every_python_file_of_mini_is_python(mini):
    for row in mini:
        if row["language"] == "py":
            compile(row["text"], row["article_id"], "exec")


def test_a_subset_of_languages_reads_those_only():
    assert {row["language"] for row in read_documents("mini", ["de"], 1)} == {"de"}


# A folder of one's own

def test_a_folder_gives_text_files_and_json_lines(tmp_path):
    write(tmp_path, {"en/a.txt": "apple", "en/deep/b.md": "bread", "en/c.py": "x = 1", "en/d.csv": "no;text",
                     "en/e.jsonl": '{"text": "one"}\n\n{"text": "two", "article_id": 7}\n', "en/__pycache__/f.py": "compiled", "fr/a.txt": "pomme"})
    assert list(folder_documents(tmp_path, ["en"])) == [
        {"language": "en", "article_id": "a", "text": "apple"}, {"language": "en", "article_id": "c", "text": "x = 1"},
        {"language": "en", "article_id": "deep/b", "text": "bread"}, {"language": "en", "article_id": "e:0", "text": "one"},
        {"language": "en", "article_id": "7", "text": "two"}]


def test_a_folder_is_named_by_its_path(tmp_path, monkeypatch):
    write(tmp_path, {"corpus/en/a.txt": "apple"})
    expected = [{"language": "en", "article_id": "a", "text": "apple"}]
    assert list(read_documents(f"folder:{tmp_path / 'corpus'}", ["en"], 1)) == expected
    monkeypatch.setenv("HOME", str(tmp_path))
    assert list(read_documents("folder:~/corpus", ["en"], 1)) == expected


def test_translations_in_text_files_share_their_article_id(tmp_path):
    write(tmp_path, {"en/fruit/a.txt": "apple", "fr/fruit/a.md": "pomme"})
    assert {row["article_id"] for row in folder_documents(tmp_path, ["en", "fr"])} == {"fruit/a"}


def test_an_empty_document_is_left_out(tmp_path):
    write(tmp_path, {"en/a.txt": " \n", "en/b.txt": "bread", "en/c.jsonl": '{"text": ""}\n{"text": "two"}'})
    assert [row["text"] for row in folder_documents(tmp_path, ["en"])] == ["bread", "two"]


@pytest.mark.parametrize("files", [{"en/a.txt": "apple", "de/a.csv": "Apfel"}, {"en/a.txt": "apple", "de/a.txt": " \n"}, {"en/a.txt": "apple"}])
def test_a_language_without_text_is_named_beside_those_that_are_there(tmp_path, files):
    write(tmp_path, files)
    with pytest.raises(CorpusUnavailable, match=r"'de' has no text in .* it holds: .*en"):
        list(folder_documents(tmp_path, ["en", "de"]))


def test_an_empty_or_absent_folder_holds_nothing(tmp_path):
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(CorpusUnavailable, match=r"'en' has no text in .* it holds: nothing"):
            list(folder_documents(folder, ["en"]))


def test_a_file_that_is_not_utf8_is_named(tmp_path):
    write(tmp_path, {"fr/a.txt": "été".encode("latin-1")})
    with pytest.raises(ValueError, match=r"fr/a\.txt cannot be read as UTF-8 txt"):
        list(folder_documents(tmp_path, ["fr"]))


@pytest.mark.parametrize("line", ['{"text": "half', "text", "{'text': 'single quotes'}"])
def test_a_line_that_is_not_json_names_its_file(tmp_path, line):
    write(tmp_path, {"en/a.jsonl": '{"text": "good"}\n' + line})
    with pytest.raises(ValueError, match=r"en/a\.jsonl cannot be read as UTF-8 jsonl"):
        list(folder_documents(tmp_path, ["en"]))


# LibreOffice's help

PAGE = """<!DOCTYPE html><html lang="fr"><head><title>Titre d'onglet</title></head><body>
<header><h1>Aide</h1></header><aside><p>Menu : Accueil</p></aside>
<div id="DisplayArea"><nav>Retour</nav>
<h1 id="hd">Insérer une   <a href="x.html">cellule</a></h1>
<p class="paragraph">Ouvre la <span>boîte</span> de dialogue
    « Où ça ? » &eacute;t&#233; &amp; cœur.</p><p> </p>
<table><tr><td><p>Icône</p></td><td><p>Note</p></td></tr></table>
<ul><li><p>Premier point</p></li></ul>
<pre>Sub Main
    Print "déjà"

End Sub</pre></div>
<footer><p>Pied de page</p></footer></body></html>"""


def test_a_help_page_becomes_its_headings_paragraphs_and_code_lines():
    assert parse_help_page(PAGE.encode()).split("\n") == [
        "Insérer une cellule", "Ouvre la boîte de dialogue « Où ça ? » été & cœur.", "Icône", "Note", "Premier point",
        "Sub Main", '    Print "déjà"', "End Sub"]


def test_navigation_around_and_within_the_page_is_dropped():
    text = parse_help_page(PAGE.encode())
    assert not any(word in text for word in ("onglet", "Aide", "Menu", "Retour", "Pied"))


def test_accents_are_read_as_utf8_even_when_the_page_does_not_say_so():
    html = '<html><head><meta charset="iso-8859-1"></head><body><div id="DisplayArea"><p>Grüße, œuvre</p></div></body></html>'
    assert parse_help_page(html.encode()) == "Grüße, œuvre"


@pytest.mark.parametrize("html", [b"<html><body><p>Menu</p></body></html>", b'<div id="DisplayArea"></div>', b'<div id="DisplayArea"><p> </p></div>'])
def test_a_page_without_content_is_empty(html):
    assert parse_help_page(html) == ""


def test_help_pages_share_their_article_id_in_all_languages(monkeypatch, tmp_path):
    for language in ("en", "fr"):
        write(tmp_path / language, {"swriter/01/a.html": PAGE, "swriter/menu.html": "<html><body><p>Menu</p></body></html>"})
    monkeypatch.setattr(corpus, "fetch_help_packages", lambda languages, scratch: {language: tmp_path / language for language in languages})
    rows = list(read_documents("help", ["en", "fr"], 1))
    assert [(row["language"], row["article_id"]) for row in rows] == [("en", "swriter/01/a.html"), ("fr", "swriter/01/a.html")]


def test_python_documents_are_the_library_without_its_tests_and_tables(monkeypatch, tmp_path):
    write(tmp_path, {"ast.py": "import sys", "json/tool.py": "x = 1", "test/test_ast.py": "no", "json/tests/a.py": "no", "encodings/cp1.py": "no",
                     "site-packages/mome.py": "no", "old.py": "# é".encode("latin-1"), "empty.py": "\n", "notes.txt": "no"})
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)})
    assert list(read_documents("help", ["py"], 1)) == [{"language": "py", "article_id": "ast.py", "text": "import sys"},
                                                       {"language": "py", "article_id": "json/tool.py", "text": "x = 1"}]


def test_python_documents_without_a_library_on_disk_give_a_clear_error(monkeypatch, tmp_path):
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)})
    with pytest.raises(CorpusUnavailable, match=r"'py' of corpus 'help'.*'mini'"):
        list(read_documents("help", ["py"], 1))


@pytest.mark.parametrize("missing", ["apt-get", "dpkg-deb"])
def test_help_without_the_package_tools_names_the_tool_and_other_corpora(monkeypatch, missing):
    monkeypatch.setattr(shutil, "which", lambda tool: None if tool == missing else f"/usr/bin/{tool}")
    with pytest.raises(CorpusUnavailable, match=f"corpus='help' needs {missing}.*'wiki40b', 'mini' or 'folder:PATH'"):
        list(read_documents("help", ["en"], 1))


def test_help_that_cannot_be_downloaded_says_why(monkeypatch):
    class Failed:
        returncode, stdout, stderr = 100, "", "W: old list\nE: Unable to locate package libreoffice-help-fr\nE: more"

    reach(monkeypatch, tools=True, hub=False)
    monkeypatch.setattr(corpus.subprocess, "run", lambda *_, **__: Failed())
    with pytest.raises(CorpusUnavailable, match=r"'help' cannot be downloaded \(E: Unable to locate package libreoffice-help-fr\).*'mini'"):
        list(read_documents("help", ["fr"], 1))


def test_help_in_a_language_it_does_not_have_names_those_it_has():
    with pytest.raises(ValueError, match=r"languages='es'.*en, fr, de"):
        list(read_documents("help", ["en", "es"], 1))


# Wiki40B

WIKI = "\n_START_ARTICLE_\nApfel\n_START_SECTION_\nSorten\n_START_PARAGRAPH_\nGrüne Äpfel._NEWLINE_Rote Äpfel."


def test_wiki_marks_are_stripped_and_paragraphs_stay_lines():
    assert strip_wiki_marks(WIKI) == "Apfel\nSorten\nGrüne Äpfel.\nRote Äpfel."


def test_text_without_wiki_marks_stays_as_it_is():
    assert strip_wiki_marks("START_ARTICLE is a word\nof _two_ lines") == "START_ARTICLE is a word\nof _two_ lines"


def test_wiki_articles_keep_their_wikidata_id_and_lose_their_marks():
    rows = list(wiki40b_documents(["de"], 10, load=lambda language: [{"wikidata_id": "Q89", "text": WIKI, "version_id": "1"}]))
    assert rows == [{"language": "de", "article_id": "Q89", "text": "Apfel\nSorten\nGrüne Äpfel.\nRote Äpfel."}]


def test_the_stream_ends_once_a_language_has_its_characters():
    read = {"en": 0, "fr": 0}

    def load(language):
        for number in range(1_000):
            read[language] += 1
            yield {"wikidata_id": f"Q{number}", "text": "0123456789"}

    rows = list(wiki40b_documents(["en", "fr"], 25, load))
    assert [row["article_id"] for row in rows] == ["Q0", "Q1", "Q2"] * 2
    assert read == {"en": 3, "fr": 3}


def test_empty_articles_are_left_out_and_do_not_count():
    rows = [{"wikidata_id": "Q1", "text": "_START_ARTICLE_\n"}, {"wikidata_id": "Q2", "text": "0123456789"}, {"wikidata_id": "Q3", "text": "more"}]
    assert [row["article_id"] for row in wiki40b_documents(["en"], 10, lambda language: rows)] == ["Q2"]


def test_a_short_stream_gives_what_it_has():
    assert len(list(wiki40b_documents(["en"], 10**9, lambda language: [{"wikidata_id": "Q1", "text": "a"}]))) == 1


def test_code_is_named_by_repository_and_path_and_keeps_its_marks():
    rows = [{"repo_name": "me/tool", "path": "src/a.py", "content": "x = '_NEWLINE_'\n"}]
    assert list(wiki40b_documents(["py"], 5, lambda language: rows)) == [{"language": "py", "article_id": "me/tool/src/a.py", "text": "x = '_NEWLINE_'\n"}]


@pytest.mark.parametrize("error", [ConnectionError("no route"), OSError("no route"), TimeoutError("no route")])
@pytest.mark.parametrize("rows_before", [0, 1])
def test_a_lost_connection_becomes_an_error_that_names_other_corpora(error, rows_before):
    def load(language):
        for number in range(rows_before):
            yield {"wikidata_id": f"Q{number}", "text": "text"}
        raise error

    with pytest.raises(CorpusUnavailable, match=r"'wiki40b' cannot be read from the hub \(no route\).*'help', 'mini' or 'folder:PATH'"):
        list(wiki40b_documents(["en"], 100, load))


def test_read_documents_caps_the_hub_stream(monkeypatch):
    monkeypatch.setattr(corpus, "stream_from_hub", lambda language: ({"wikidata_id": f"Q{number}", "text": "0123456789"} for number in range(99)))
    assert len(list(read_documents("wiki40b", ["en"], 40))) == 4


# Which corpus is tried

def test_auto_tries_help_first_then_the_hub_then_mini(monkeypatch):
    reach(monkeypatch, tools=True, hub=True)
    assert [name for name, _ in corpus_candidates("auto", ["en", "fr", "py"])] == ["help", "wiki40b", "mini"]


def test_auto_falls_to_mini_when_nothing_is_within_reach(monkeypatch):
    reach(monkeypatch, tools=False, hub=False)
    (name, why), = corpus_candidates("auto", ["en", "fr", "de", "py"])
    assert name == "mini"
    assert "neither" in why


def test_auto_skips_help_for_a_language_that_help_does_not_have(monkeypatch):
    reach(monkeypatch, tools=True, hub=True)
    assert [name for name, _ in corpus_candidates("auto", ["en", "es"])] == ["wiki40b", "mini"]


def test_auto_skips_the_hub_when_it_does_not_answer(monkeypatch):
    reach(monkeypatch, tools=True, hub=False)
    assert [name for name, _ in corpus_candidates("auto", ["en"])] == ["help", "mini"]


def test_auto_asks_the_hub_only_when_help_was_not_to_be_had(monkeypatch):
    reach(monkeypatch, tools=True, hub=True)
    monkeypatch.setattr(corpus, "hub_is_reachable", lambda *_: pytest.fail("the hub was asked"))
    assert next(corpus_candidates("auto", ["en"]))[0] == "help"


def test_a_hub_that_fails_in_any_way_is_not_reachable(monkeypatch):
    import huggingface_hub

    class Broken:
        def dataset_info(self, *_, **__):
            raise RuntimeError("no network")

    monkeypatch.setattr(huggingface_hub, "HfApi", Broken)
    assert corpus.hub_is_reachable() is False


@pytest.mark.parametrize("name", ["help", "wiki40b", "mini"])
def test_a_corpus_chosen_by_name_never_falls_back(monkeypatch, name):
    reach(monkeypatch, tools=False, hub=False)
    assert [candidate for candidate, _ in corpus_candidates(name, ["en"])] == [name]


def test_a_folder_chosen_by_name_never_falls_back(monkeypatch, tmp_path):
    reach(monkeypatch, tools=True, hub=True)
    write(tmp_path, {"en/a.txt": "apple"})
    assert [candidate for candidate, _ in corpus_candidates(f"folder:{tmp_path}", ["en"])] == [f"folder:{tmp_path}"]


@pytest.mark.parametrize("name", ["wikipedia", "folder:PATH", "folder:/no/such/folder"])
def test_a_corpus_that_does_not_exist_is_refused(name):
    with pytest.raises(ValueError, match=f"corpus='{name}'"):
        next(corpus_candidates(name, ["en"]))


def test_a_bench_on_auto_goes_on_to_the_next_corpus_and_says_why(monkeypatch):
    from mome import recipes
    from mome.config import resolve_scale

    def unavailable(languages, scratch):
        raise CorpusUnavailable("no help today")

    reach(monkeypatch, tools=True, hub=False)
    monkeypatch.setattr(corpus, "fetch_help_packages", unavailable)
    scale = resolve_scale("smoke", {"vocab_size": 600, "context": 32, "tokens_per_language": 5_000})
    bench = recipes.open_bench(scale, "auto", ["en", "fr"], 0)
    assert bench.corpus == "mini"
    assert bench.corpus_reason.startswith("no help today; ")
    with pytest.raises(CorpusUnavailable, match="no help today"):
        recipes.open_bench(scale, "help", ["en", "fr"], 0)


# What tells one state of a corpus from another

def test_the_content_hash_of_mini_changes_when_a_file_changes(tmp_path):
    languages = ["en", "fr"]
    for language in languages:
        shutil.copytree(repository() / "data/mini" / language, tmp_path / language)
    copy, mini = f"folder:{tmp_path}", corpus_version("mini", languages)
    assert corpus_version(copy, languages) == mini
    apple = tmp_path / "fr/apple.txt"
    text = apple.read_text(encoding="utf-8")
    apple.write_text(text + " ", encoding="utf-8")
    assert corpus_version(copy, languages) != mini
    apple.write_text(text, encoding="utf-8")
    assert corpus_version(copy, languages) == mini
    apple.rename(tmp_path / "fr/pomme.txt")
    assert corpus_version(copy, languages) != mini


def test_the_content_hash_is_of_the_chosen_languages_only(tmp_path):
    write(tmp_path, {"en/a.txt": "apple", "fr/a.txt": "pomme"})
    both, one = corpus_version(f"folder:{tmp_path}", ["en", "fr"]), corpus_version(f"folder:{tmp_path}", ["en"])
    write(tmp_path, {"fr/a.txt": "poire"})
    assert corpus_version(f"folder:{tmp_path}", ["en"]) == one
    assert corpus_version(f"folder:{tmp_path}", ["en", "fr"]) != both


def test_compiled_files_do_not_change_the_content_hash(tmp_path):
    write(tmp_path, {"py/a.py": "x = 1"})
    before = corpus_version(f"folder:{tmp_path}", ["py"])
    write(tmp_path, {"py/__pycache__/a.cpython-311.pyc": b"\x00"})
    assert corpus_version(f"folder:{tmp_path}", ["py"]) == before


def test_the_python_version_tells_states_of_help_apart_only_with_code():
    assert corpus_version("help", ["en", "py"]) == {"python": corpus.platform.python_version()}
    assert corpus_version("help", ["en"]) == {}


# Known faults, each with its smallest example

@pytest.mark.parametrize("mark", ["\u2028", "\x85"])
def test_a_unicode_line_mark_within_a_json_string_stays(tmp_path, mark):
    write(tmp_path, {"en/a.jsonl": json.dumps({"text": f"one{mark}two"}, ensure_ascii=False)})
    assert [row["text"] for row in folder_documents(tmp_path, ["en"])] == [f"one{mark}two"]


@pytest.mark.parametrize("line", ['{"txt": "a"}', '"a"', "[1]", '{"text": null}', '{"text": 3}'])
def test_a_json_line_without_text_names_its_file(tmp_path, line):
    write(tmp_path, {"en/a.jsonl": line})
    with pytest.raises(ValueError, match=r"a\.jsonl.*text"):
        list(folder_documents(tmp_path, ["en"]))


def test_a_folder_that_ends_like_a_file_is_walked_through(tmp_path):
    write(tmp_path, {"en/v1.txt/a.txt": "apple"})
    assert [row["article_id"] for row in folder_documents(tmp_path, ["en"])] == ["v1.txt/a"]


@pytest.mark.parametrize("html", [b"", b" \n", b"<!-- nothing -->"])
def test_an_empty_page_is_empty(html):
    assert parse_help_page(html) == ""


def test_a_line_break_within_a_paragraph_separates_words():
    assert parse_help_page(b'<div id="DisplayArea"><p>one<br>two<br/>three</p></div>') == "one two three"
