"""The codings and types that a client accepts, by the q-values of RFC 9110 (12.4.2 and 12.5.3)."""

import re

from starlette.types import Scope

_QUALITY = re.compile(r"(?:0(?:\.\d{0,3})?|1(?:\.0{0,3})?)")


def qualities(stated: str) -> dict[str, float]:
    """Each name of a list such as `gzip;q=0.5, *;q=0` and its quality; one that is malformed counts as 1."""
    found = {}
    for part in stated.split(","):
        name, *parameters = (piece.strip().lower() for piece in part.split(";"))
        if name:
            texts = [p.partition("=")[2].strip() for p in parameters if p.partition("=")[0].strip() == "q"]
            found[name] = float(texts[0]) if texts and _QUALITY.fullmatch(texts[0]) else 1.0
    return found


def coding_for(scope: Scope) -> str | None:
    """Whichever of "gzip" and "identity" the client likes better, gzip among equals.

    "gzip only" where it refuses identity, None where it refuses both.
    """
    lines = [value for name, value in scope["headers"] if name == b"accept-encoding"]
    if not lines:
        return "identity"
    stated = qualities(b",".join(lines).decode("latin-1"))
    gzip = stated.get("gzip", stated.get("x-gzip", stated.get("*", 0.0)))
    identity = stated.get("identity")
    if identity == 0 or (identity is None and stated.get("*") == 0):
        return "gzip only" if gzip else None
    return "gzip" if gzip and gzip >= (identity or 0.0) else "identity"
