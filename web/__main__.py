"""The entry point of web: the clients of what it asks, and the HTTP edge over them."""

import uvloop

from services.ops.process import open_process, run_entry_point
from web.app import application
from web.serving import serve
from web.settings import Settings
from web.wiring import Clients, limits_of, operations_of, policy_of, status_of


def main() -> None:
    """Wire and serve."""

    process = open_process("web")
    settings = process.settings(Settings)
    address = next(p for p in process.mesh.of("web") if p.shard == process.shard)

    async def run() -> None:
        status, clients = status_of(process), Clients(process.mesh)
        try:
            policy = policy_of(settings, process.metrics, process.mesh.common.host)
            app = application(operations_of(clients, settings, status, address), policy, text_ids=process.mesh.text_ids)
            await serve(process, settings, status, (app, limits_of(settings)), address.http)
        finally:
            await clients.close()

    uvloop.run(run())


if __name__ == "__main__":
    run_entry_point(main)
