"""Where documents come from. Nothing here reaches the network."""

import json
import shutil
import sysconfig
from importlib.machinery import ModuleSpec
from pathlib import Path

import pandas as pd
import pytest

from mome import corpus, hub
from mome.config import CODE_LANGUAGES, CORPUS_LANGUAGES, repository
from mome.corpus import CorpusUnavailable, corpus_candidates, corpus_version, folder_documents, parse_help_page, read_documents

MINI = list(CORPUS_LANGUAGES["mini"])
NOWHERE = Path("/nowhere")  # the scratch folder of corpora that keep nothing there


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    monkeypatch.setenv("MOME_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MOME_BATCH", "1")


@pytest.fixture(scope="module")
def mini() -> list[dict]:
    return read("mini", MINI)


def read(name: str, languages: list[str]) -> list[dict]:
    return list(read_documents(name, languages, 1, True, NOWHERE))


def reach(monkeypatch, tools: bool, hub_answers: bool) -> None:
    """Make it look as if the package tools and the hub were, or were not, within reach."""
    monkeypatch.setattr(shutil, "which", lambda tool: f"/usr/bin/{tool}" if tools else None)
    monkeypatch.setattr(hub, "is_reachable", lambda: hub_answers)


def write(root, files: dict) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())


# The mini corpus

def test_mini_has_the_same_articles_in_every_natural_language_fewer_in_the_later_ones(mini):
    ids = {language: {row["article_id"] for row in mini if row["language"] == language} for language in MINI}
    assert {language: len(found) for language, found in ids.items()} == {"en": 64, "fr": 64, "de": 64, "py": 64, "es": 20, "it": 20, "sql": 20, "bash": 20}
    assert ids["en"] == ids["fr"] == ids["de"]
    assert ids["es"] == ids["it"] < ids["en"]


def test_the_code_of_mini_counts_as_code_and_its_prose_does_not(mini):
    assert {language for language in MINI if language in CODE_LANGUAGES} == {"py", "sql", "bash"}
    endings = {row["language"]: Path(row["article_id"]).suffix for row in mini}
    assert endings == {"en": "", "fr": "", "de": "", "es": "", "it": "", "py": ".py", "sql": ".sql", "bash": ".sh"}


def test_mini_gives_text_under_exactly_three_names(mini):
    assert all(set(row) == {"language", "article_id", "text"} and row["text"].strip() for row in mini)
    assert list(dict.fromkeys(row["language"] for row in mini)) == MINI


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


def test_a_code_file_of_mini_keeps_its_ending(mini):
    assert all(row["article_id"].endswith(".py") == (row["language"] == "py") for row in mini)


def test_a_subset_of_languages_reads_those_only():
    assert {row["language"] for row in read("mini", ["de"])} == {"de"}


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
    assert read(f"folder:{tmp_path / 'corpus'}", ["en"]) == expected
    monkeypatch.setenv("HOME", str(tmp_path))
    assert read("folder:~/corpus", ["en"]) == expected


def test_translations_in_text_files_share_their_article_id(tmp_path):
    write(tmp_path, {"en/fruit/a.txt": "apple", "fr/fruit/a.md": "pomme"})
    assert {row["article_id"] for row in folder_documents(tmp_path, ["en", "fr"])} == {"fruit/a"}


def test_an_empty_document_is_left_out_and_named(tmp_path, caplog):
    write(tmp_path, {"en/a.txt": " \n", "en/b.txt": "bread", "en/c.jsonl": '{"text": ""}\n{"text": "two"}', "en/d.txt": b""})
    assert [(row["article_id"], row["text"]) for row in folder_documents(tmp_path, ["en"])] == [("b", "bread"), ("c:1", "two")]
    for path, number in (("a.txt", 1), ("c.jsonl", 1), ("d.txt", 1)):
        assert f"{tmp_path}/en/{path}: row {number} is empty" in caplog.text


@pytest.mark.parametrize("files", [{"en/a.txt": "apple", "de/a.csv": "Apfel"}, {"en/a.txt": "apple", "de/a.txt": " \n"}, {"en/a.txt": "apple"}])
def test_a_language_without_text_is_named_beside_those_that_are_there(tmp_path, files):
    write(tmp_path, files)
    with pytest.raises(CorpusUnavailable, match=r"'de' has no text in .* it holds: .*en"):
        list(folder_documents(tmp_path, ["en", "de"]))


