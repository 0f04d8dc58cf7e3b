"""kill -9 of the process that writes the log: the acknowledged events are there once, also when a writer publishes again."""

import random
from pathlib import Path

from tests.roadrunner.running import open_log, users_ids
from tests.services.children import child, read_line

ROUNDS = 6
#: Publishes batches from several threads; after each acknowledgement prints the ids. Every writer first publishes again
#: the batch that it does not know the fate of.
WRITER = """
    import sys
    import threading
    from pathlib import Path
    from roadrunner.committer import Committer
    from tests.roadrunner.running import open_log, publish
    from tests.services.batches import follows

    log = open_log(Path(sys.argv[1]))
    committer = Committer(log, 100, lambda: "")
    committer.start()

    def write(writer, batch):
        while True:
            first = 1 + writer * 10**6 + batch * 7
            published = publish(committer, follows(7, first_id=first, user=writer + 1), 60)
            sys.stdout.write(f"{writer} {batch} {published.accepted}\\n")
            sys.stdout.flush()
            batch += 1

    for writer, batch in enumerate(sys.argv[2:]):
        threading.Thread(target=write, args=(writer, int(batch))).start()
"""


def test_acknowledged_events_are_in_the_log_exactly_once(tmp_path: Path) -> None:
    chance = random.Random(7)
    acknowledged = [0, 0, 0]  # by writer: batches
    for _ in range(ROUNDS):
        with child(WRITER, tmp_path, *acknowledged) as writing:
            lines = [read_line(writing) for _ in range(chance.randrange(1, 200))]
            writing.kill()
            lines += (writing.stdout.read() if writing.stdout else "").splitlines(keepends=False)
        for line in lines:
            fields = line.split()
            if len(fields) == 3:
                writer, batch, accepted = map(int, fields)
                assert batch == acknowledged[writer], "in order"
                assert accepted in (0, 7), "a batch is accepted whole, or was before"
                acknowledged[writer] = batch + 1
        log = open_log(tmp_path)
        found = users_ids(log)
        log.close()
        assert set(found.values()) <= {1}, "none twice"
        for writer, batches in enumerate(acknowledged):
            first = 1 + writer * 10**6
            there = sorted(one for one in found if first <= one < first + 10**6)
            assert there[: 7 * batches] == list(range(first, first + 7 * batches)), "none lost"
            assert len(there) in (7 * batches, 7 * (batches + 1)), "at most the batch under way besides"
    assert sum(acknowledged) > ROUNDS
