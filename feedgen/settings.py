"""The section [feedgen] of mesh.toml."""

from typing import Annotated

from msgspec import Meta

from feedgen.choices import Choices


class Settings(Choices, kw_only=True):
    """[feedgen]"""

    pages_at_once: Annotated[
        int, Meta(ge=1, le=10_000, description="pages in the making at most; waiting readers begin as a group")
    ] = 8
    turn_ms: Annotated[
        int, Meta(ge=1, le=60_000, description="after this a page in the making holds up no other, slow as it may be")
    ] = 100
    pages_waiting: Annotated[
        int, Meta(ge=0, le=10_000, description="readers who wait at most; readers beyond that get the fallback page")
    ] = 32