def test_an_empty_or_absent_folder_holds_nothing(tmp_path):
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(CorpusUnavailable, match=r"'en' has no text in .* it holds: nothing"):
            list(folder_documents(folder, ["en"]))


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16"])
@pytest.mark.parametrize("ending", ["txt", "md", "jsonl", "c"])
def test_a_file_that_is_not_utf8_is_named(tmp_path, encoding, ending):
    write(tmp_path, {"fr/good.txt": "bon", f"fr/a.{ending}": '{"text": "été"}'.encode(encoding)})
    with pytest.raises(ValueError, match=rf"fr/a\.{ending} cannot be read as UTF-8 {ending}"):
        list(folder_documents(tmp_path, ["fr"]))


@pytest.mark.parametrize("content", [b"\x7fELF\0\0\0", "plain".encode("utf-16-le"), b"text\0"])
@pytest.mark.parametrize("name", ["a.txt", "a.py"])
def test_a_binary_file_is_named(tmp_path, content, name):
    write(tmp_path, {"en/good.txt": "good", f"en/{name}": content})
    with pytest.raises(ValueError, match=rf"en/{name}: row 1 holds zero bytes, so it is binary"):
        list(folder_documents(tmp_path, ["en"]))


def test_zero_bytes_in_a_row_name_the_file_and_the_row(tmp_path):
    write(tmp_path, {"en/a.jsonl": json.dumps({"text": "good"}) + "\n" + json.dumps({"text": "zero \0 byte"})})
    with pytest.raises(ValueError, match=r"en/a\.jsonl: row 2 holds zero bytes"):
        list(folder_documents(tmp_path, ["en"]))


@pytest.mark.parametrize(("name", "content"), [("a.txt", "apple"), ("a.jsonl", '{"text": "apple"}')])
def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path, name, content):
    write(tmp_path, {f"en/{name}": content.encode("utf-8-sig")})
    assert [row["text"] for row in folder_documents(tmp_path, ["en"])] == ["apple"]


def test_rows_of_parquet_have_their_own_ids_or_their_file_and_number(tmp_path):
    write(tmp_path, {"en/deep/z.txt": "last"})
    pd.DataFrame({"text": ["one", "two"]}).to_parquet(tmp_path / "en/a.parquet")
    pd.DataFrame({"article_id": ["Q1", None], "text": ["three", "four"], "source": ["x", "y"]}).to_parquet(tmp_path / "en/deep/b.parquet")
    pd.DataFrame({"article_id": [7], "text": ["five"]}).to_parquet(tmp_path / "en/deep/c.parquet")
    assert list(folder_documents(tmp_path, ["en"])) == [
        {"language": "en", "article_id": article_id, "text": text}
        for article_id, text in [("a:0", "one"), ("a:1", "two"), ("Q1", "three"), ("deep/b:1", "four"), ("7", "five"), ("deep/z", "last")]]


def test_translations_in_parquet_share_their_article_id(tmp_path):
    for language, text in {"en": "apple", "fr": "pomme"}.items():
        (tmp_path / language).mkdir()
        pd.DataFrame({"text": [text]}).to_parquet(tmp_path / language / "a.parquet")
    assert {row["article_id"] for row in folder_documents(tmp_path, ["en", "fr"])} == {"a:0"}


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_a_damaged_parquet_file_is_named(tmp_path, kept):
    write(tmp_path, {"en/good.txt": "good"})
    pd.DataFrame({"text": ["one", "two"]}).to_parquet(tmp_path / "en/a.parquet")
    write(tmp_path, {"en/a.parquet": (tmp_path / "en/a.parquet").read_bytes()[:kept]})
    with pytest.raises(ValueError, match=r"en/a\.parquet cannot be read as Parquet"):
        list(folder_documents(tmp_path, ["en"]))


@pytest.mark.parametrize("columns", [{"body": ["one"]}, {"text": [1]}, {"text": ["one", None]}])
def test_a_parquet_row_without_text_names_its_file(tmp_path, columns):
    (tmp_path / "en").mkdir()
    pd.DataFrame(columns).to_parquet(tmp_path / "en/a.parquet")
    with pytest.raises(ValueError, match=r"en/a\.parquet: row \d is not allowed; every row must have a text"):
        list(folder_documents(tmp_path, ["en"]))


