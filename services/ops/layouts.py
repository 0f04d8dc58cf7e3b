"""Which layouts the services of a data folder have: how many shards answer, and how many stand beside them.

`feedmesh layout` writes it into `<data>/layouts.json`; the supervisor follows it while the mesh runs, and begins with it. It wins
over `shards` in a section, which is what a service has that is not in it. Of the layout that stands beside, processes run and
follow the log, and no client asks them: it is being added, or was replaced.
"""

from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

from services.core import summed
from services.core.durable import replace_durably
from services.core.errors import InvalidArgument
from services.core.settings import Sections

SETTING = "shards"


class Layout(Struct, frozen=True):
    """Of one service. serves: shards that answer; beside: shards of the other layout, 0: there is none; since_ms: when it
    was changed last, Unix ms.
    """

    serves: int
    beside: int = 0
    since_ms: int = 0


Layouts = dict[str, Layout]  # by service


def layouts_file(data: Path) -> Path:
    """Where they stand."""
    return data / "layouts.json"


def load(data: Path) -> Layouts:
    """Those of a data folder; none where nothing was changed. Raises InvalidArgument for a file that can't be right."""
    path = layouts_file(data)
    try:
        found = summed.decoded(path.read_bytes(), Layouts)
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.MsgspecError) as error:
        raise InvalidArgument(
            f"{path}: {error}; restore it, or remove it, and `{SETTING}` of each section is what counts"
        ) from None
    wrong = [name for name, of in found.items() if of.serves < 1 or of.beside < 0 or of.beside == of.serves]
    if wrong:
        raise InvalidArgument(f"{path}: {wrong[0]} has no such layouts: {found[wrong[0]]}")
    return found


def save(data: Path, layouts: Layouts) -> None:
    """Replace them atomically."""
    replace_durably(layouts_file(data), summed.encoded(layouts))


def settle(sections: Sections, layouts: Layouts) -> Iterator[str]:
    """Have the sections say how many shards answer; what differs from what they said, in words."""
    for service, of in layouts.items():
        said = getattr(sections.get(service), SETTING, None)
        if said is not None and said != of.serves:
            sections[service].shards = of.serves
            yield (
                f"[{service}] {SETTING} = {said} in the settings, and the layout of this data folder has {of.serves} shards, "
                f"which counts; write that into the settings"
            )
