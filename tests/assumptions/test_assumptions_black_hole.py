"""What gRPC does when a machine vanishes: two network namespaces stand for two machines, and iptables drops what they send."""

import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import grpc
import pytest

from protos import roadrunner_pb2 as pb
from services.rpc import server
from services.rpc.channel import options_of
from tests.services.machines import dark, lit, machines, started
from tests.services.replica_servers import Server, serving

NOTICED_S, CALL_S = 3.0, 9.0
SERVER = """
import sys
import threading
from tests.services.replica_servers import Server
made = Server()
made.stop()
made.address = sys.argv[1]
made.start()
print("serves", flush=True)
threading.Event().wait()
"""
#: Asks on each line that it reads, and says after how long it had the answer, or the error.
CLIENT = """
import asyncio
import sys
import time
from protos import roadrunner_pb2 as pb
from services.core.errors import MeshError
from services.rpc.channel import call, open_async

async def run():
    channel = open_async(sys.argv[1])
    ends = channel.unary_unary("/feedmesh.Roadrunner/Ends", pb.EndsRequest.SerializeToString, pb.EndsReply.FromString)
    for line in sys.stdin:
        began = time.monotonic()
        try:
            await call(ends, pb.EndsRequest(), float(line), "roadrunner")
            said = "answered"
        except MeshError as error:
            said = f"{type(error).__name__}: {error}"
        print(f"{time.monotonic() - began:.3f} {said}", flush=True)

asyncio.run(run())
"""


class Asker:
    """A client on one machine."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def ask(self, timeout_s: float) -> tuple[float, str]:
        """(seconds, what came of it)"""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{timeout_s}\n")
        self._process.stdin.flush()
        took, _, said = self._process.stdout.readline().strip().partition(" ")
        return float(took), said


@contextmanager
def asking() -> Iterator[tuple[Asker, str]]:
    """A client on one machine that has had an answer from a server on the other; the namespace of the server."""
    with machines() as (a, b), started(b, SERVER, "10.211.7.2:7000") as served:
        assert served.stdout
        assert served.stdout.readline().strip() == "serves"
        with started(a, CLIENT, "10.211.7.2:7000") as client:
            asker = Asker(client)
            assert asker.ask(30.0)[1] == "answered"
            yield asker, b


def test_a_machine_that_vanishes_is_noticed_and_asked_again_when_it_is_back() -> None:
    with asking() as (asker, there):
        dark(there)
        took, said = asker.ask(20.0)
        assert said == "Away: roadrunner is away; try again in a moment", said
        assert took < NOTICED_S
        print(f"noticed after {took:.2f} s")
        lit(there)
        end = time.monotonic() + 30
        while asker.ask(5.0)[1] != "answered":
            assert time.monotonic() < end
            time.sleep(0.05)
        print(f"answers again {time.monotonic() - end + 30:.2f} s after it was back")


@pytest.mark.parametrize("allowing", [True, False])
def test_a_server_that_does_not_allow_pings_ends_calls_under_way(
    allowing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client on another machine pings once a second; after some pings a server of default options takes offence."""
    if not allowing:
        theirs = [(name, value) for name, value in server.OPTIONS if "ping" not in name and "keepalive" not in name]
        assert len(theirs) < len(server.OPTIONS)
        monkeypatch.setattr(server, "OPTIONS", theirs)
    leave = threading.Event()
    made = Server(lambda: leave.wait(CALL_S))
    with serving(made), grpc.insecure_channel(made.address, options=options_of("10.0.0.1:1")) as channel:
        ask = channel.unary_unary(
            "/feedmesh.Roadrunner/Ends", pb.EndsRequest.SerializeToString, pb.EndsReply.FromString
        )
        if allowing:
            assert ask(pb.EndsRequest(), timeout=60.0) == pb.EndsReply()
        else:
            with pytest.raises(grpc.RpcError, match="Too many pings") as refused:
                ask(pb.EndsRequest(), timeout=60.0)
            assert cast(grpc.Call, refused.value).code() == grpc.StatusCode.UNAVAILABLE
            leave.set()
