import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_stabilizer.data.near_duplicates import near_duplicates, normalized
from hf_stabilizer.errors import ConfigurationError
from tests.reference import near_duplicates_reference

TEXTS = st.lists(
    st.one_of(
        st.text(alphabet="ab .", max_size=12),
        st.text(alphabet="abcdefgh", max_size=9).map(lambda end: "the same beginning " + end),
        st.text(max_size=8),
    ),
    max_size=12,
)


def test_a_pair_worked_out_by_hand():
    # "the fox" has the shingles "the f", "he fo", "e fox"; "the fox!" the same ones;
    # "the foxes" these and "foxe" with its left neighbour, " foxe" and "foxes": 3 of 5.
    texts = ["The fox", "the fox!", "The foxes", "fox"]

    assert near_duplicates(texts, threshold=0.6) == [(0, 1, 1.0), (0, 2, 0.6), (1, 2, 0.6)]
    assert near_duplicates(texts, threshold=0.61) == [(0, 1, 1.0)]
    assert near_duplicates(["fox"], texts) == [(0, 3, 1.0)]


@pytest.mark.parametrize("crowded", [0.0, 1.0])
@given(texts=TEXTS, others=TEXTS, threshold=st.sampled_from([0.05, 0.2, 0.5, 0.75, 0.8, 0.9, 1.0]))
@settings(max_examples=50, deadline=None)
def test_no_pair_is_missed_and_none_is_made_up(crowded, texts, others, threshold):
    expected = [near_duplicates_reference(texts, them, threshold) for them in (None, others)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hf_stabilizer.data.near_duplicates._CROWDED", crowded)
        found = [near_duplicates(texts, them, threshold=threshold) for them in (None, others)]

    assert found == expected


@pytest.mark.parametrize("crowded", [0.0, 1.0])
def test_blocks_change_nothing(monkeypatch, crowded):
    texts = [f"row {number % 7} is much like row {number % 5}" for number in range(60)]
    whole = near_duplicates(texts), near_duplicates(texts[:30], texts[30:])
    monkeypatch.setattr("hf_stabilizer.data.near_duplicates._BLOCK", (4, 7))
    monkeypatch.setattr("hf_stabilizer.data.near_duplicates._PAIRS", 9)
    monkeypatch.setattr("hf_stabilizer.data.near_duplicates._CROWDED", crowded)

    assert (near_duplicates(texts), near_duplicates(texts[:30], texts[30:])) == whole
    assert len(whole[0]) > 60


@given(text=st.text())
@settings(deadline=None)
def test_normalising_twice_changes_nothing(text):
    assert normalized(normalized(text)) == normalized(text)


def test_what_normalising_makes_equal_and_what_not():
    assert normalized("Straße") == normalized("STRASSE")
    assert normalized("it 's") == normalized("It\u2019s") == "it s"
    assert normalized("1 + 1") != normalized("1 1")
    assert normalized(" ?! ") == "?!"
    assert normalized(" \n ") == ""


def test_many_rows_take_seconds():
    def sentences(count, step):
        return [
            " ".join(f"word{(row * step + place * place) % 997}" for place in range(20))
            for row in range(count)
        ]

    start = time.process_time()  # other processes aside
    near_duplicates(sentences(4000, 31), sentences(1000, 17))

    assert time.process_time() - start < 30


@pytest.mark.parametrize("threshold", [0, -0.5, 1.1])
def test_a_threshold_out_of_range_is_refused(threshold):
    with pytest.raises(ConfigurationError, match=r"threshold must be in \(0, 1\], got"):
        near_duplicates(["a"], threshold=threshold)
