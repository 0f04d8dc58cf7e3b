"""A page as the items of a reply."""

from collections.abc import Sequence
from typing import Any

from feedgen.titles import Columns
from services.core.columns import F32, I64, U64

_EXTERNAL = ("pin_id", "board_id", "owner_id")


def add_items(
    items: Any, pins: U64, boards: U64, owners: U64, at_ms: I64, scores: F32, sources: Sequence[str], columns: Columns
) -> None:
    """Add n pins to a repeated pb.Item, in their places: a message that is put into another is copied.

    sources: of each, the stage that found it. columns: as `feedgen.titles` has them, and `reason`; a column that is not there
    stays empty, as when rockstore did not answer.
    """
    empty = [""] * len(pins)

    def texts(name: str) -> Sequence[Any]:
        return columns[name].tolist() if name in columns else empty

    owner_of = columns.get("owner_of", owners)
    numbers = (column.tolist() for column in (pins, boards, owner_of, at_ms, scores))
    names = ("title", "link", "board_title", "owner_name", "interest_names", "reason")
    for pin, board, owner, at, score, source, title, link, board_title, owner_name, interests, reason in zip(
        *numbers, sources, *map(texts, names), strict=True
    ):
        item = items.add()
        item.pin, item.board, item.owner, item.at_ms, item.score = pin, board, owner, at, score
        item.source, item.reason, item.title, item.link = source, reason, title, link
        item.board_title, item.owner_name = board_title, owner_name
        if interests:
            item.interests.extend(interests)
    if _EXTERNAL[0] in columns:
        for item, pin_id, board_id, owner_id in zip(items, *map(texts, _EXTERNAL), strict=True):
            item.pin_id, item.board_id, item.owner_id = pin_id, board_id, owner_id
