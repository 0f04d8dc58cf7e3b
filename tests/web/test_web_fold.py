"""The results of a search: names in any normal form, case and script, and none that only looks near."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from web.fold import folded

SAME = [
    ("José", "José"),
    ("JOSÉ", "jose"),
    ("İpek", "ipek"),
    ("IPEK", "ıpek"),
    ("Straße", "STRASSE"),
    ("Ｆｕｌｌ　ｗｉｄｔｈ", "full width"),
    ("ﬁne", "FINE"),
    ("Ὀδυσσεύς", "οδυσσευς"),
    ("مُحَمَّد", "محمد"),
    ("محـــمد", "محمد"),
    ("שָׁלוֹם", "שלום"),
    ("Łódź", "lodz"),
    ("Søren", "soren"),
    ("Nguyễn", "nguyen"),
    ("zero\u200bwidth", "zerowidth"),
    ("½ Ⅳ ㌔", unicodedata.normalize("NFKC", "½ Ⅳ ㌔")),
    ("  two\u00a0 words ", "two words"),
]
DIFFERENT = [("かき", "がき"), ("हिन्दी", "हनद"), ("ไม้", "ไม"), ("เด็ก", "เดก"), ("mama", "papa"), ("кот", "kot")]


@pytest.mark.parametrize(("stored", "asked"), SAME)
def test_R09_a_name_is_found_however_it_is_written(stored: str, asked: str) -> None:
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        assert folded(unicodedata.normalize(form, asked)) in folded(unicodedata.normalize(form, stored))
        assert folded(stored) == folded(asked) == folded(unicodedata.normalize(form, stored))


@pytest.mark.parametrize(("stored", "asked"), DIFFERENT)
def test_R09_other_letters_are_other_names(stored: str, asked: str) -> None:
    assert folded(stored) != folded(asked)


@given(st.text(max_size=30))
def test_R09_folding_is_stable_and_heeds_no_normal_form(text: str) -> None:
    once = folded(text)
    assert folded(once) == once
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        assert folded(unicodedata.normalize(form, text)) == once