def test_an_article_id_of_null_is_not_given(tmp_path):
    write(tmp_path, {"en/a.jsonl": '{"text": "one", "article_id": null}\n{"text": "two", "article_id": "x"}\n{"text": "three", "article_id": 0}'})
    assert [row["article_id"] for row in folder_documents(tmp_path, ["en"])] == ["a:0", "x", "0"]


def test_code_files_that_differ_in_their_ending_are_two_articles(tmp_path):
    write(tmp_path, {"c/a.c": "int x;", "c/a.h": "extern int x;", "en/a.txt": "apple"})
    assert [(row["language"], row["article_id"]) for row in read(f"folder:{tmp_path}", ["c", "en"])] == [("c", "a.c"), ("c", "a.h"), ("en", "a")]


@pytest.mark.parametrize("files", [
    {"en/a.txt": "apple", "en/a.md": "apple again"}, {"en/a.txt": "apple", "en/b.jsonl": '{"text": "again", "article_id": "a"}'},
    {"en/a.jsonl": '{"text": "one", "article_id": "a"}\n{"text": "two", "article_id": "a"}'}])
def test_an_article_id_that_stands_twice_in_a_language_is_refused(tmp_path, files):
    write(tmp_path, files | {"fr/a.txt": "pomme"})
    with pytest.raises(ValueError, match="article_id='a' stands more than once in language 'en'"):
        read(f"folder:{tmp_path}", ["fr", "en"])


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
    rows = read("help", ["en", "fr"])
    assert [(row["language"], row["article_id"]) for row in rows] == [("en", "swriter/01/a.html"), ("fr", "swriter/01/a.html")]


def test_python_documents_are_the_library_without_its_tests_and_tables(monkeypatch, tmp_path):
    write(tmp_path, {"ast.py": "import sys", "json/tool.py": "x = 1", "test/test_ast.py": "no", "json/tests/a.py": "no", "encodings/cp1.py": "no",
                     "site-packages/mome.py": "no", "old.py": "# é".encode("latin-1"), "empty.py": "\n", "notes.txt": "no"})
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)})
    assert read("help", ["py"]) == [{"language": "py", "article_id": "ast.py", "text": "import sys"},
                                                       {"language": "py", "article_id": "json/tool.py", "text": "x = 1"}]


def test_python_documents_without_a_library_on_disk_give_a_clear_error(monkeypatch, tmp_path):
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)})
    with pytest.raises(CorpusUnavailable, match=r"'py' of corpus 'help'.*'mini'"):
        read("help", ["py"])


@pytest.mark.parametrize("missing", ["apt-get", "dpkg-deb"])
def test_help_without_the_package_tools_names_the_tool_and_other_corpora(monkeypatch, missing):
    monkeypatch.setattr(shutil, "which", lambda tool: None if tool == missing else f"/usr/bin/{tool}")
    with pytest.raises(CorpusUnavailable, match=f"corpus='help' needs {missing}.*'wiki40b', 'mini' or 'folder:PATH'"):
        read("help", ["en"])


def test_help_that_cannot_be_downloaded_says_why(monkeypatch):
    class Failed:
        returncode, stdout, stderr = 100, "", "W: old list\nE: Unable to locate package libreoffice-help-fr\nE: more"

    reach(monkeypatch, tools=True, hub_answers=False)
    monkeypatch.setattr(corpus.subprocess, "run", lambda *_, **__: Failed())
    with pytest.raises(CorpusUnavailable, match=r"'help' cannot be downloaded \(E: Unable to locate package libreoffice-help-fr\).*'mini'"):
        read("help", ["fr"])


@pytest.mark.parametrize(("name", "language"), [("help", "ar"), ("help", "js"), ("wiki40b", "eu"), ("mini", "eu"), ("reference", "eu"), ("reference", "js")])
def test_a_language_that_a_corpus_does_not_have_is_refused_beside_those_it_has(name, language):
    with pytest.raises(ValueError, match=f"languages='{language}' is unknown; choose one of: en, fr, de"):
        read(name, ["en", language])


@pytest.mark.parametrize("name", ["auto", "help", "wiki40b", "reference", "mini"])
def test_a_language_that_no_corpus_has_is_refused_before_anything_is_tried(monkeypatch, name):
    from mome import recipes
    from mome.config import resolve_scale

    monkeypatch.setattr(recipes.corpora, "corpus_candidates", lambda *_: pytest.fail("a corpus was tried"))
    with pytest.raises(ValueError, match="languages='tlh' is unknown"):
        recipes.open_bench(resolve_scale("smoke"), name, ["en", "tlh"])


