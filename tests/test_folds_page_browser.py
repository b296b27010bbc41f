"""The page of a cross-validation in headless Chromium: quiet, alone, narrow, sorted."""

from __future__ import annotations

from pathlib import Path

import pytest

from hf_stabilizer.folds import write_fold_report
from tests.studies.test_report_browser import browser, pytestmark, show  # noqa: F401
from tests.test_folds_page import two_classes, validated


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder: Path = tmp_path_factory.mktemp("folds")
    texts = ["a film " * 60, "unbroken" * 60, *"abcd"]
    found = validated(folder, two_classes(), texts=texts, failed="an error " * 40)
    return write_fold_report(found).as_uri()


@pytest.mark.parametrize("width", [400, 1100])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_and_is_quiet(browser, address, width, scheme) -> None:  # noqa: F811
    browser.get_log("browser")
    show(browser, address, width=width, scheme=scheme)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.get_log("browser") == []


def test_sorting_leaves_the_last_rows_where_they_are(browser, address) -> None:  # noqa: F811
    show(browser, address)
    browser.execute_script("document.querySelectorAll('#folds th button')[1].click()")
    browser.execute_script("document.querySelectorAll('#folds th button')[1].click()")
    names = browser.execute_script(
        "return [...document.querySelectorAll('#folds tr > th[scope=row]')].map(e => e.innerText)"
    )
    assert names == ["fold2", "fold1", "mean", "std over folds", "pooled"]
