"""The parts of a document that a program writes, between two marks."""


def between(text: str, begin: str, end: str, made: str) -> str:
    """The text with `made` between its marks. Raises ValueError where it lacks a mark."""
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"no place between marks: {begin} … {end}")
    return f"{before}{begin}\n{made}\n{end}{after}"
