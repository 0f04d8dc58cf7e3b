"""Every answer of a real mesh is as its own /openapi.json says: status, media type, headers and body, by a JSON Schema validator.

The requests are made from the description: a good one of each operation, and one for each refusal that it describes.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest

from cli import graph, model
from cli.load import load
from services.core.events import RESERVED_FROM
from tests.running import Running, running_mesh
from tests.scorpion.making import written

PROBLEM = "application/problem+json"
ELSEWHERE = "http://elsewhere.example"
Schema = dict[str, Any]


@dataclass
class Described:
    """A mesh, and what it says of itself. `met`: (operation, status) of every answer."""

    running: Running
    http: httpx.Client
    document: Schema
    met: set[tuple[str, int]]

    def operations(self) -> Iterator[tuple[str, str, Schema]]:
        """(method, path, operation) of all."""
        for path, methods in self.document["paths"].items():
            for method, operation in methods.items():
                yield method.upper(), path, operation

    def ask(self, name: str, in_path: dict[str, str], **request: Any) -> httpx.Response:
        """The answer of an operation, once it was found to be as described."""
        method, path, operation = next(one for one in self.operations() if one[2]["operationId"] == name)
        answer = self.http.request(method, path.format(**in_path), **request)
        where = f"{name} {in_path} {str(request)[:200]}: {answer.status_code} {answer.text[:300]}"
        stated = operation["responses"].get(str(answer.status_code))
        assert stated is not None, f"not described: {where}"
        self.met.add((name, answer.status_code))
        media = answer.headers["content-type"].partition(";")[0]
        assert media in stated["content"], where
        for header in stated.get("headers", {}):
            assert header in answer.headers, f"no {header}: {where}"
        schema = stated["content"][media]["schema"]
        value: Any = answer.json() if "json" in media else answer.text
        validator = jsonschema.Draft202012Validator({**schema, "components": self.document["components"]})
        errors = [f"{error.json_path}: {error.message[:300]}" for error in validator.iter_errors(value)]
        assert not errors, f"{errors}: {where}"
        if media == PROBLEM:
            assert value["status"] == answer.status_code, where
            assert value["detail"] == value["error"]["message"], where
        return answer

    def refused(self, name: str, in_path: dict[str, str], http: int, **request: Any) -> str:
        """The texts of an operation's refusals."""
        answer = self.ask(name, in_path, **request)
        assert answer.status_code == http, answer.text
        return str(answer.json()["detail"])


def closed(document: Schema) -> Schema:
    """The same, where an object with a field that is not described is wrong too."""
    whole = copy.deepcopy(document)
    for schema in whole["components"]["schemas"].values():
        if "properties" in schema:
            schema["additionalProperties"] = False
    return whole


@pytest.fixture(scope="module")
def described(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Described]:
    data = tmp_path_factory.mktemp("described") / "data"
    times = {"feed_timeout_s": 20, "read_timeout_s": 20, "event_timeout_s": 20, "max_body_mb": 1}
    with running_mesh(data, {"web": times, "feedgen": {"deadline_ms": 10_000}}) as running:
        load("parquet", world, data=data)
        running.until_caught_up()
        graph.build(data=data)
        for seed in (1, 2):
            written(data / "draft", seed)
            model.push(data / "draft", promoting=True, data=data)
        with httpx.Client(base_url=running.url, timeout=60) as http:
            document = http.get("/openapi.json").json()
            yield Described(running, http, closed(document), set())


IN_PATH = {
    "getFeed": {"feed": "home"},
    "getUser": {"user": "5"},
    "getPin": {"pin": "7"},
    "takeDownPin": {"pin": "99990001"},
    "getModelReport": {"name": "light", "version": "1"},
    "promoteModel": {"name": "light", "version": "1"},
}
QUERY: dict[str, dict[str, str]] = {"getFeed": {"user": "5"}}
BODY = {"events": [{"action": "closeup", "user": "5", "pin": "7"}]}


def known(described: Described, name: str) -> tuple[dict[str, str], dict[str, Any]]:
    """A request that is answered: the values of its path, and the rest."""
    in_path = dict(IN_PATH.get(name, {}))
    if "version" in in_path:
        in_path["name"] = described.http.get("/v1/models").json()["models"][0]["name"]
    return in_path, {"params": dict(QUERY.get(name, {})), **({"json": BODY} if name == "postEvents" else {})}


def test_good_requests_are_answered_as_described(described: Described) -> None:
    for feed in ("home", "following", "interest", "picked"):
        for user in ("5", str(RESERVED_FROM - 1)):
            page = described.ask(
                "getFeed", {"feed": feed}, params={"user": user, "limit": "3", "explain": "true"}
            ).json()
            if page["cursor"]:
                described.ask("getFeed", {"feed": feed}, params={"user": user, "cursor": page["cursor"]})
    pins = [item["pin"] for item in described.ask("getFeed", {"feed": "home"}, params={"user": "5"}).json()["items"]]
    assert pins
    for pin in pins:
        described.ask("getPin", {"pin": pin})
    users: dict[str, Any] = {"next": "0"}
    while users["next"]:
        users = described.ask("listUsers", {}, params={"limit": "100", "after": users["next"]}).json()
    for user in users["users"][:20]:
        described.ask("getUser", {"user": user["user"]})
    described.ask("getUser", {"user": str(RESERVED_FROM - 1)})
    described.ask("listUsers", {}, params={"q": "a"})
    for body in (BODY, BODY["events"], BODY["events"][0]):
        token = described.ask("postEvents", {}, json=body).json()["token"]
    described.ask("getPin", {"pin": pins[0]}, params={"token": token})
    described.ask("takeDownPin", IN_PATH["takeDownPin"])
    models = described.ask("listModels", {}).json()["models"]
    assert len(models) == 2
    described.ask("getModelReport", {"name": models[0]["name"], "version": "1"})
    described.ask("promoteModel", {"name": models[0]["name"], "version": "1"})
    described.ask("rollBackModel", {})
    described.ask("getHealth", {})
    described.ask("getMetrics", {})
    met = {name for name, status in described.met if status < 300} | {"getModelReport"}  # of a model made here: none
    assert met == {operation["operationId"] for _, _, operation in described.operations()}


