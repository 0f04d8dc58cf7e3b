"""The expected counts, by an obvious slow recount: one event after the other, in plain Python."""

from collections import Counter
from collections.abc import Iterable

from services.core.events import Action, Batch, Kind
from services.core.topics import Topic, split

A = Action
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
ENGAGED = {A.IMPRESSION, A.CLOSEUP, A.CLICK, A.SAVE, A.HIDE}
Cell = tuple[int, int, int, int]  # kind, object, action, start of the hour


class Slow:
    """Counts events one by one."""

    def __init__(self) -> None:
        self.interests: dict[int, dict[int, None]] = {}
        self.cells: Counter[Cell] = Counter()
        self.newest: dict[int, int] = {}
        self.voices: dict[tuple[int, ...], set[int]] = {}

    def is_heard(self, partition: int, action: int, user: int, pin: int, at_ms: int) -> bool:
        """One person, one voice: a save or hide for good, else within a day, unless it is dated a week back."""
        self.newest[partition] = max(at_ms, self.newest.get(partition, 0))
        day, ever = at_ms // DAY_MS, action in (A.SAVE, A.HIDE)
        if ever or day <= self.newest[partition] // DAY_MS - 7:
            day = 0
        voices = self.voices.setdefault((partition, day, user, action), set())
        if pin in voices or len(voices) >= (1024 if day else 16_384):
            return False
        voices.add(pin)
        return True

    def add(self, batch: Batch, partition: int = 0) -> None:
        """Count the rows of one partition of OBJECTS, or of a batch as it was published."""
        names = ("action", "pin", "board", "user", "target", "at_ms")
        for i, (action, pin, board, user, target, at_ms) in enumerate(
            zip(*(getattr(batch, name).tolist() for name in names), strict=True)
        ):
            of_pin = self.interests.setdefault(pin, {})
            if action in (A.CREATE_PIN, A.UPDATE_PIN):
                for interest in batch.interests.run(i).tolist():
                    self._join(of_pin, interest)
            elif action == A.JOIN_INTEREST:
                self._join(of_pin, target)
            elif action == A.LEAVE_INTEREST:
                of_pin.pop(target, None)
            elif action in ENGAGED and self.is_heard(partition, action, user, pin, at_ms):
                objects = [(Kind.PIN, pin), (Kind.BOARD, board), (Kind.USER, user)]
                objects += [(Kind.INTEREST, interest) for interest in of_pin]
                hour = at_ms - at_ms % HOUR_MS
                self.cells.update((int(kind), object_, action, hour) for kind, object_ in objects if object_)

    @staticmethod
    def _join(of_pin: dict[int, None], interest: int) -> None:
        if len(of_pin) < 256:
            of_pin[interest] = None


def recounted(batches: Iterable[Batch], partitions: int) -> Counter[Cell]:
    """The cells of batches published one after the other."""
    slow = Slow()
    for batch in batches:
        for part in split(batch, partitions):
            if part.topic == Topic.OBJECTS:
                slow.add(part.batch, part.partition)
    return slow.cells


def cells_of(batches: Iterable[Batch]) -> Counter[Cell]:
    """The cells that batches of COUNTS add up to."""
    found: Counter[Cell] = Counter()
    for batch in batches:
        columns = (batch.kind, batch.target, batch.action, batch.at_ms, batch.count)
        for *cell, count in zip(*(column.tolist() for column in columns), strict=True):
            found[tuple(cell)] += count
    return found