def fake_packages(monkeypatch, folders: dict[str, str]) -> list[str]:
    """Stand in for apt-get and dpkg-deb; `folders` maps a package's code to the folder it unpacks to. Return the packages asked for."""
    asked = []

    def run(words, cwd=None, **_):
        if "download" in words:
            asked.extend(words[words.index("download") + 1:])
            write(cwd, {f"{name}.deb": "" for name in asked})
        elif words[0] == "dpkg-deb":
            folder = folders[Path(words[2]).stem.removeprefix("libreoffice-help-")]
            write(Path(words[3]) / "usr/share/libreoffice/help", {f"{folder}/text/swriter/a.html": PAGE.replace("Note", folder)})
        return corpus.subprocess.CompletedProcess(words, 0, "", "")

    reach(monkeypatch, tools=True, hub_answers=False)
    monkeypatch.setattr(corpus.subprocess, "run", run)
    return asked


def test_the_help_of_a_language_is_found_whatever_the_case_of_its_folder(monkeypatch):
    folders = {"en-us": "en-US", "en-gb": "en-GB", "es": "es", "pt-br": "pt-BR", "zh-cn": "zh-CN"}
    asked = fake_packages(monkeypatch, folders)
    rows = read("help", ["es", "en", "zh-cn", "pt-br", "en-gb"])
    assert sorted(asked) == sorted(f"libreoffice-help-{code}" for code in folders)
    assert [row["language"] for row in rows] == ["es", "en", "zh-cn", "pt-br", "en-gb"]
    assert all(folders[{"en": "en-us"}.get(row["language"], row["language"])] in row["text"].split("\n") for row in rows)


def test_every_language_of_help_is_asked_for_under_its_own_package(monkeypatch):
    languages = [language for language in CORPUS_LANGUAGES["help"] if language != "py"]
    asked = fake_packages(monkeypatch, {language: language.upper() for language in languages} | {"en-us": "en-US"})
    assert len(read("help", languages)) == len(languages) == 34
    assert len(set(asked)) == 34
    assert "libreoffice-help-en" not in asked


def test_a_corpus_that_is_silent_in_a_language_is_not_taken_for_whole(monkeypatch, tmp_path):
    write(tmp_path / "en", {"a.html": PAGE})
    write(tmp_path / "fr", {"a.html": "<html></html>"})
    monkeypatch.setattr(corpus, "fetch_help_packages", lambda languages, scratch: {language: tmp_path / language for language in languages})
    with pytest.raises(CorpusUnavailable, match="corpus='help' gave no document in: fr"):
        read("help", ["en", "fr"])
    monkeypatch.setattr(hub, "download", lambda *_: iter(()))
    with pytest.raises(CorpusUnavailable, match=r"corpus='wiki40b' gave no document in: en, fr;.*common_articles=False"):
        read("wiki40b", ["en", "fr"])


# The Debian Reference

REFERENCE_PAGE = """<?xml version="1.0" encoding="UTF-8"?>
<html xmlns="http://www.w3.org/1999/xhtml"><head><title>Kapitel 1</title></head><body>
<div class="navheader"><table><tr><th>Chapter 1. GNU/Linux tutorials</th></tr><tr><td><a href="pr01.html">Prev</a></td></tr></table><p>Home</p></div>
<div class="chapter"><div class="titlepage"><h1 class="title"><a id="_tutorials"></a>Chapter 1</h1></div><p>Before any section.</p>
<div class="toc"><p><strong>Table of Contents</strong></p></div>
<div class="section"><div class="titlepage"><h2 class="title"><a id="_console"></a>1.1.  Console
  <em>basics</em></h2></div>
<p>Für die <strong>Shell</strong> braucht man
   Übung.</p>
<div class="section"><h3 class="title"><a id="_prompt"></a>1.1.1. The prompt</h3>
<p>Upon starting &amp; login:</p><pre class="screen">foo login:
    root   

<p>Password:</p></pre>
<div class="itemizedlist"><ul><li class="listitem"><p>first point</p></li><li class="listitem"><p>second point</p></li></ul></div></div>
<p>After the inner section.</p></div>
<div class="section"><a id="_empty"></a><div class="empty"> </div></div>
<div class="section"><p>A section without an anchor.</p></div></div>
<div class="navfooter"><hr/><p>Next: Chapter 2</p></div></body></html>"""


