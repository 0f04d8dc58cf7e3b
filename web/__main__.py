"""The entry point of web: the HTTP edge, and gRPC status beside it."""

import uvloop

from services.ops.process import open_process, run_entry_point
from web.serving import serve
from web.settings import Settings
from web.wiring import build


def main() -> None:
    """Build and serve."""
    process = open_process("web")
    settings = process.settings(Settings)

    async def run() -> None:
        edge = build(settings, process)
        try:
            await serve(process, settings, edge.status, (edge.app, edge.limits), edge.http)
        finally:
            await edge.close()

    uvloop.run(run())


if __name__ == "__main__":
    run_entry_point(main)
