"""Is what is chosen done, nothing else, and only once?"""

import html
import json
import tracemalloc

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_stabilizer.cli import main
from hf_stabilizer.data_quality import clean_rows
from hf_stabilizer.data_quality.markup import without_html
from hf_stabilizer.errors import ConfigurationError, DataError
from tests.reference import first_of_alike

PIECES = [
    *("good ", "Film", " the", "\u00c3\u00a9", "&amp;", "&lt;b&gt;", "&amp;lt;", "<p>", "</p>"),
    *("<b>", "</b>", "<!-- no -->", "\u200b", "\n", "  ", "running ", "not ", "x <y and y> z", "!"),
]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=8).map("".join)


def run(texts, labels=None, **options):
    frame = pd.DataFrame({"text": texts, "label": labels or ["a"] * len(texts)})
    return clean_rows(frame, **options)


def test_nothing_chosen_is_a_copy():
    frame = pd.DataFrame({"text": [" <b>A</b> ", None, "A"], "label": [1, 2, 1], "more": [1, 2, 3]})
    cleaned = clean_rows(frame)

    pd.testing.assert_frame_equal(cleaned.frame, frame)
    assert cleaned.steps == ()


def test_each_step_by_hand():
    def cleaned(text, **options):
        return run([text], **options).frame["text"][0]

    assert cleaned("<p>a&nbsp;<i>b</i></p><script>x()</script>", html=True) == " a\xa0b  "
    assert cleaned("if x <y then", html=True) == "if x <y then"
    assert cleaned("a &amp;lt; b &lt; c, AT&T", html=True) == "a &lt; b < c, AT&T"
    assert cleaned("&lt;b&gt; A", html=True, lowercase=True) == "<b> a"
    assert cleaned("caf\u00c3\u00a9\u200b", unicode=True) == "caf\u00e9"
    assert cleaned(" a\t b\n", whitespace=True) == "a b"
    assert cleaned("A \u00c4", lowercase=True) == "a \u00e4"
    assert cleaned("This is not it", stop_words=True) == "not"
    assert cleaned("a b c", stop_words=["B"]) == "a c"
    assert cleaned("Running films", stem=True) == "run film"
    assert cleaned("Laufende", stem="german") == "laufend"


def test_rows_are_dropped_by_hand():
    texts = ["Good.", "good", "good", "bad", "bad", "", "left"]
    labels = ["x", "x", "y", "x", "x", "x", "x"]

    conflicts = run(texts, labels, drop_conflicts=True)
    assert conflicts.steps[0].rows == (1, 2, 3)
    duplicates = run(texts, labels, drop_duplicates=True)
    assert duplicates.steps[0].rows == (2, 5)
    every = run(
        texts, labels, drop_rows=[4], drop_empty=True, drop_conflicts=True, drop_leaks=["LEFT!"]
    )
    assert [(step.name, step.rows) for step in every.steps] == [
        ("drop_rows", (4,)),
        ("drop_empty", (6,)),
        ("drop_conflicts", (1, 2, 3)),
        ("drop_leaks", (7,)),
    ]
    assert every.frame["text"].tolist() == ["bad"]


def test_near_repeats_go_with_similarity():
    texts = ["the quick brown fox jumps over it", "the quick brown fox jumps over it all", "else"]

    assert len(run(texts, drop_duplicates=True).frame) == 3
    assert len(run(texts, drop_duplicates=True, similarity=0.8).frame) == 2
    assert len(run(texts, drop_leaks=texts[1:2], similarity=0.8).frame) == 1
    assert len(run(texts, ["a", "b", "a"], drop_duplicates=True, similarity=0.8).frame) == 3


REPEATS = ["the film was good", "The film was good!", "the film was goody", "a plot", "", "?"]