def test_a_reference_page_becomes_its_sections_by_anchor_each_without_those_within():
    assert corpus.parse_reference_page(REFERENCE_PAGE.encode()) == {
        "_console": "1.1. Console basics\nFür die Shell braucht man Übung.\nAfter the inner section.",
        "_prompt": "1.1.1. The prompt\nUpon starting & login:\nfoo login:\n    root\nPassword:\nfirst point\nsecond point"}


def test_a_reference_page_without_sections_gives_nothing():
    assert corpus.parse_reference_page(b'<html><body><div class="navheader"><p>Home</p></div><h1>Title</h1></body></html>') == {}


def test_reference_documents_are_sections_that_share_their_ids_in_all_languages(monkeypatch, tmp_path):
    asked = []
    inner = REFERENCE_PAGE.replace('"_console"', '"_files"').replace('"_prompt"', '"_modes"')
    pages = {f"ch{number:02}.{language}.html": page for number, page in ((1, REFERENCE_PAGE), (2, inner)) for language in ("en", "pt", "pt-br", "zh-cn")}
    write(tmp_path, {f"usr/share/debian-reference/{name}": page for name, page in pages.items()})
    write(tmp_path, {f"usr/share/debian-reference/{name}": "no" for name in ("ch01.de.html", "debian-reference.en.txt.gz", "images/next.png")})
    monkeypatch.setattr(corpus, "fetch_packages", lambda name, packages, scratch: asked.append((name, packages)) or tmp_path)
    rows = read("reference", ["zh-cn", "en", "pt"])
    assert asked == [("reference", ["debian-reference-zh-cn", "debian-reference-en", "debian-reference-pt"])]
    ids = ["ch01#_console", "ch01#_prompt", "ch02#_files", "ch02#_modes"]
    assert [(row["language"], row["article_id"]) for row in rows] == [(language, name) for language in ("zh-cn", "en", "pt") for name in ids]
    assert all(set(row) == {"language", "article_id", "text"} and row["text"].strip() for row in rows)


def test_the_python_of_the_reference_is_that_of_installed_packages_and_needs_no_download(monkeypatch, tmp_path):
    monkeypatch.setattr(corpus, "fetch_packages", lambda *_: pytest.fail("a package was fetched"))
    monkeypatch.setattr(corpus, "REFERENCE_PACKAGES", ("one", "two"))
    monkeypatch.setattr(corpus.importlib.util, "find_spec", lambda name: ModuleSpec(name, None, origin=f"{tmp_path}/{name}/__init__.py"))
    write(tmp_path, {"one/__init__.py": "", "one/plot.py": "x = 1", "one/tests/test_plot.py": "no", "two/__init__.py": "y = 2", "two/deep/plot.py": "z = 3"})
    assert [(row["article_id"], row["text"]) for row in read("reference", ["py"])] == [
        ("one/plot.py", "x = 1"), ("two/__init__.py", "y = 2"), ("two/deep/plot.py", "z = 3")]


def test_a_reference_that_cannot_be_fetched_names_itself(monkeypatch):
    reach(monkeypatch, tools=False, hub_answers=False)
    with pytest.raises(CorpusUnavailable, match="corpus='reference' needs apt-get"):
        read("reference", ["en"])


def test_a_reference_that_is_silent_in_a_language_is_not_taken_for_whole(monkeypatch, tmp_path):
    write(tmp_path, {"usr/share/debian-reference/ch01.en.html": REFERENCE_PAGE})
    monkeypatch.setattr(corpus, "fetch_packages", lambda *_: tmp_path)
    with pytest.raises(CorpusUnavailable, match="corpus='reference' gave no document in: fr"):
        read("reference", ["en", "fr"])


def test_every_language_of_the_reference_can_be_asked_for_by_name_and_auto_never_takes_it(monkeypatch):
    reach(monkeypatch, tools=True, hub_answers=True)
    assert [name for name, _ in corpus_candidates("reference", ["en"])] == ["reference"]
    assert "reference" not in [name for name, _ in corpus_candidates("auto", ["en", "py"])]


# The hub

