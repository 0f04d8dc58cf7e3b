"""The signals of realpin, from a recount of the log: the weights computed a second time, pin by pin."""

from realpin.client import RealpinClient
from services.core.events import Action
from services.rpc.mesh import Mesh
from tests.drill.recount import TIMEOUT_S, Recount

DAY_MS = 86_400_000
A = Action
WEIGHTS = {A.CLOSEUP: (1.0, 3.0), A.CLICK: (2.0, 7.0), A.SAVE: (4.0, 30.0)}  # weight, days until it is half
MOST = 200  # pins that are looked at; a user with more is not compared


async def realpin(mesh: Mesh, expected: Recount) -> list[str]:
    """Users whose pins or weights are not those of the log."""
    client, found = RealpinClient(mesh), []
    for user in expected.history:
        wanted, newest = engaged(expected, user)
        hidden = {pin for (pin, _, action, _, _) in expected.history[user] if action == A.HIDE}
        if len(set(wanted) | hidden) > MOST:
            continue
        answer = await client.signals(user, pins=1000, interests=0, timeout=TIMEOUT_S)
        held = dict(zip(answer.pins.tolist(), answer.weights.tolist(), strict=True))
        alive = {pin: weight for pin, weight in wanted.items() if pin not in hidden | expected.down}
        if set(held) != set(alive) or answer.newest_ms != newest:
            found.append(
                f"realpin: user {user}: {len(held)} pins until {answer.newest_ms}, not {len(alive)} until {newest}"
            )
        elif any(abs(held[pin] - weight) > 1e-3 * weight + 1e-9 for pin, weight in alive.items()):
            found.append(f"realpin: user {user}: weights {held}, not {alive}")
    await client.close()
    return found


def engaged(expected: Recount, user: int) -> tuple[dict[int, float], int]:
    """The weight of each pin, as of the newest that speaks for a pin, and when the newest of all was; 0: there is none."""
    kept = [(key, n) for key, n in expected.history[user].items() if key[2] in WEIGHTS or key[2] == A.HIDE]
    newest = max((at for (_, _, _, _, at), _ in kept), default=0)
    hidden = {pin for (pin, _, action, _, _), _ in kept if action == A.HIDE}
    speaks = max((at for (pin, _, action, _, at), _ in kept if pin not in hidden), default=0)
    weights: dict[int, float] = {}
    for (pin, _, action, _, at), n in kept:
        if action != A.HIDE:
            weight, half = WEIGHTS[Action(action)]
            weights[pin] = weights.get(pin, 0.0) + n * weight * 2 ** -(max(speaks - at, 0) / (half * DAY_MS))
    return weights, newest
