"""The names of feeds, and of a page that could not be made."""

from services.core.events import Surface

#: Every feed, and the surface that its pages are.
SURFACES = {
    "following": Surface.FOLLOWING,
    "interest": Surface.INTEREST,
    "picked": Surface.PICKED,
    "home": Surface.HOME,
}
FALLBACK = "fallback"  # in `degraded`: the page is the fallback page
