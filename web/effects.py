"""The effects on readers and writers while a process of a service is not ready: for people, beside its cause."""

from typing import Final

COVERED: Final = "Nothing is missing: another replica of its shard answers."
#: By service. docs/feed.md has the same as a table of what `degraded` names.
EFFECTS: Final = {
    "roadrunner": "Nothing that users do is accepted (503). Feeds go on, and pages are not logged.",
    "rockstore": "Pages have no titles, links, names and reasons. Users, boards and pins can't be looked up.",
    "apiary": "following is the fallback page. The other feeds leave out what is followed.",
    "polaris": "following, interest and home are the fallback page. picked has only what the walks pass.",
    "aperture": "All feeds are the fallback page: without it, pins that were seen or hidden would come back.",
    "realpin": "Recent actions do not move the feeds: picked is popular and fresh pins.",
    "counters": "Popular and fresh pins are missing. The model ranks without counts.",
    "smartfeed": "Nothing is missing while the other services are well. There is no fallback page.",
    "pixie": "picked is popular and fresh pins. home does without walks.",
    "scorpion": "Feeds are ranked by the light score.",
    "feedgen": "All feeds are the fallback page.",
    "prober": "Nothing is missing. How fresh the views are is not measured.",
    "web": "Pages and the HTTP API are away.",
}