def wrong(schema: Schema) -> list[str]:
    """Texts that a parameter's schema does not take."""
    if "anyOf" in schema:  # an id
        return ["x", "", "01", "-1", "1.5", str(RESERVED_FROM), str(2**64 - 1), str(2**64)]
    if schema.get("type") == "integer":
        bounds = [str(schema[of] + by) for of, by in (("minimum", -1), ("maximum", 1)) if of in schema]
        return ["x", "", "1.5", "+1", "9" * 400, *bounds]
    if schema.get("type") == "boolean":
        return ["maybe", ""]
    if "maxLength" in schema:
        return ["x" * (schema["maxLength"] + 1)]
    return ["x" * 200] if schema.get("pattern") or schema.get("enum") else []


def test_bad_requests_are_refused_as_described(described: Described) -> None:
    for _, _, operation in described.operations():
        name = operation["operationId"]
        in_path, request = known(described, name)
        for parameter in operation["parameters"]:
            stated, where = parameter["name"], parameter["in"]
            for bad in wrong(parameter["schema"]):
                if where == "query":
                    said = described.refused(
                        name, in_path, 400, **{**request, "params": {**request["params"], stated: bad}}
                    )
                    assert said.startswith(f"{stated} = "), said
                elif bad:
                    answer = described.ask(name, {**in_path, stated: bad}, **request)
                    assert answer.status_code in (400, 404), answer.text
                    assert stated in answer.json()["detail"], answer.text
            if parameter.get("required") and where == "query":
                assert described.refused(name, in_path, 400, **{**request, "params": {}}).startswith(
                    f"{stated} is missing"
                )
        params = list(request["params"].items())
        assert "curser" in described.refused(name, in_path, 400, **{**request, "params": [*params, ("curser", "1")]})
        twice = [*params, ("token", "a"), ("token", "a")]
        assert "token is stated twice" in described.refused(name, in_path, 400, **{**request, "params": twice})
        described.refused(name, in_path, 421, **request, headers={"host": "elsewhere.example"})
        described.refused(name, in_path, 406, **request, headers={"accept-encoding": "*;q=0"})


def test_writes_are_refused_as_described(described: Described) -> None:
    for method, _, operation in described.operations():
        name = operation["operationId"]
        in_path, request = known(described, name)
        if method in ("POST", "DELETE"):
            assert "allowed_origins" in described.refused(name, in_path, 403, **request, headers={"origin": ELSEWHERE})
    for content in (b"", b"{", b"[]", b"7", b"\xff\xfe", b'[{"action":"hide"}]', b'[{"action":"hide","user":1e400}]'):
        described.refused("postEvents", {}, 400, content=content)
    described.refused("postEvents", {}, 413, content=b" " * (1 << 20) + b" ")
    described.refused("postEvents", {}, 415, content=b"x", headers={"content-encoding": "br"})
    schema = described.document["components"]["schemas"]["Event"]["properties"]
    for field in schema:
        said = described.refused("postEvents", {}, 400, json=[{**BODY["events"][0], field: {}}])
        assert said.startswith(f"events[0].{field} = {{}} is not allowed: "), said
    for name in ("promoteModel", "getModelReport"):
        assert "9" in described.refused(name, {"name": "nobody", "version": "9"}, 404)
    described.refused("getPin", {"pin": "4040404"}, 404)


def test_other_methods_are_refused_with_those_that_there_are(described: Described) -> None:
    for path, methods in described.document["paths"].items():
        names = {name.upper() for name in methods} | {"OPTIONS"} | ({"HEAD"} if "get" in methods else set())
        target = path.format(feed="home", user="5", pin="7", name="light", version="1")
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE"} - names:
            answer = described.http.request(method, target)
            assert (answer.status_code, answer.headers["content-type"]) == (405, PROBLEM)
            assert set(answer.headers["allow"].split(", ")) == names, path
            failure = {"$ref": "#/components/schemas/Failure", "components": described.document["components"]}
            jsonschema.Draft202012Validator(failure).validate(answer.json())


def test_the_examples_are_as_described(described: Described) -> None:
    for _, _, operation in described.operations():
        contents = [answer["content"] for answer in operation["responses"].values()]
        for content in [*contents, operation.get("requestBody", {}).get("content", {})]:
            for media in content.values():
                if "example" in media:
                    schema = {**media["schema"], "components": described.document["components"]}
                    jsonschema.Draft202012Validator(schema).validate(media["example"])


def test_outages_are_answered_as_described(described: Described) -> None:
    with described.running.without("rockstore"):
        for name in ("getPin", "listUsers"):
            assert described.ask(name, IN_PATH.get(name, {})).status_code == 503
        described.ask("getHealth", {})
        described.ask("getFeed", {"feed": "home"}, params={"user": "5"})
        described.ask("getUser", {"user": "5"})
    described.running.until_ready()