@given(
    rows=st.lists(st.tuples(st.sampled_from(REPEATS), st.sampled_from("ab")), min_size=1),
    similarity=st.sampled_from([0.5, 0.8, 1.0]),
)
@settings(max_examples=60, deadline=None)
def test_repeats_go_as_if_each_pair_were_looked_at(rows, similarity):
    texts, labels = map(list, zip(*rows, strict=True))
    keys = {"text_columns": ["text"], "label_column": "label"}
    kept = run(texts, labels, drop_duplicates=True, similarity=similarity, **keys).frame
    places = first_of_alike(texts, labels, similarity)
    assert kept.to_numpy().tolist() == [[texts[place], labels[place]] for place in places]


def test_a_text_that_is_repeated_thousands_of_times_makes_no_millions_of_pairs():
    tracemalloc.start()
    try:
        for similarity in (1.0, 0.9):
            options = {"text_columns": ["text"], "drop_duplicates": True, "similarity": similarity}
            assert len(run(["ok"] * 2000, **options).frame) == 1
        assert tracemalloc.get_traced_memory()[1] < 50e6  # the pairs alone would take 200 MB
    finally:
        tracemalloc.stop()


def test_lists_of_labels_are_labels_whatever_file_they_come_from(tmp_path):
    rows = {
        "text": ["a film", "a film", "a plot", "a plot"],
        "label": [[*"xy"], [*"yx"], ["x"], []],
    }
    pd.DataFrame(rows).to_parquet(tmp_path / "rows.parquet")
    frame = pd.read_parquet(tmp_path / "rows.parquet")
    options = {"text_columns": ["text"], "label_column": "label"}
    assert clean_rows(frame, drop_duplicates=True, **options).frame.index.size == 3
    (step,) = clean_rows(frame, drop_conflicts=True, **options).steps
    assert step.rows == (3, 4)


SWITCHES = ("html", "unicode", "whitespace", "lowercase", "stop_words", "stem")
ROWS = ("drop_empty", "drop_conflicts", "drop_duplicates")


@given(
    texts=st.lists(TEXTS, min_size=1, max_size=6),
    labels=st.lists(st.sampled_from("ab"), min_size=6, max_size=6),
    chosen=st.sets(st.sampled_from([*SWITCHES, *ROWS])),
    similarity=st.sampled_from([0.5, 1.0]),
)
@settings(max_examples=60, deadline=None)
def test_cleaning_what_is_clean_changes_nothing(texts, labels, chosen, similarity):
    options = dict.fromkeys(chosen, True) | {"similarity": similarity}
    columns = {"text_columns": ["text"], "label_column": "label"}
    texts = [*texts, "never dropped, of one label alone"]
    try:
        once = run(texts, [*labels[: len(texts) - 1], "c"], **options, **columns)
    except DataError:
        pytest.fail("the last row stays")
    again = clean_rows(once.frame, **options | {"html": False}, **columns)  # decodes once a time

    pd.testing.assert_frame_equal(again.frame, once.frame)
    assert all(step.rows == () for step in again.steps)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ('<a href="x>y">z</a>', "z"),
        ("<IMG SRC='a>b' alt>z", " z"),
        ("a<br>b<br/>c<br />d</p >", "a b c d "),
        ("<!DOCTYPE html>\n<p\nclass=x>5 > 3\n</p>", " \n 5 > 3\n "),
        ("<!-- a > b <b> -->z<!---->y", " z y"),
        ("<script>if (a<b) {} '</b>'</script>z<STYLE x='>'>p > a</style\n>y", " z y"),
        ("<script src=x></script>z", " z"),
        # What is never closed begins nothing: all that follows would be lost.
        ("the <script> tag and <!-- this", "the <script> tag and <!-- this"),
        ("<p>an <b unclosed", " an <b unclosed"),
        ("<a href='x", "<a href='x"),
        ("a <style> b </script> c", "a <style> b   c"),
        # No tags, whatever they look like.
        ("I </3 you <b>so</b>, x <3", "I </3 you so, x <3"),
        ("a < b, if a <b and c> d", "a < b, if a <b and c> d"),
        ("<grin> <3 < > <> </> <y>", "<grin> <3 < > <> </> <y>"),
        ("&copy 1, &nosuch; &#65; &#x42; &;", "&copy 1, &nosuch; A B &;"),
    ],
)
def test_html_by_hand(text, left):
    assert without_html(text) == left


