"""The section [feedgen] of mesh.toml."""

from typing import Annotated

from msgspec import Meta

from feedgen.choices import Choices


class Settings(Choices, kw_only=True):
    """[feedgen]"""

    pages_at_once: Annotated[
        int, Meta(ge=1, le=10_000, description="pages in the making at most; waiting requests begin as a group")
    ] = 8
    slot_ms: Annotated[
        int,
        Meta(
            ge=1, le=60_000, description="after this a page that is not made yet no longer counts against pages_at_once"
        ),
    ] = 100
    pages_waiting: Annotated[
        int, Meta(ge=0, le=10_000, description="requests that wait at most; requests beyond that get the fallback page")
    ] = 32
