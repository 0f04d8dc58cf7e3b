"""Text as a search compares it: equal where people see the same letters, however they were typed or stored."""

import sys
import unicodedata

#: Letters that Unicode does not take apart, and the tatweel that only stretches a word.
_OTHERS = {"ı": "i", "ł": "l", "ø": "o", "đ": "d", "\u0640": ""}


def _is_ignored(mark: str) -> bool:
    """Accents, Hebrew points, Arabic vowel signs, and characters without a glyph.

    By combining class: marks of classes 7 to 9 and 84 to 132 are other letters (a voiced kana, a Thai tone, a virama).
    """
    of = unicodedata.combining(mark)
    return of == 1 or 10 <= of <= 36 or of >= 200 or unicodedata.category(mark) == "Cf"


_IGNORED = str.maketrans({chr(i): None for i in range(sys.maxunicode + 1) if _is_ignored(chr(i))} | _OTHERS)


def folded(text: str) -> str:
    """NFKC, without case and accents, each run of white space as one space. Folded twice it is the same."""
    if text.isascii():
        return " ".join(text.lower().split())
    apart = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(unicodedata.normalize("NFKC", apart.translate(_IGNORED).casefold()).split())
