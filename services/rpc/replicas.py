"""The replicas of one shard as one client asks them: chosen, hedged, asked again elsewhere, ejected and probed.

A read that is not answered within its method's P95 is asked of a second replica as well, and the first answer counts
(Dean and Barroso, "The Tail at Scale", CACM 56(2), 2013). A call that fails because its process is away or not ready is made
again on another replica. A write that is not answered in half of its time is asked of a second replica too, also where hedges are
not allowed yet or any more, since a process that hangs answers none. All of this only where the .proto allows it, and within
budgets (repeating.py).
"""

import asyncio
from collections.abc import Sequence
from typing import Any

from services.core import context, tokens
from services.core.errors import Away, DeadlineExceeded, MeshError, NotReady, Unavailable
from services.core.tokens import Reached
from services.rpc.batching import chosen
from services.rpc.caller import Caller, Tally
from services.rpc.choosing import FAILURES, Standing, may_eject, pick
from services.rpc.repeating import Budget, Repeated, Repeating

ELSEWHERE = (Unavailable, NotReady)  # another replica may answer


class Replicas:
    """For the event loop that made it. With one replica a call costs a counter more than the replica's own."""

    def __init__(self, shard: Sequence[Standing], caller: Caller, tally: Tally, repeating: Repeating) -> None:
        """shard: not empty."""
        self._shard, self._caller, self._tally, self._repeating = tuple(shard), caller, tally, repeating
        self._only = shard[0] if len(shard) == 1 else None
        self._probes, self._closed = dict[Standing, asyncio.Task[None]](), False
        for standing in shard:
            if standing.out:
                self._look_after(standing)

    async def call(self, method: str, request: Any, timeout: float) -> Any:
        """One unary call within `timeout` seconds. Raises the MeshError of its status."""
        if self._only is not None:
            self._count(self._only)
            return await self._only.replica.call(method, request, timeout)
        return await _Attempts(self, method, request, timeout).answer()

    async def every(self, method: str, request: Any, timeout: float) -> list[Any]:
        """The answers of all replicas but those that are away or not ready. Raises the error of the last when none answers."""
        for one in self._shard:
            self._count(one)
        asked = (one.replica.call(method, request, timeout) for one in self._shard)
        found = await asyncio.gather(*asked, return_exceptions=True)
        answers = [one for one in found if not isinstance(one, BaseException)]
        errors = [one for one in found if isinstance(one, BaseException)]
        graver = [error for error in errors if not isinstance(error, (*ELSEWHERE, DeadlineExceeded))]
        if graver or not answers:
            raise (graver or errors)[-1]
        return answers

    def _count(self, standing: Standing) -> None:
        if standing.near:
            self._tally.own += 1
        else:
            self._tally.other += 1

    def _choose(self, tried: Sequence[Standing], token: Reached, last_resort: bool = True) -> Standing | None:
        def choose() -> Standing | None:
            return pick(self._shard, self._caller.chance, tried, token, last_resort)

        return choose() if tried else chosen(self, choose)  # calls of one message go to one replica

    async def _ask(self, standing: Standing, method: str, request: Any, timeout: float) -> Any:
        """One attempt, by whose outcome the replica is judged."""
        self._count(standing)
        last_resort = standing.out
        standing.in_flight += 1
        try:
            answer = await standing.replica.call(method, request, timeout)
        except (Away, NotReady):
            self._failed(standing, FAILURES)
            raise
        except (Unavailable, DeadlineExceeded):
            self._failed(standing)
            raise
        except MeshError:
            self._answered(standing, last_resort)
            raise
        finally:
            standing.in_flight -= 1
        self._answered(standing, last_resort)
        return answer

    def _answered(self, standing: Standing, last_resort: bool) -> None:
        """last_resort: it was asked while it was out; an answer to a call of before says nothing of now."""
        standing.answered()
        if last_resort and standing.out:
            self._reinstate(standing)

    def _failed(self, standing: Standing, weight: int = 1) -> None:
        for _ in range(weight):
            standing.failed()
        if standing.failures >= FAILURES and not (standing.out or self._closed) and may_eject(self._shard):
            standing.out = True
            self._tally.ejections += 1
            self._look_after(standing)

    def _look_after(self, standing: Standing) -> None:
        self._probes[standing] = asyncio.get_running_loop().create_task(self._probe(standing))

    def _reinstate(self, standing: Standing) -> None:
        standing.out, standing.failures = False, 0
        probe = self._probes.pop(standing, None)
        if probe is not None and probe is not asyncio.current_task():
            probe.cancel()

    async def _probe(self, standing: Standing) -> None:
        """Ask an ejected replica how it is, later each time, until it is ready."""
        while standing.out:
            wait = standing.backoff_s
            standing.lengthen()
            await asyncio.sleep(wait * (1 + 0.2 * self._caller.chance()))  # not with everybody else
            if await standing.replica.is_ready():
                self._reinstate(standing)
                standing.failures = FAILURES - 1  # one that is ready and still slow costs a hedge each time, not five

    def close(self) -> None:
        """Probe no more, and eject none: those of the next membership judge. Calls may still end, or be made."""
        self._closed = True
        for probe in self._probes.values():
            probe.cancel()
        self._probes.clear()