@given(text=st.text(max_size=30))
@settings(deadline=None)
def test_text_without_tags_and_entities_is_left_alone(text):
    if "<" not in text and "&" not in text:
        assert without_html(text) == text


SIGNS = [
    *("<", ">", "</", "/>", "<3", "x<y", "<y z>", "&", ";", "AT&T", "<!", "<!-", "<?", "->", "--"),
    *("'", '"', "=", "x", "<b and c>", "<a", "<em ", "2", " ", "\n", "\r", "\0", "\u00e9", "\x1c"),
]


@given(text=st.lists(st.sampled_from(SIGNS), max_size=12).map("".join))
@settings(deadline=None, max_examples=300)
def test_signs_that_are_no_markup_are_left_alone(text):
    quiet = text.replace("<a>", "").replace("<a/>", "").replace("<em ", "<y ")
    if not any(f"<a{after}" in quiet for after in " \n\r\x1c/"):
        assert without_html(quiet) == quiet


@given(text=st.text(max_size=40) | st.lists(st.sampled_from(SIGNS), max_size=12).map("".join))
@settings(deadline=None)
def test_text_that_is_written_as_html_comes_back(text):
    assert without_html(html.escape(text)) == text
    value = text.replace('"', "")
    assert without_html(f'<a href="{value}">{html.escape(text)}</a>') == text


@given(text=st.lists(st.sampled_from([*SIGNS, *PIECES, "<script>", "</script "]), max_size=20))
@settings(deadline=None)
def test_whatever_html_there_is_letters_between_tags_stay(text):
    written = "".join(f"{piece}\u4e00" for piece in text if "<" not in piece)
    assert without_html(written).count("\u4e00") == written.count("\u4e00")
    without_html("".join(text))


def test_examples_show_what_has_changed():
    """Both would begin with the same hundred letters else."""
    text = "word " * 60 + "caf&eacute;\n  " + "word " * 60
    (html_step, spaces) = run([text], html=True, whitespace=True).steps
    ((before, after),) = html_step.examples
    assert "caf&eacute;\n" in before
    assert "café\n" in after
    ((before, after),) = spaces.examples
    assert "café\n  word" in before
    assert "café word" in after
    assert max(len(before), len(after)) <= 106


def test_leaks_into_rows_without_labels_are_found(tmp_path):
    rows = pd.DataFrame({"words": ["a b c", "d e f", "g h i"], "mark": ["x", "y", "x"]})
    rows.to_csv(tmp_path / "train.csv", index=False)
    rows[["words"]][1:2].to_csv(tmp_path / "test.csv", index=False)
    keys = ["--text-columns", "words", "--label-column", "mark"]
    words = ["data", "clean", str(tmp_path / "train.csv"), "--output", str(tmp_path / "out.csv")]
    main([*words, "--drop-leaks", str(tmp_path / "test.csv"), *keys])
    assert pd.read_csv(tmp_path / "out.csv").words.tolist() == ["a b c", "g h i"]


def test_stemming_is_advised_against_but_done():
    cleaned = run(["Running"], stem=True, stop_words=True)

    assert cleaned.frame["text"].tolist() == ["run"]
    assert sum("pre-trained transformer" in note for note in cleaned.notes) == 2


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"similarity": 0}, ConfigurationError, "similarity must be in"),
        ({"drop_rows": [3]}, ConfigurationError, "drop_rows must name rows from 1 to 2, got 3"),
        ({"stem": "klingon"}, ConfigurationError, "stem must be one of"),
        ({"stop_words": []}, ConfigurationError, "stop_words names no words"),
        ({"filter": "x"}, ConfigurationError, "a key of clean_rows must be one of"),
        ({"drop_rows": [1, 2]}, DataError, "no row is left after drop_rows"),
    ],
)
def test_what_cannot_be_right_is_refused(options, error, said):
    with pytest.raises(error, match=said):
        run(["a", "b"], **options)


