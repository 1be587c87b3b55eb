"""A database that is not next door: every message to and from it takes its time.

A benchmark on a socket of the same machine hides what round trips cost, and with them the reason
to save any. In production a database is a fraction of a millisecond away, in another building of
the same region about one.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import psycopg
from psycopg.conninfo import make_conninfo

_CHUNK = 1 << 16


@contextlib.contextmanager
def link(url: str, round_trip: float) -> Iterator[str]:
    """Lend a URL of the same database to which a round trip takes `round_trip` seconds more."""
    with psycopg.connect(url) as near:
        host, port = near.info.host, near.info.port
    with contextlib.ExitStack() as stack:
        door = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        accepting = threading.Thread(
            target=_accept, args=(door, host, port, round_trip / 2), daemon=True
        )
        accepting.start()
        # Closing a listening socket does not wake who waits on it; shutting it down does.
        stack.callback(accepting.join)
        stack.callback(door.shutdown, socket.SHUT_RDWR)
        far = {"host": "127.0.0.1", "hostaddr": "", "port": door.getsockname()[1]}
        if host.startswith("/"):
            far |= {"sslmode": "disable", "gssencmode": "disable"}
        yield make_conninfo(url, **far)


def _accept(door: socket.socket, host: str, port: int, one_way: float) -> None:
    serving = list[threading.Thread]()
    while True:
        try:
            client, _ = door.accept()
        except OSError:  # shut down
            break
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        args = (client, _dial(host, port), one_way)
        serving.append(threading.Thread(target=_serve, args=args, daemon=True))
        serving[-1].start()
    for thread in serving:
        thread.join()


def _serve(client: socket.socket, server: socket.socket, one_way: float) -> None:
    with client, server:
        back = threading.Thread(target=_carry, args=(server, client, one_way), daemon=True)
        back.start()
        _carry(client, server, one_way)
        back.join()


def _dial(host: str, port: int) -> socket.socket:
    if host.startswith("/"):
        server = socket.socket(socket.AF_UNIX)
        server.connect(f"{host}/.s.PGSQL.{port}")
        return server
    server = socket.create_connection((host, port))
    server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return server


def _carry(source: socket.socket, target: socket.socket, one_way: float) -> None:
    """Carry bytes one way until the sender is done; then tell the receiver so."""
    with contextlib.suppress(OSError):
        while data := source.recv(_CHUNK):
            time.sleep(one_way)
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
