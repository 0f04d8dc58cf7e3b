"""Which layouts the services of a data folder have: how many shards answer, and how many stand beside them.

`feedmesh layout` writes it into `<data>/layouts.json`; the supervisor follows it while the mesh runs, and begins with it. It wins
over `shards` in a section, which is what a service has that is not in it. Of the layout that stands beside, processes run and
follow the log, and no client asks them: it is being added, or was replaced.
"""

import shutil
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

from services.core import summed
from services.core.durable import rename_durably, replace_durably
from services.core.errors import InvalidArgument
from services.core.settings import Sections
from services.ops.probe import Health
from services.rpc.membership import Address, Members
from services.state.follower import READY_LAG_EVENTS

SETTING = "shards"
RETIRED = ".retired"  # behind the name of a folder that is being removed


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


def why_not_filled(of: Health) -> str:
    """Why a process can't be asked yet; empty when it can."""
    name = f"{of.of.name}{f' on {of.of.host}' if of.of.host else ''}"
    if not of.ready:
        return f"{name}: {of.why}"
    behind = of.status.behind if of.status else 0
    return f"{name} is {behind} events behind" if behind > READY_LAG_EVENTS else ""


def check_is_beside(service: str, shards: int | None, beside: int) -> None:
    """Raise InvalidArgument when another layout is meant than the one beside. shards: of that which is meant, if it was said."""
    if shards not in (None, beside):
        raise InvalidArgument(f"--shards {shards}: {service} has {beside} shards beside those that answer")


def check_filled(before: Iterable[Address], after: Iterable[Address], else_: str) -> None:
    """Raise InvalidArgument when a service would answer from a layout that was not there before. else_: what else can be done."""
    there = {(of.service, of.shards) for of in before}
    answered = Members(tuple(before)).layouts()
    for service, shards in Members(tuple(after)).layouts().items():
        if service in answered and (service, shards) not in there:
            raise InvalidArgument(
                f"[{service}] {SETTING} = {shards}: are not filled yet, and {answered[service]} answer; `feedmesh layout add "
                f"{service} --shards {shards}` has another layout filled beside them, or {else_}"
            )


def is_retired(of: Address, processes: Iterable[Address]) -> bool:
    """Whether a service has processes, and none of this one's layout any more."""
    layouts = {other.shards for other in processes if other.service == of.service}
    return bool(layouts) and of.shards not in layouts


def remove(folder: Path) -> None:
    """Remove the folder of a process that has ended, on a thread. It has another name from the beginning, so that a process which
    comes to have this folder finds none.
    """
    retired = folder.with_name(folder.name + RETIRED)
    shutil.rmtree(retired, ignore_errors=True)
    if folder.exists():
        rename_durably(folder, retired)
    threading.Thread(target=shutil.rmtree, args=(retired, True), name="retired", daemon=True).start()


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