class _Attempts:
    """One call over several replicas."""

    def __init__(self, of: Replicas, method: str, request: Any, timeout: float) -> None:
        self._of, self._method, self._request = of, method, request
        self._end = of._caller.clock() + timeout
        self._repeated: Repeated = of._repeating.of(method)
        request_context = context.current()
        self._token = tokens.decode(request_context.token) if request_context and request_context.token else {}
        self._tried: list[Standing] = []

    async def answer(self) -> Any:
        """The answer of the first replica that gives one."""
        of = self._of
        of._repeating.retries.call()
        of._repeating.hedges.call()
        standing = of._choose((), self._token)
        while True:
            assert standing is not None, "a shard has a replica"
            self._tried.append(standing)
            try:
                return await (self._hedged(standing) if self._repeated.safe else self._ask(standing))
            except ELSEWHERE:
                standing = of._choose(self._tried, self._token) if self._may_retry() else None
                if standing is None or not of._repeating.retries.take():
                    raise
                of._tally.retries += 1

    def _may_retry(self) -> bool:
        return self._repeated.safe and self._of._caller.clock() < self._end

    async def _ask(self, standing: Standing) -> Any:
        clock = self._of._caller.clock
        began = clock()
        answer = await self._of._ask(standing, self._method, self._request, max(0.0, self._end - began))
        self._repeated.durations.add(clock() - began)
        standing.passed(self._token)
        return answer

    async def _hedged(self, standing: Standing) -> Any:
        """The answer of this replica, or of another that is asked as well if this one is slow."""
        delay, repeating, hedge = self._repeated.durations.p95, self._of._repeating, _Hedge(self)
        later = asyncio.get_running_loop().call_later
        timers = [later(delay, hedge.begin, repeating.hedges)] if delay is not None else []
        if self._repeated.writes:
            timers.append(later(max(0.0, self._end - self._of._caller.clock()) / 2, hedge.begin, repeating.retries))
        if not timers:
            return await self._ask(standing)
        try:
            async with asyncio.timeout(None) as hedge.scope:
                return await self._ask(standing)
        except TimeoutError:
            if hedge.task is None or not hedge.scope.expired():
                raise
            self._of._failed(standing)  # slow as it is, others were asked in its place
            return hedge.task.result()
        except ELSEWHERE as error:
            return await hedge.outcome(error)
        finally:
            for timer in timers:
                timer.cancel()
            hedge.end()


class _Hedge:
    """A second attempt beside the first. scope: ends the wait for the first one when this one is answered."""

    scope: asyncio.Timeout

    def __init__(self, of: _Attempts) -> None:
        self._of, self._ended = of, False
        self.task: asyncio.Task[Any] | None = None

    def begin(self, budget: Budget) -> None:
        """Ask another replica, unless one was, if there is one that is well and the budget allows it."""
        if self.task is not None:
            return
        replicas, tried = self._of._of, self._of._tried
        other = replicas._choose(tried, self._of._token, last_resort=False)
        if other is None or not budget.take():
            return
        replicas._tally.hedges += 1
        tried.append(other)
        self.task = asyncio.get_running_loop().create_task(self._of._ask(other))
        self.task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[Any]") -> None:
        if not task.cancelled() and task.exception() is None and not self._ended:
            self.scope.reschedule(asyncio.get_running_loop().time())

    async def outcome(self, error: Exception) -> Any:
        """The answer of this attempt when the first failed with `error`, which is raised when there is none."""
        self._ended = True
        if self.task is not None:
            try:
                return await self.task
            except MeshError:
                pass
        raise error

    def end(self) -> None:
        """The call has its outcome."""
        self._ended = True
        if self.task is not None:
            self.task.cancel()
