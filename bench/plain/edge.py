"""The edge, which makes pages: python -m bench.plain.edge PORT REDIS_SOCKET RANKING CANDIDATES...

GET /v1/feeds/home?user=&limit=&cursor= as the mesh has it. POST takes msgpack of `user`, `limit`, `cursor`, `now_ms` and
`given`, the outcome of a walk, so that a page can be compared with one that walked otherwise.
"""

import base64
import sys
import time
from itertools import cycle
from typing import Any
from urllib.parse import parse_qs

import msgspec
import numpy as np
import uvicorn

from bench.plain.rows import ID, NO_DOC, Doc, Rows, doc_of, opened_redis
from bench.plain.rules import FOLLOWED, FRESH, INTERESTS, PAGE, POPULAR, SOURCES
from bench.plain.slate import choose
from bench.plain.wire import Message, caller, packed, unpacked

KEPT_PAGES = 100_000  # of the stream of served pages
MODEL = "plain"


class Edge:
    """An ASGI application."""

    def __init__(self, socket: str, ranking: str, candidates: list[str]) -> None:
        self._redis = opened_redis(socket)
        self._rank = caller(ranking, "Rank")
        self._finders = cycle([caller(address, "Find") for address in candidates])

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One request."""
        if scope["method"] == "POST":
            asked = msgspec.msgpack.decode(await _body(receive))
        else:
            query = {name: values[0] for name, values in parse_qs(scope["query_string"].decode()).items()}
            asked = {"user": int(query["user"]), "limit": int(query.get("limit", PAGE)), "now_ms": 0, "given": {}}
            asked["cursor"] = query.get("cursor", "")
        body = msgspec.json.encode(await self.page(asked))
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def page(self, asked: Message) -> Message:
        """One page."""
        began = time.perf_counter()
        shown = np.frombuffer(base64.urlsafe_b64decode(asked["cursor"]), ID)
        find = {name: asked[name] for name in ("user", "now_ms", "given")}
        found = await next(self._finders)({**find, "shown": packed({"pin": shown})})
        columns = unpacked(found["columns"])
        ranked = unpacked(await self._ranked(found, columns))
        interest = np.where(columns["interest"] == 0, ranked["interest"], columns["interest"])
        up = np.flatnonzero(ranked["down"] == 0)
        kept = {name: values[up] for name, values in {**columns, "interest": interest}.items()}
        rows = up[choose(ranked["score"][up], kept, kept["found_by"], asked["limit"])]
        page = {name: values[rows] for name, values in columns.items()}
        scores = ranked["score"][rows].tolist()
        items = await self._items(page, scores)
        pins = page["pin"].tolist()
        served = msgspec.json.encode({"user": asked["user"], "pins": pins, "scores": scores, "model": MODEL})
        await self._redis.xadd("served", {"page": served}, maxlen=KEPT_PAGES, approximate=True)
        cursor = base64.urlsafe_b64encode(np.concatenate([shown, page["pin"]]).tobytes()).decode()
        took_ms = (time.perf_counter() - began) * 1000
        return {"items": items, "cursor": cursor, "degraded": [], "model": MODEL, "took_ms": round(took_ms, 3)}

    async def _ranked(self, found: Message, columns: dict[str, Rows]) -> Message:
        stated = {name: columns[name] for name in ("pin", "origin", "light", "weight", "nearness", "at_ms")}
        stated["found"] = np.bitwise_count(columns["found_by"])
        return await self._rank({**found, "columns": packed(stated)})

    async def _items(self, page: dict[str, Rows], scores: list[float]) -> list[Message]:
        ids = {name: page[name].tolist() for name in ("pin", "board", "seed", "owner", "interest")}
        docs = await self._docs(
            [("pin", of) for of in (*ids["pin"], *ids["seed"])]
            + [("board", of) for of in ids["board"]]
            + [("user", of) for of in ids["owner"]]
            + [("interest", of) for of in ids["interest"]]
        )
        wanted = [("user", docs["board", board].owner) for board in ids["board"]]
        wanted += [("interest", of) for pin in ids["pin"] for of in docs["pin", pin].interests]
        docs |= await self._docs([of for of in wanted if of not in docs])
        sources, at_ms = page["source"].tolist(), page["at_ms"].tolist()
        rows = zip(*ids.values(), sources, scores, at_ms, strict=True)
        return [_item(docs, *row) for row in rows]

    async def _docs(self, wanted: list[tuple[str, int]]) -> dict[tuple[str, int], Doc]:
        docs = dict.fromkeys(wanted, NO_DOC)
        asked = [of for of in docs if of[1]]
        values = await self._redis.mget([f"doc:{kind}:{of}" for kind, of in asked]) if asked else []
        docs.update(zip(asked, map(doc_of, values), strict=True))
        return docs


def _item(docs: dict[tuple[str, int], Doc], pin: int, board: int, seed: int, owner: int, interest: int, source: int,
          score: float, at_ms: int) -> Message:  # fmt: skip
    doc, of_board = docs["pin", pin], docs["board", board]
    owner_id = owner or of_board.owner
    name = docs["user", owner_id].title if owner_id else ""
    about, seed_title = docs["interest", interest].title, docs["pin", seed].title
    return {
        "pin": str(pin),
        "title": doc.title,
        "link": doc.link,
        "board": {"id": str(board), "title": of_board.title} if board else None,
        "owner": {"id": str(owner_id), "name": name} if owner_id else None,
        "source": SOURCES[source],
        "reason": _reason(source, of_board.title, name, owner == 0, about, seed_title),
        "score": round(score, 6),
        "at_ms": at_ms,
        "interests": [title for of in doc.interests if (title := docs["interest", of].title)],
    }


def _reason(source: int, board: str, owner: str, direct: bool, interest: str, seed: str) -> str:
    if source == FOLLOWED:
        whom = "a board you follow" if direct else f"by {owner or 'someone'}, whom you follow"
        return f"from {board or 'a board'}, {whom}" if direct else f"from {board or 'a board'} {whom}"
    if source == INTERESTS:
        return f"from {interest}, one of your interests" if interest else "from one of your interests"
    if source == POPULAR:
        return "popular with everybody"
    if source == FRESH:
        return f"new in {interest}" if interest else "new"
    return f"because you liked {seed or 'a pin near it'}"


async def _body(receive: Any) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    return body


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Makes its clients on the loop that serves, with the first event of the server."""
    if "edge" not in _made:
        _made["edge"] = Edge(sys.argv[2], sys.argv[3], sys.argv[4:])
    await _made["edge"](scope, receive, send)


_made: dict[str, Edge] = {}

if __name__ == "__main__":
    uvicorn.run(application, host="127.0.0.1", port=int(sys.argv[1]), loop="uvloop", http="httptools", ws="none",
                lifespan="off", log_config=None, access_log=False, backlog=1024)  # fmt: skip
