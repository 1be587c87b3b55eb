"""What to compare with: plain SQL in explicit transactions, driven by PostgreSQL's own pgbench."""

import re
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
from psycopg.conninfo import conninfo_to_dict

from holdfast.postgres.programs import programs

_TABLES = """
    create schema raw;
    create table raw.wallet (id int primary key, balance bigint not null);
    create table raw.entry (id bigint generated always as identity primary key,
                            wallet int not null, amount bigint not null, at timestamptz not null);
    create table raw.job (id bigint generated always as identity primary key, wallet int not null,
                          status text not null, payload jsonb not null, at timestamptz not null);
    create table raw.audit (id bigint generated always as identity primary key,
                            action text not null, at timestamptz not null);
    create table raw.effect (id bigint generated always as identity primary key,
                             topic text not null, payload jsonb not null);
    insert into raw.wallet select n, 1000000000 from generate_series(1, 1000) n;
"""
# The rows of one charge + enqueue, one statement each, as an application would send them.
_TRANSACTION = """
\\set w random(1, 1000)
BEGIN;
UPDATE raw.wallet SET balance = balance - 50 WHERE id = :w;
INSERT INTO raw.entry (wallet, amount, at) VALUES (:w, -50, now());
INSERT INTO raw.job (wallet, status, payload, at)
    VALUES (:w, 'queued', '{"prompt": "a fox", "words": 100}', now());
INSERT INTO raw.audit (action, at) VALUES ('generate', now());
INSERT INTO raw.effect (topic, payload) VALUES ('jobs.queued', '{"charged": 50}');
COMMIT;
"""
_HOT = "UPDATE raw.wallet SET balance = balance - 1 WHERE id = 1;\n"


def prepare(owner_url: str) -> None:
    """Make the plain tables."""
    with psycopg.connect(owner_url, autocommit=True) as owner:
        owner.execute(_TABLES)


def transactions(owner_url: str, *, clients: int = 16, seconds: int = 5) -> float:
    """Return transactions per second of BEGIN, five statements, COMMIT."""
    return _pgbench(owner_url, _TRANSACTION, clients, seconds)


def hot_updates(owner_url: str, *, clients: int = 64, seconds: int = 5) -> float:
    """Return updates per second of one row by many clients."""
    return _pgbench(owner_url, _HOT, clients, seconds)


def _pgbench(url: str, script: str, clients: int, seconds: int) -> float:
    given = conninfo_to_dict(url)
    with TemporaryDirectory() as folder:
        file = Path(folder) / "script.sql"
        file.write_text(script)
        # fmt: off
        told = subprocess.run(
            [str(programs() / "bin" / "pgbench"), "--no-vacuum", "--protocol=prepared",
             f"--client={clients}", "--jobs=2", f"--time={seconds}", f"--file={file}",
             "-h", str(given.get("host", "")), "-p", str(given.get("port", 5432)),
             "-U", str(given.get("user", "")), str(given["dbname"])],
            env={"PGPASSWORD": str(given.get("password", ""))},
            capture_output=True, text=True, check=True,
        )
        # fmt: on
    found = re.search(r"tps = ([\d.]+)", told.stdout)
    if found is None:
        raise RuntimeError(f"pgbench did not say how fast it was: {told.stdout}")
    return float(found[1])
