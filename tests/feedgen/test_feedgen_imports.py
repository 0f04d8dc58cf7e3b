"""The modules that the edge imports of feedgen: its client and the last resort, and nothing that makes pages."""

import subprocess
import sys

IMPORTED = """
import sys
import {module}
print(*sorted(name for name in sys.modules if name.startswith("feedgen.")))
"""
#: Each is small and knows no stage; `last_resort` makes a page without feedgen.
OF_THE_EDGE = {
    "feedgen.attempt",
    "feedgen.client",
    "feedgen.cursor",
    "feedgen.items",
    "feedgen.last_resort",
    "feedgen.last_resort.most_saved",
    "feedgen.last_resort.page",
    "feedgen.last_resort.popular",
    "feedgen.last_resort.ttl",
    "feedgen.names",
    "feedgen.shown",
    "feedgen.titles",
}


def imported(module: str) -> set[str]:
    """Modules of feedgen in the memory of a process that imports this one."""
    script = IMPORTED.format(module=module)
    done = subprocess.run([sys.executable, "-c", script], timeout=120, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_the_edge_has_the_client_of_feedgen_and_the_last_resort_alone() -> None:
    assert imported("web.wiring, web.serving, web.app") == OF_THE_EDGE


def test_the_check_sees_what_makes_pages() -> None:
    assert {"feedgen.pipeline", "feedgen.stages", "feedgen.kernel"} <= imported("feedgen.feeds")
