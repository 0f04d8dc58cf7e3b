"""How the system treats a port that one socket is bound to without listening: services/ops/ports.py relies on it."""

import socket
from collections.abc import Iterator

import pytest


def bound(port: int = 0, *options: int) -> socket.socket:
    made = socket.socket()
    for option in options:
        made.setsockopt(socket.SOL_SOCKET, option, 1)
    try:
        made.bind(("127.0.0.1", port))
    except OSError:
        made.close()
        raise
    return made


@pytest.fixture
def held() -> Iterator[int]:
    with bound(0, socket.SO_REUSEPORT) as holder:
        yield holder.getsockname()[1]


@pytest.mark.parametrize("options", [(), (socket.SO_REUSEADDR,)])
def test_one_that_does_not_share_cannot_have_it(held: int, options: tuple[int, ...]) -> None:
    with pytest.raises(OSError, match="Address already in use"):
        bound(held, *options)


def test_connections_go_to_the_one_that_listens(held: int) -> None:
    for _ in range(2):  # and again when it comes back
        with bound(held, socket.SO_REUSEADDR, socket.SO_REUSEPORT) as listener:
            listener.listen()
            for _ in range(50):
                with socket.create_connection(("127.0.0.1", held), 5), listener.accept()[0]:
                    pass
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", held), 5)


def test_a_free_port_is_never_one_that_is_held() -> None:
    holders = [bound(0, socket.SO_REUSEPORT) for _ in range(600)]
    try:
        assert len({holder.getsockname()[1] for holder in holders}) == len(holders)
    finally:
        for holder in holders:
            holder.close()
