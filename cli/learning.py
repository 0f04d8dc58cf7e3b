"""The first model of a mesh, and later ones on a schedule: made beside it, in processes of their own at low priority.

As soon as the log holds enough, the graph is built if there is none, a model is trained, compared with simple baselines
and with the model that serves, and promoted if it is better than all of them. Until there is one, the light score ranks.
A thread of the supervisor starts these commands and watches them; `<data>/training/learning.json` says for the page of
models how far they are.

A first model is made once; later ones are made on a schedule, where one is set. A run that was killed begins again at the
next start; one that failed, or found too little, is repeated when the log has grown by half.
"""

import asyncio
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from cli import outcome
from cli.boundary import BACKGROUND
from cli.outcome import Outcome
from pixie.keys import was_pushed
from scorpion import keys as models
from services.blob.opening import open_blobs
from services.core.clock import wall_clock
from services.core.errors import MeshError, Unavailable
from services.core.installation import environment, program
from services.core.settings import LearningSettings
from services.ops.learning import (
    DECLINED,
    FAILED,
    HOUR_MS,
    OFF,
    RUNNING,
    SERVED,
    WAITING,
    Learning,
    learning_file,
    load,
    save,
)
from services.ops.probe import Probe
from services.rpc.mesh import Mesh

LEAST_EVENTS = 1_000  # of the log, below which no look at it is worth it
TOO_LITTLE = "the log holds too little to learn from: load data with feedmesh load, or let people use the feeds"
GROWN = 1.5  # times as many events as at the last try
LOADING = 1.01  # times as many events as one look before
LOOK_EVERY_S = 5.0
POLL_S = 0.2
FEEDMESH = tuple(program("cli.main"))
STOPS_WITHIN_S = 5.0
LITTLE_SPACE = 1 << 20  # bytes
Events = Callable[[], int]  # how many the log holds; raises MeshError when that is not known now
#: Samples of a replay: pages that people saw favour the model that ordered them over a new one.
SAMPLES_FROM = "replay"