def test_texts_that_are_categories_are_cleaned():
    texts = pd.Categorical(["<b>x</b>", "y y"])
    frame = pd.DataFrame({"text": texts, "label": ["a", "b"]})
    cleaned = clean_rows(frame, html=True, text_columns=["text"])
    assert cleaned.frame["text"].tolist() == ["x", "y y"]


def test_lists_are_no_texts():
    frame = pd.DataFrame({"text": [["a", "b"], ["c"]], "label": ["a", "b"]})
    with pytest.raises(DataError, match="column 'text' holds lists"):
        clean_rows(frame, html=True, text_columns=["text"])


def test_conflicts_need_labels():
    with pytest.raises(DataError, match="drop_conflicts needs labels"):
        clean_rows(pd.DataFrame({"text": ["a", "b"]}), drop_conflicts=True)


def test_the_command_writes_rows_and_what_it_did(tmp_path, capsys):
    rows = pd.DataFrame(
        {"text": ["<b>One</b>", "one", "two"], "label": ["x", "x", "y"], "n": [1, 2, 3]}
    )
    rows.to_csv(tmp_path / "rows.csv", index=False)
    held = tmp_path / "held.csv"
    rows[2:].to_csv(held, index=False)
    words = ["data", "clean", str(tmp_path / "rows.csv"), "--html", "--drop-duplicates",
             "--drop_leaks", str(held)]  # fmt: skip
    main([*words, "--dry-run"])
    assert "1 of 3 rows are left" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["held.csv", "rows.csv"]

    for name in ("clean.parquet", "clean.csv", "lines.jsonl"):
        main([*words, "--output", str(tmp_path / name)])
    assert pd.read_parquet(tmp_path / "clean.parquet").to_dict("list") == {
        "text": ["One"], "label": ["x"], "n": [1],
    }  # fmt: skip
    record = json.loads((tmp_path / "clean.json").read_text())
    assert record["rows_before"] == 3
    assert [step["step"] for step in record["steps"]] == ["html", "drop_duplicates", "drop_leaks"]
    assert record["steps"][0]["examples"] == [{"before": "<b>One</b>", "after": "One"}]
    assert record["steps"][1]["rows_dropped"] == 1


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ([], "name the file to write with --output"),
        (["--output", "x.txt"], "must end in one of .parquet"),
        (["--output", "rows.csv"], "is the file that is read"),
        (["--output", "test.csv", "--drop-leaks", "test.csv"], "is the file that is read"),
        (["--output", "more.csv"], "would overwrite 'more.json', which is none"),
    ],
)
def test_where_the_command_cannot_write(more, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rows = pd.DataFrame({"text": ["a long enough text"], "label": [1]})
    rows.to_csv("rows.csv")
    rows.to_csv("test.csv")
    rows.to_json("more.json", orient="records")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(SystemExit):
        main(["data", "clean", "rows.csv", "--html", *more])
    assert said in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_cells_that_look_like_numbers_stay_as_they_stood(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("id,text,label,share\n007,<b>A</b> film,01,1\n008,,02,\n009,b film,02,0.50\n")
    words = ["data", "clean", str(path), "--html", "--drop-empty", "--output"]
    main([*words, str(tmp_path / "clean.csv")])
    written = (tmp_path / "clean.csv").read_text()
    assert written == "id,text,label,share\n007,A film,01,1\n009,b film,02,0.50\n"
    main([*words, str(tmp_path / "clean.parquet")])
    assert pd.read_parquet(tmp_path / "clean.parquet")["id"].tolist() == [7, 9]
