"""A whole mesh whose ids are text: a folder of UUIDs is loaded, and every answer speaks them."""

from pathlib import Path
from urllib.parse import quote

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cli.load import load
from cli.schema import SCHEMA
from services.core import settings
from services.core.errors import InvalidArgument
from services.ops.planning import plan
from services.ops.supervisor import Supervisor
from tests.mesh.conftest import page, sections
from tests.running import get, running_mesh

READER, BOARD = "ana@example.org", "boards/0001"
PINS = [f"9c5b94b1-35ad-49bb-b118-8e8fc24abf{i:02x}" for i in range(30)]
T0 = 1_790_000_000_000


def world(folder: Path) -> Path:
    folder.mkdir()
    tables = {
        "users": {"user": [READER, "u-0651"], "name": ["Ana", "Bo"]},
        "boards": {"board": [BOARD], "user": ["u-0651"], "title": ["Kitchen"]},
        "pins": {"pin": PINS, "title": [f"Pin {i}" for i in range(30)], "at": [T0 + i for i in range(30)]},
        "follows": {"user": [READER], "kind": ["board"], "target": [BOARD]},
        "events": {
            "user": ["u-0651"] * 30,
            "action": ["save"] * 30,
            "pin": PINS,
            "board": [BOARD] * 30,
            "at": [T0 + 99] * 30,
        },
    }
    for name, columns in tables.items():
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")
    return folder


def test_P21_a_folder_of_uuids_is_served_under_its_ids(tmp_path: Path) -> None:
    with running_mesh(tmp_path / "data", sections(2, mesh={"ids": "text"})) as running:
        load("parquet", world(tmp_path / "in"), data=tmp_path / "data")
        running.until_caught_up()
        found = page(running, READER, explain="true")
        assert {item["pin"] for item in found["items"]} <= set(PINS)
        assert len(found["items"]) == 25
        assert {item["board"]["id"] for item in found["items"]} == {BOARD}
        assert {item["owner"]["id"] for item in found["items"]} == {"u-0651"}
        assert set(found["xray"]["pins"]) <= set(PINS)
        shown = {item["pin"] for item in found["items"]}
        more = page(running, READER, cursor=found["cursor"])
        assert {item["pin"] for item in more["items"]} == set(PINS) - shown
        down = PINS[0]
        taken = httpx.delete(f"{running.url}/v1/pins/{down}", timeout=20)
        event = {"action": "save", "user": READER, "pin": PINS[1], "board": "my first"}
        saved = httpx.post(f"{running.url}/v1/events", json=event, timeout=20)
        assert (taken.status_code, saved.status_code, saved.json()["accepted"]) == (202, 202, 1)
        assert get(running, f"/v1/pins/{down}", token=taken.json()["token"]).json()["taken_down"] is True
        user = get(running, f"/v1/users/{quote(READER)}", token=saved.json()["token"]).json()
        assert user["follows"]["boards"] == [{"id": BOARD, "title": "Kitchen"}]
        assert [row["user"] for row in get(running, "/v1/users", q="u-0651").json()["users"]] == ["u-0651"]
    numbers = settings.validated({"mesh": {"data": str(tmp_path / "data")}, "web": {"http_port": 0}}, "test", SCHEMA)
    other = Supervisor(plan(numbers), print)
    with pytest.raises(InvalidArgument, match='was begun with ids = "text"'):
        other.start()
    other.stop()
