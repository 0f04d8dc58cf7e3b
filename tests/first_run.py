"""The result of a first `make run`: waits until a trained model ranks *home*, then opens the page and reads it.

python -m tests.first_run DATA --process PID
"""

import argparse
import os
import sys
import time
from pathlib import Path

import httpx

from services.core.errors import NotFound
from services.rpc.mesh import load, mesh_file
from tests.browser.visit import CHROMIUM, chromium

MODEL_WITHIN_S = 2400.0  # set-up, a world, a graph and a model, on a busy machine
POLL_S = 1.0


def main() -> int:
    """0 once a model ranked *home* and the page showed its cards; 1 otherwise, with the outcome."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the data folder of the mesh that runs, or will")
    parser.add_argument("--process", type=int, help="end when this process has ended")
    chosen = parser.parse_args()
    model, user, last = "", "", "no answer yet"
    end = time.monotonic() + MODEL_WITHIN_S
    while not model:
        model, user, now = _ranked_by(chosen.data)
        if now != last:
            print(f"first run: {now}", flush=True)
            last = now
        if time.monotonic() > end or (chosen.process and not _alive(chosen.process)):
            print(f"first run: no model ranks home: {last}", file=sys.stderr)
            return 1
        time.sleep(POLL_S)
    return _open_page(f"{_edge(chosen.data)}/?user={user}&feed=home")


def _edge(data: Path) -> str:
    return f"http://{load(mesh_file(data)).of('web')[0].http}"


def _ranked_by(data: Path) -> tuple[str, str, str]:
    """The model that ranks *home* for a user of the world, or ""; that user; and the state in words."""
    try:
        url = _edge(data)
        users = httpx.get(f"{url}/v1/users", params={"limit": 1}, timeout=30).raise_for_status().json()["users"]
        if not users:
            return "", "", "the mesh answers, and is empty yet"
        user = str(users[0]["user"])
        page = httpx.get(f"{url}/v1/feeds/home", params={"user": user}, timeout=30)
        answer = page.raise_for_status().json()
    except (httpx.HTTPError, KeyError, ValueError, NotFound) as error:
        return "", "", f"no answer yet ({type(error).__name__})"
    if not answer["items"] or answer["degraded"]:
        return "", user, f"home has {len(answer['items'])} pins, degraded: {answer['degraded']}"
    model = str(answer["model"])
    return ("" if model == "light" else model), user, f"home is ranked by {model}"


def _open_page(url: str) -> int:
    if not CHROMIUM.exists():
        print(f"first run: the page was NOT opened: there is no {CHROMIUM}; apt-get install chromium", file=sys.stderr)
        return 1
    with chromium() as browser:
        faults: list[str] = []
        page = browser.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(url)
        page.get_by_test_id("card").first.wait_for()
        cards = page.get_by_test_id("card").count()
    print(f"first run: the page shows {cards} pins")
    return 1 if faults or not cards else 0


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