def test_a_hub_that_gives_up_names_the_corpus_and_says_that_the_same_command_goes_on(monkeypatch):
    def give_up(*_):
        yield {"language": "en", "article_id": "Q1", "text": "text"}
        raise hub.HubUnavailable("ReadTimeout: no answer")

    monkeypatch.setattr(hub, "download", give_up)
    message = r"'wiki40b' cannot be read from the hub \(ReadTimeout: no answer\).*same command goes on.*'help', 'mini' or 'folder:PATH'"
    with pytest.raises(CorpusUnavailable, match=message):
        read("wiki40b", ["en"])


def test_the_hub_is_told_how_much_is_wanted_and_where_to_keep_it(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(hub, "download", lambda *arguments: asked.append(arguments) or [{"language": "en", "article_id": "Q1", "text": "text"}])
    assert len(list(read_documents("wiki40b", ["en"], 40, False, tmp_path))) == 1
    assert asked == [(["en"], 40, False, tmp_path)]


# Which corpus is tried

def test_auto_tries_help_first_then_the_hub_then_mini(monkeypatch):
    reach(monkeypatch, tools=True, hub_answers=True)
    assert [name for name, _ in corpus_candidates("auto", ["en", "fr", "py"])] == ["help", "wiki40b", "mini"]


def test_auto_falls_to_mini_when_nothing_is_within_reach(monkeypatch):
    reach(monkeypatch, tools=False, hub_answers=False)
    (name, why), = corpus_candidates("auto", ["en", "fr", "de", "py"])
    assert name == "mini"
    assert "neither" in why


def test_auto_skips_help_for_a_language_that_help_does_not_have(monkeypatch):
    reach(monkeypatch, tools=True, hub_answers=True)
    assert next(corpus_candidates("auto", ["en", "ar"]))[0] == "wiki40b"


def test_auto_skips_the_hub_for_a_language_that_the_hub_does_not_have(monkeypatch):
    reach(monkeypatch, tools=True, hub_answers=True)
    monkeypatch.setattr(hub, "is_reachable", lambda: pytest.fail("the hub was asked"))
    candidates = corpus_candidates("auto", ["en", "eu"])
    assert next(candidates)[0] == "help"
    with pytest.raises(CorpusUnavailable, match=r"\['en', 'eu'\]: no corpus within reach"):
        next(candidates)


def test_auto_goes_on_to_the_hub_for_languages_that_help_has_too(monkeypatch):
    reach(monkeypatch, tools=True, hub_answers=True)
    candidates = corpus_candidates("auto", ["en", "es"])
    assert [next(candidates)[0], next(candidates)[0]] == ["help", "wiki40b"]


@pytest.mark.parametrize("languages", [["en", "fi"], ["ar"], ["ar", "eu"], ["py", "js"]])
def test_auto_never_falls_to_a_mini_that_lacks_a_language(monkeypatch, languages):
    reach(monkeypatch, tools=False, hub_answers=False)
    with pytest.raises(CorpusUnavailable, match="no corpus within reach has all of them; check the network"):
        list(corpus_candidates("auto", languages))


def test_auto_skips_the_hub_when_it_does_not_answer(monkeypatch):
    reach(monkeypatch, tools=True, hub_answers=False)
    assert [name for name, _ in corpus_candidates("auto", ["en"])] == ["help", "mini"]


def test_auto_asks_the_hub_only_when_help_was_not_to_be_had(monkeypatch):
    reach(monkeypatch, tools=True, hub_answers=True)
    monkeypatch.setattr(hub, "is_reachable", lambda: pytest.fail("the hub was asked"))
    assert next(corpus_candidates("auto", ["en"]))[0] == "help"


@pytest.mark.parametrize("name", ["help", "wiki40b", "reference", "mini"])
def test_a_corpus_chosen_by_name_never_falls_back(monkeypatch, name):
    reach(monkeypatch, tools=False, hub_answers=False)
    assert [candidate for candidate, _ in corpus_candidates(name, ["en"])] == [name]


def test_a_folder_chosen_by_name_never_falls_back(monkeypatch, tmp_path):
    reach(monkeypatch, tools=True, hub_answers=True)
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

    reach(monkeypatch, tools=True, hub_answers=False)
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


def test_package_versions_tell_states_of_the_reference_apart_only_with_code():
    assert set(corpus_version("reference", ["en", "py"])) == set(corpus.REFERENCE_PACKAGES)
    assert corpus_version("reference", ["en"]) == {}


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
