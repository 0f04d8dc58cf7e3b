"""One question at a time, its answer for a moment."""

import asyncio
import contextlib

from web.shared import Shared


def test_concurrent_askers_share_one_answer() -> None:
    async def main() -> None:
        asked, release = 0, asyncio.Event()

        async def ask() -> int:
            nonlocal asked
            asked += 1
            await release.wait()
            return asked

        shared = Shared(ask, keep_s=60)
        askers = [asyncio.create_task(shared.get()) for _ in range(10)]
        await asyncio.sleep(0)
        askers[0].cancel()  # its leaving takes the answer from no other caller
        release.set()
        answers = await asyncio.gather(*askers[1:])
        assert set(answers) == {1}
        assert await shared.get() == 1

    asyncio.run(main())


def test_an_old_answer_and_a_failure_are_not_kept() -> None:
    async def main() -> None:
        asked = 0

        async def ask() -> int:
            nonlocal asked
            asked += 1
            if asked == 1:
                raise OSError
            return asked

        shared = Shared(ask, keep_s=0)
        with contextlib.suppress(OSError):
            await shared.get()
        assert [await shared.get(), await shared.get()] == [2, 3]

    asyncio.run(main())
