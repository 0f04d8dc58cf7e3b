"""A resharding of one service that is under way during a fault: begun right before it, switched and ended once all is whole."""

import subprocess
import time
from collections.abc import Callable

from tests.drill.cluster.parts import COMMAND_S, Parts, ended

SERVICE, SHARDS = "polaris", (1, 2, 3)
READY_S, BEGUN_S, POLL_S = 180, 30.0, 0.02


def after(shards: int) -> int:
    """The number of shards that comes after this one."""
    return SHARDS[(SHARDS.index(shards) + 1) % len(SHARDS)]


class Resharding:
    """Of SERVICE to the next number of shards."""

    def __init__(self, parts: Parts) -> None:
        """Returns as the hosts are about to start the processes of the new layout."""
        mesh = parts.mesh
        self._parts, self.before = parts, mesh.of(SERVICE)[0].shards
        left = [of.shards for of in mesh.processes if of.service == SERVICE and not of.asked]
        self.shards = left[0] if left else after(self.before)  # one that could not be ended goes on
        self._adding = parts.begin("layout", "add", SERVICE, "--shards", self.shards, "--cluster", parts.file)
        end = time.monotonic() + BEGUN_S
        while f"[layouts.{SERVICE}]" not in parts.file.read_text():
            assert self._adding.poll() is None, ended(self._adding, COMMAND_S)
            assert time.monotonic() < end, "`feedmesh layout add` has not changed the file"
            time.sleep(POLL_S)

    def end(self, report: Callable[[str], None]) -> list[str]:
        """Switch, and end the layout of before, on a mesh that is whole; what of it could not be done."""
        began = time.monotonic()
        try:
            ended(self._adding, COMMAND_S)
            for words in (("switch", "--shards", self.shards), ("retire",)):
                command = ("layout", words[0], SERVICE, *words[1:], "--wait", READY_S, "--cluster", self._parts.file)
                self._parts.run(*command, within_s=2 * READY_S)
        except (AssertionError, subprocess.TimeoutExpired) as error:
            return [f"{SERVICE} did not go from {self.before} to {self.shards} shards: {error}"]
        report(
            f"    {SERVICE} went from {self.before} to {self.shards} shards; {time.monotonic() - began:.1f} s after it was whole"
        )
        return []
