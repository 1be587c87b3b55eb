"""Every command, as a person types it: its answer, its exit code, one sentence for an error."""

import asyncio
import json
import os
import pty
import socket
import subprocess
import sys
from uuid import uuid4

import jwt
import pytest

from holdfast.kernel import ledger, queue
from holdfast.postgres.conninfo import as_url
from holdfast.systems import accounts, stories
from processes import SOURCES, Process, ran


@pytest.fixture
def variables(app_url, owner_url, tmp_path) -> dict[str, str]:
    return {
        "HOLDFAST_DATABASE_URL": as_url(app_url), "HOLDFAST_OWNER_URL": as_url(owner_url),
        "HOLDFAST_HOME": str(tmp_path / "home"),
    }  # fmt: skip


@pytest.fixture
def run(tmp_path, variables):
    async def run(*arguments: str, **changed: str) -> Process:
        done = await ran(tmp_path, *arguments, **{**variables, **changed})
        assert "Traceback" not in done.log + done.out
        return done

    return run


async def bought(db) -> tuple[accounts.Account, queue.Submitted]:
    await queue.declare_kind(db, stories.kind(attempts=3, backoff=1, lease=30, deadline=60))
    ada = await accounts.sign_in(db, kind="dev", subject="ada", name="ada")
    job = await stories.generate(db, account_id=ada.id, prompt="a fox", key=uuid4().hex)
    return ada, job


async def test_token_prints_tokens_and_nothing_else(run, db):
    done = await run("token", "--as", "ada", "--as", "bo", "--role", "operator")
    assert done.code == 0
    tokens = done.out.splitlines()
    claims = [jwt.decode(token, options={"verify_signature": False}) for token in tokens]
    assert [c["sub"] for c in claims] == ["ada", "bo"]
    assert all(c["exp"] - c["iat"] == 12 * 3600 for c in claims)
    for name in ("ada", "bo"):
        account = await accounts.sign_in(db, kind="dev", subject=name)
        assert (account.created, account.role, account.balance) == (False, "operator", 100)


async def test_production_mints_no_token_and_makes_nobody(run, db):
    done = await run("token", "--as", "ada", HOLDFAST_ENV="production")
    assert (done.code, done.out) == (1, "")
    assert (await accounts.sign_in(db, kind="dev", subject="ada")).created


async def test_role_is_given_and_audited(run, db, owner):
    ada = await accounts.sign_in(db, kind="dev", subject="ada")
    assert (await run("role", str(ada.id), "admin")).code == 0
    row = await owner.execute(
        "select actor, old_value, new_value from audit.event where entity_id = %s", [ada.id]
    )
    actor, old, new = await row.fetchone()
    assert actor.startswith("cli:")
    assert (old, new) == ("user", "admin")
    assert (await run("role", str(uuid4()), "admin")).code == 1


async def test_verify_answers_and_exits_by_what_it_finds(run, db, owner):
    ada, _ = await bought(db)
    done = await run("verify", "--json")
    answer = json.loads(done.out)
    assert (done.code, answer["ok"]) == (0, True)
    assert all({"name", "checked", "violations"} <= set(one) for one in answer["invariants"])
    await owner.execute("update ledger.wallet set balance = balance + 1")
    done = await run("verify", "--json")
    answer = json.loads(done.out)
    assert (done.code, answer["ok"]) == (1, False)
    broken = {one["name"]: one for one in answer["invariants"] if one["violations"]}
    assert broken["wallets_add_up"]["example"] == str(ada.id)
    told = await run("verify")
    assert told.code == 1
    assert "holdfast mend" in told.log


async def test_jobs_are_listed_told_and_called_off(run, db):
    ada, job = await bought(db)
    depth = json.loads((await run("jobs", "list", "--json")).out)
    assert [(k["kind"], k["waiting"]) for k in depth["kinds"]][-1:] == [("story", 1)]
    mine = json.loads((await run("jobs", "list", "--account", str(ada.id), "--json")).out)
    assert [one["id"] for one in mine["items"]] == [str(job.id)]
    cancelled = await run("jobs", "cancel", str(job.id), "--json")
    assert json.loads(cancelled.out) == {
        "id": str(job.id), "status": "cancelled", "refunded": 50
    }  # fmt: skip
    story = json.loads((await run("jobs", "show", str(job.id), "--json")).out)
    steps = [step["what"] for step in story["story"]]
    assert set(steps) == {"stories.generate", "ledger.charge", "queue.cancel", "ledger.refund"}
    assert (await ledger.wallet_of(db, account_id=ada.id)).balance == 100
    shown = await run("jobs", "show", str(job.id))
    assert "ledger.refund" in shown.out
    unknown = await run("jobs", "show", str(uuid4()))
    assert unknown.code == 1
    assert unknown.log.startswith("holdfast: ")


