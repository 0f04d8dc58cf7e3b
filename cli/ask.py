"""`feedmesh feed`, `event` and `takedown`: the edge's API from the command line."""

import json
import urllib.error
import urllib.parse
import urllib.request
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from cli.console import Config, Data, data_of, out, plainly
from services.core.errors import InvalidArgument, MeshError, Unavailable
from services.core.events import Action
from services.rpc import mesh as meshes

TIMEOUT_S = 10.0
_OTHERS = (Action.SERVED, Action.PUT_FEATURES, Action.SWITCH_DATASET, Action.NAME_ID)  # the edge takes none of these
ACTIONS = tuple(a.name.lower() for a in Action if a not in _OTHERS)
AsJson = Annotated[bool, typer.Option("--json", help="print the edge's answer as it is")]


@plainly
def feed(
    user: Annotated[str, typer.Argument(help="whose feed")],
    name: Annotated[str, typer.Argument(help="following, interest, picked or home")] = "following",
    limit: Annotated[int, typer.Option(help="pins on the page")] = 25,
    cursor: Annotated[str, typer.Option(help="of the page before")] = "",
    token: Annotated[str, typer.Option(help="of a write that the page must see")] = "",
    explain: Annotated[bool, typer.Option(help="with the request's X-ray; implies --json")] = False,
    as_json: AsJson = False,
    config: Config = None,
    data: Data = None,
) -> None:
    """Ask for a page of a feed.

    Examples:

        feedmesh feed 2

        feedmesh feed 2 following --limit 50 --json

        feedmesh feed 2 --explain | jq .xray.stages
    """
    query = {"user": user, "limit": limit, "cursor": cursor, "token": token, "explain": str(explain).lower()}
    answer = _call("GET", f"/v1/feeds/{urllib.parse.quote(name)}?{_encoded(query)}", data_of(config, data))
    if as_json or explain:
        out.print_json(data=answer)
        return
    table = Table(box=None, header_style="bold")
    for column in ("pin", "title", "why it is here", "score"):
        table.add_column(column)
    for item in answer["items"]:
        table.add_row(item["pin"], Text(item["title"]), Text(item["reason"]), f"{item['score']:.2f}")
    out.print(table)
    degraded = f"   degraded: {', '.join(answer['degraded'])}" if answer["degraded"] else ""
    out.print(f"{len(answer['items'])} pins in {answer['took_ms']:.1f} ms{degraded}", highlight=False)
    if answer["cursor"]:
        out.print(f"next page: --cursor {answer['cursor']}", highlight=False, soft_wrap=True)


@plainly
def event(
    action: Annotated[str, typer.Argument(help=f"one of {', '.join(ACTIONS)}")],
    user: Annotated[str, typer.Option(help="the user who did it")] = "",
    pin: Annotated[str, typer.Option(help="to which pin")] = "",
    board: Annotated[str, typer.Option(help="on which board")] = "",
    target: Annotated[str, typer.Option(help="the user or interest that is followed, joined or named")] = "",
    title: Annotated[str, typer.Option(help="title of a pin or board, name of a user or interest")] = "",
    id_: Annotated[
        str, typer.Option("--id", help="idempotency key; the same one within a day counts once [default: new]")
    ] = "",
    as_json: AsJson = False,
    config: Config = None,
    data: Data = None,
) -> None:
    """Publish one event and print the token that makes a read see it.

    Examples:

        feedmesh event save --user 2 --pin 51 --board 8589934643

        feedmesh event follow_user --user 2 --target 275
    """
    given = {"user": user, "pin": pin, "board": board, "target": target, "title": title, "id": id_}
    body = {"action": action} | {name: value for name, value in given.items() if value}
    _print_answer(_call("POST", "/v1/events", data_of(config, data), body), as_json)


@plainly
def takedown(
    pin: Annotated[str, typer.Argument(help="the pin")],
    as_json: AsJson = False,
    config: Config = None,
    data: Data = None,
) -> None:
    """Take a pin down, for good, from every feed.

    Example:

        feedmesh takedown 51
    """
    _print_answer(_call("DELETE", f"/v1/pins/{urllib.parse.quote(pin, safe='')}", data_of(config, data)), as_json)


def _print_answer(answer: Any, as_json: bool) -> None:
    if as_json:
        out.print_json(data=answer)
    else:
        out.print(f"accepted; token {answer['token']}", highlight=False, soft_wrap=True)


def _encoded(query: dict[str, Any]) -> str:
    return urllib.parse.urlencode({name: value for name, value in query.items() if value != ""})


def _call(method: str, path: str, data: Any, body: object = None) -> Any:
    """The edge's JSON answer. Raises InvalidArgument where it refuses, else MeshError."""
    edge = meshes.load(meshes.mesh_file(data)).of("web")[0].http
    content = json.dumps(body).encode() if body is not None else None
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(f"http://{edge}{path}", content, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        message = json.load(error)["error"]["message"]
        raise (InvalidArgument if error.code in (400, 404, 413) else MeshError)(message) from None
    except OSError as error:
        raise Unavailable(f"http://{edge}: {error}") from None
