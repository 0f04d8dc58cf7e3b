"""The rules for text from outside, at the edge and in files that are loaded: one rule for both."""

import re

#: For Python's `re` and for Arrow's RE2 alike. Tabs and line ends are allowed; other control characters are not.
CONTROL = "[\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f]"
LINK = "^(https?://[^\\s\\x00-\\x1f\\x7f]+)?$"
TEXT_RULE = "text without control characters (tabs and line ends may stand in it)"
LINK_RULE = "a link that begins with http:// or https:// and has no white space"
_control, _link = re.compile(CONTROL), re.compile(LINK.replace("$", "\\Z"))


def first_bad_text(values: list[str]) -> int | None:
    """The first row with a control character."""
    if not any(values) or not _control.search("\n".join(values)):
        return None
    return next(row for row, value in enumerate(values) if _control.search(value))


def first_bad_link(values: list[str]) -> int | None:
    """The first row that is no link that a browser may follow; empty ones are none and allowed."""
    return next((row for row, value in enumerate(values) if value and not _link.match(value)), None)
