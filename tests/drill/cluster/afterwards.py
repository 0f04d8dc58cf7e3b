"""After the drill: the log recounted in plain Python, every view compared with it, and every replica with the others."""

from collections.abc import Callable, Sequence
from itertools import groupby

from tests.drill.cluster.parts import Parts
from tests.drill.differences import differences
from tests.drill.recount import recount
from tests.mesh.questions import QUESTIONS, answers

SHOWN = 5


def problems(parts: Parts, acknowledged: Sequence[int], ids: Sequence[int], report: Callable[[str], None]) -> list[str]:
    """Events lost or there twice, views that differ from the log, replicas that differ from each other; empty when all is well.

    ids: users, boards and pins that replicas are asked about.
    """
    report("every view catches up")
    parts.until_caught_up()
    found = recount(parts.mesh)
    lost = [id_ for id_ in acknowledged if not found.ids[id_]]
    doubled = [id_ for id_ in acknowledged if found.ids[id_] > 1]
    report(
        f"{len(acknowledged)} acknowledged events: {len(lost)} lost, {len(doubled)} twice; {found.events} in the log"
    )
    wrong = differences(parts.mesh, found)
    report(f"{len(wrong)} differences between views and the log")
    unlike = _unlike(parts, ids)
    report(f"{len(unlike)} answers of replicas differ")
    said = [f"lost: {id_}" for id_ in lost[:SHOWN]] + [f"twice: {id_}" for id_ in doubled[:SHOWN]]
    return said + wrong[:SHOWN] + unlike[:SHOWN]


def _unlike(parts: Parts, ids: Sequence[int]) -> list[str]:
    """Questions that a replica answers otherwise than the first of its shard."""
    found = []
    for view in QUESTIONS:
        for _, replicas in groupby(parts.mesh.of(view), lambda of: of.shard):
            first, *others = replicas
            expected = answers(first, list(ids))
            for other in others:
                for (method, one), (_, two) in zip(expected, answers(other, list(ids)), strict=True):
                    if one != two:
                        found.append(f"{other.name}: {method} is answered otherwise than by {first.name}")
    return found
