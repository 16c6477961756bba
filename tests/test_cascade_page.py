"""The page of all cascades says what their files, the analysis and the references say."""

import cascade_page
import pytest

import einsum_cascade as ec


def test_every_cascade_is_on_the_page_once():
    listed = " ".join(cascade_page.GROUPS.values()).split()
    assert sorted(listed) == ec.names("cascades")


@pytest.mark.parametrize("name", ec.names("cascades"))
def test_the_file_has_a_formula(name):
    text = cascade_page.formula(name)
    assert len(text) > 10
    assert "=" in text or text.startswith("As ")


def test_the_page_is_up_to_date():
    """If not: `python tests/cascade_page.py`."""
    assert cascade_page.PAGE.read_text(encoding="utf-8") == cascade_page.page()