class Learner:
    """Checks regularly whether there is something to learn, and learns it."""

    def __init__(
        self,
        mesh: Mesh,
        config: Path | None,
        events: Events,
        say: Callable[[str], None],
        program: Sequence[str] = FEEDMESH,
        every_s: float = LOOK_EVERY_S,
    ) -> None:
        """config: the mesh.toml that the mesh was started with; say: prints a line at the terminal, from another thread;
        program: the command line of `feedmesh`; every_s: seconds between two checks.
        """
        self._data, self._events, self._say = mesh.data.resolve(), events, say
        self._program, self._every_s = program, every_s
        self._settings = mesh.section("learning", LearningSettings)
        self._options = ["--data", str(self._data), *(["--config", str(config.resolve())] if config else [])]
        self._file = learning_file(self._data)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="learning", daemon=True)
        self.looks = 0
        self._seen = 0  # events of the log at the last check
        self.state = self._saved = load(self._file)

    def start(self) -> None:
        """Begin to check."""
        if self.state.state == RUNNING:  # it was killed, and so was this
            again = "it was stopped midway, and begins again"
            self.state = Learning(state=WAITING, message=again, kept=self.state.kept, ended_ms=self.state.ended_ms)
        if self.state.state == FAILED:
            self.state = self.state.changed(events=0)  # the problem may have been mended
        self._thread.start()

    def stop(self) -> None:
        """Stop what runs, and end the checks."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(2 * STOPS_WITHIN_S)

    def _run(self) -> None:
        try:
            while not self._stop.wait(self._every_s):
                try:
                    self._look()
                except OSError as error:  # such as no process to be had now: a later check may find one
                    if self.state.message != str(error):
                        self._ended(FAILED, str(error))
                self.looks += 1
        except Exception as error:  # of a thread: it would end without a word
            self._say(f"learning ended, until the next start: {type(error).__name__}: {error}")
            self._set(state=FAILED, message=f"{type(error).__name__}: {error}", ended_ms=wall_clock())

    def _due(self) -> bool:
        """Whether the schedule asks for another model now."""
        every_ms, now_ms = self._settings.every_hours * HOUR_MS, wall_clock()
        if (
            self.state.ended_ms > now_ms
        ):  # the clock was set back: else it would not be due until that moment comes again
            self._set(ended_ms=now_ms)
        return bool(every_ms) and now_ms >= self.state.ended_ms + every_ms

    def _look(self) -> None:
        due, has = self._due(), self._has_model()
        if not due and (has or not self._settings.first):
            self._settle(has)
            return
        try:
            before, self._seen = self._seen, self._events()
        except MeshError:
            return  # the log is away, as the health page says
        if self._seen < LEAST_EVENTS:
            self._set(state=WAITING, message=TOO_LITTLE)
        elif self._seen > before * LOADING:
            self._waits("the log is growing fast: a model is made when the load has ended")
        elif due or self._seen >= self.state.events * GROWN:
            self._learn(self._seen, again=has)

    def _has_model(self) -> bool:
        """Whether one serves, or a person has pushed one; those made here that were not good enough do not count."""
        blobs = open_blobs(self._data)
        found = {f"{name}@{version}" for name, version in models.models(blobs)}
        return blobs.exists(models.PROMOTED) or bool(found - set(self.state.kept))

    def _settle(self, has: bool) -> None:
        """Nothing is to be done: say so, but leave the message of the last run."""
        if self.state.state not in (SERVED, DECLINED, FAILED):
            self._set(state=OFF, message="a model is there" if has else "[learning] first is off")

    def _waits(self, message: str) -> None:
        """Print the missing data, unless the last run has printed why it made nothing."""
        if self.state.state in (OFF, WAITING):
            self._set(state=WAITING, message=message)

    def _learn(self, events: int, again: bool) -> None:
        """Make the graph, if there is none or it is made again, and a model."""
        self._set(state=RUNNING, events=events, since_ms=wall_clock(), message="", stage="building the graph")
        self._say(f"learning: a model is made in the background; until it serves, {_goes_on(again)}")
        if again or not was_pushed(self._data):
            self._ran("graph", "build")
        ended = self._trained() if not self._stop.is_set() else Outcome()
        if self._stop.is_set():
            return  # the file says that it runs, so the next start begins again
        state = {"promoted": SERVED, "kept": DECLINED, "too-little": WAITING}.get(ended.ended, FAILED)
        self._ended(state, ended.message, ended.model)

    def _ended(self, state: str, message: str, model: str = "") -> None:
        """Write down how a run ended, and say it."""
        kept = [*self.state.kept, model] if state == DECLINED else self.state.kept
        how = {"state": state, "message": message, "model": model, "kept": kept}
        self._set(stage="", fraction=0.0, ended_ms=wall_clock(), **how)
        self._say(f"learning: {in_words(self.state, again=self._has_model())}")

    def _trained(self) -> Outcome:
        status = self._data / "training" / "progress.json"
        with suppress(FileNotFoundError):
            status.unlink()
        how = ("--promote", "--from", SAMPLES_FROM, "--samples", self._settings.samples, "--status", status)
        code = self._ran("model", "train", *how)
        ended = outcome.read(status)
        if not ended.ended:
            return Outcome(ended="failed", message=f"training ended with {code}: {self._last_words()}")
        return ended

    def _ran(self, *words: object) -> int:
        """Run a `feedmesh` command beside the mesh; its exit code."""
        command = [*self._program, *map(str, words), *self._options]
        variables = environment() | {BACKGROUND: "1", "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as log:
            child = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=variables,
                start_new_session=True,
            )
        try:
            while child.poll() is None and not self._stop.wait(POLL_S):
                self._follow()
        finally:
            _end(child)
        return child.returncode

    @property
    def _log(self) -> Path:
        return self._data / "logs" / "learning.log"

    def _follow(self) -> None:
        """Say how far it is, in the file, and each stage once at the terminal."""
        said = outcome.read(self._data / "training" / "progress.json")
        if not said.stage or (said.stage, said.fraction) == (self.state.stage, self.state.fraction):
            return
        if said.stage != self.state.stage:
            self._say(f"learning: {said.stage} …")
        self._set(stage=said.stage, fraction=said.fraction)

    def _last_words(self) -> str:
        if shutil.disk_usage(self._data).free < LITTLE_SPACE:
            return f"the disk of {self._data} is full"  # and so the log may lack the last lines
        with suppress(OSError):
            lines = [
                line.strip() for line in self._log.read_text(errors="replace")[-4096:].splitlines() if line.strip()
            ]
            if lines:
                return f"{lines[-1].removeprefix('error: ')[:400]}; log: {self._log}"
        return f"log: {self._log}"

    def _set(self, **changes: object) -> None:
        """Change the state, in the file too; where that can't be written, as on a full disk, the next change tries again."""
        self.state = self.state.changed(**changes)
        if self.state != self._saved or not self._file.exists():
            with suppress(OSError):
                save(self.state, self._file)
                self._saved = self.state


def in_words(state: Learning, again: bool) -> str:
    """How it ended, for a line. again: another model serves already."""
    return {
        SERVED: f"{state.model} ranks the feeds now: {state.message}",
        DECLINED: f"{state.model} is kept and does not rank, and {_goes_on(again)}: {state.message}",
        WAITING: f"no model was made, and {_goes_on(again)}: {state.message}",
        FAILED: f"no model was made, and {_goes_on(again)}: {state.message}",
    }.get(state.state, state.message)


def _goes_on(again: bool) -> str:
    return "feeds are ranked as before" if again else "the light score ranks"


def _end(child: "subprocess.Popen[bytes]") -> None:
    """Interrupt it if it still runs, and kill it if that does not end it."""
    if child.poll() is None:
        child.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            child.wait(STOPS_WITHIN_S)
        child.kill()
        child.wait()
    if child.stdin:
        child.stdin.close()


def events_of(mesh: Mesh) -> Events:
    """Asks roadrunner how many events the log holds."""

    async def ask() -> int:
        probe = Probe(mesh, lambda of: of.service == "roadrunner")
        try:
            healths = await probe.ask()
        finally:
            await probe.close()
        answered = [health.status for health in healths if health.status is not None]
        if not answered:
            raise Unavailable(healths[0].why)
        return max(int(gauge.value) for status in answered for gauge in status.gauges if gauge.name == "log_events")

    return lambda: asyncio.run(ask())
