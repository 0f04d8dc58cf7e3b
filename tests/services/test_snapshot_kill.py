"""kill -9 of a process that takes snapshots all the while: every snapshot that is listed is whole, and what is left over goes."""

import random
import signal
import time
from pathlib import Path

from services.state.manifest import Snapshots
from services.state.pruning import GRACE_S, prune
from services.state.restore import restore
from tests.services.children import child, read_line
from tests.services.snapshots import NOW, SERVICE, opened, past, problems, store, wanted

KILLS = 8
TAKES = """
    import sys
    from pathlib import Path
    from services.core.clock import wall_clock
    from tests.services.snapshots import opened, past, store, taker

    folder, start = Path(sys.argv[1]), int(sys.argv[2])
    view = opened(folder / "0of1", past(1_000_000))
    takes = taker(view, store(folder), clock=wall_clock)
    print("begun", flush=True)
    for offset in range(1_000_000):
        view.apply(offset)
        if offset >= start and offset % 3 == 0:
            takes.take()
"""


def test_whenever_it_is_killed_each_snapshot_that_is_listed_is_whole(tmp_path: Path) -> None:
    chance, of = random.Random(7), Snapshots(store(tmp_path), SERVICE, 0, 1)
    for turn in range(KILLS):
        with child(TAKES, tmp_path, 3 * turn) as process:
            assert read_line(process) == "begun"
            before = len(of.ids())
            end = time.monotonic() + 60
            while len(of.ids()) < before + 2 and time.monotonic() < end:
                time.sleep(0.01)
            time.sleep(chance.random() * 0.2)  # only spreads the moment of the kill; any moment must do
            process.send_signal(signal.SIGKILL)
            process.wait()
        for id_ in of.ids():
            assert problems(of, id_, tmp_path) == []
        prune(of, 2, NOW + round((turn + 1) * (GRACE_S + 1) * 1000))
    newest = of.ids()[0]
    assert restore(wanted(), tmp_path / "again", store(tmp_path), past(1_000_000)) == newest
    view = opened(tmp_path / "again", past(1_000_000))
    assert view.counted(1) == of.manifest(newest).events / 6
    view.close()
    prune(of, 2, NOW + 100 * round(GRACE_S * 1000))
    prune(of, 2, NOW + 200 * round(GRACE_S * 1000))
    named = {file.at for _, manifest in of.readable() for file in manifest.files.values()}
    assert of.files() == named, "nothing of what was being written is left"
    assert sorted(path.name for path in tmp_path.glob("0of1*")) in (["0of1"], ["0of1", "0of1.snapshot"])