async def test_doctor_tells_everything_but_secrets(run, app_url):
    done = await run("doctor", "--json", HOLDFAST_CLERK_WEBHOOK_SECRET="whsec_c2VjcmV0c2VjcmV0")
    found = json.loads(done.out)
    assert (done.code, found["ok"], found["problems"]) == (0, True, [])
    assert found["applicationRole"] == "holdfast_app"
    assert found["databaseUrl"] == found["ownerUrl"] != found["applicationUrl"]
    assert found["schema"] == {"installed": True, "pending": []}
    secret = next(s for s in found["settings"] if s["name"] == "HOLDFAST_CLERK_WEBHOOK_SECRET")
    assert secret["value"] == "***"
    assert "c2VjcmV0" not in done.out
    misspelt = await run("doctor", HOLDFAST_JOB_LEASE_SECOND="3")
    assert "HOLDFAST_JOB_LEASE_SECONDS" in misspelt.log


async def test_a_database_without_schema_says_so_and_migrate_makes_it(run, empty_url):
    there = {"HOLDFAST_DATABASE_URL": as_url(empty_url), "HOLDFAST_OWNER_URL": ""}
    refused = await run("jobs", "list", **there)
    assert refused.code == 1
    assert "holdfast migrate" in refused.log
    ill = await run("doctor", "--json", **there)
    assert (ill.code, json.loads(ill.out)["problems"][0]["do"]) == (1, "holdfast migrate")
    done = await run("migrate", "--json", **there)
    assert done.code == 0
    assert json.loads(done.out)["migrations"][0].startswith("0001")
    assert (await run("jobs", "list", **there)).code == 0
    assert "up to date" in (await run("migrate", **there)).out


WRONG = {
    "no such command": (["nothing"], 2),
    "no such option": (["serve", "--nothing"], 2),
    "no port": (["serve", "--port", "x"], 2),
    "no role": (["token", "--as", "a", "--role", "king"], 2),
    "no name": (["token"], 2),
    "no id": (["jobs", "show", "x"], 2),
    "no module": (["work", "--import", "no_such_module"], 2),
}


@pytest.mark.parametrize("case", WRONG)
async def test_a_wrong_line_is_2_and_a_sentence(run, case):
    arguments, code = WRONG[case]
    done = await run(*arguments)
    assert done.code == code
    assert "Error" in done.log or "holdfast:" in done.log


TROUBLE = {
    "unreachable": {"HOLDFAST_DATABASE_URL": "postgresql://a@127.0.0.1:1/x"},
    "setting": {"HOLDFAST_JOB_LEASE_SECONDS": "soon"},
    "home": {"HOLDFAST_DATABASE_URL": "", "HOLDFAST_HOME": "/proc/1/nothing"},
}


@pytest.mark.parametrize("case", TROUBLE)
async def test_trouble_is_one_sentence_and_what_to_do(run, case):
    done = await run("jobs", "list", **TROUBLE[case])
    assert done.code == 1
    first, *rest = done.log.splitlines()
    assert first.startswith("holdfast: ")
    assert len(rest) <= 2


async def test_a_taken_port_is_a_sentence(run):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = await run("serve", "--port", str(taken.getsockname()[1]))
    assert done.code == 1
    assert "--port" in done.log


async def test_a_closed_pipe_is_no_error_of_ours(variables, db):
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "holdfast", "doctor", "--json", stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(SOURCES), **variables},
    )  # fmt: skip
    assert process.stdout is not None
    process._transport.get_pipe_transport(1).close()  # the reader goes before it hears a word
    assert process.stderr is not None
    told = (await process.stderr.read()).decode()
    assert await process.wait() in (1, 141)
    assert "Traceback" not in told


def test_psql_speaks_as_the_application_or_the_owner(variables):
    def ask(*options: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "holdfast", "psql", *options, "-Atc", "select current_user"],
            env={**os.environ, "PYTHONPATH": str(SOURCES), **variables},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        return done.stdout.strip()

    assert ask() == "holdfast_app"
    assert ask("--owner") != "holdfast_app"


def test_ctrl_c_is_130_and_a_sentence(variables):
    """On a terminal of its own, as a person presses it."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "holdfast", "psql", "-c", "select pg_sleep(60)"],
        env={**os.environ, "PYTHONPATH": str(SOURCES), **variables},
        stdin=follower, stdout=follower, stderr=follower, start_new_session=True,
    )  # fmt: skip
    os.close(follower)
    process.terminate()
    told = b""
    try:
        while chunk := os.read(leader, 1000):
            told += chunk
    except OSError:
        pass  # the other side of the terminal has closed
    finally:
        os.close(leader)
    assert process.wait(20) != 0
    assert b"Traceback" not in told


async def test_help_and_version(run):
    assert (await run("--version")).out.strip()
    told = await run("--help")
    assert told.code == 0
    for command in ("serve", "work", "demo", "migrate", "token", "verify", "role", "doctor",
                    "psql", "jobs", "effects", "mend", "bench"):  # fmt: skip
        assert command in told.out
