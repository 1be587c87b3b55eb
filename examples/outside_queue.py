"""Work that is queued elsewhere: Celery makes it, Holdfast keeps the money right.

    python examples/outside_queue.py

Credit is held before the task is sent. The task captures what it used, or releases it. A worker
that dies does neither: Celery has forgotten the task, and the hold ends by the database's time.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from uuid import UUID, uuid4

import psycopg
from celery import Celery
from places import database

from holdfast.errors import HoldFinished, InsufficientTokens
from holdfast.sync import accounts, ledger

app = Celery("outside_queue")


def use_folder(folder: str) -> None:
    """Let Celery pass messages as files, so that the example needs no broker. Yours stays."""
    app.conf.update(
        broker_url="filesystem://",
        broker_transport_options={
            "data_folder_in": f"{folder}/messages",
            "data_folder_out": f"{folder}/messages",
            "control_folder": f"{folder}/control",
        },
        result_backend=f"file://{folder}/results",
        task_track_started=True,
    )


if "EXAMPLE_FOLDER" in os.environ:  # the worker's process imports this file
    use_folder(os.environ["EXAMPLE_FOLDER"])


@app.task(name="render")
def render(hold: str, how: str) -> str:
    """Render a picture that is paid by a hold: 30 of it, if it works."""
    with psycopg.connect(os.environ["EXAMPLE_URL"], autocommit=True) as db:
        if how == "crashes":
            signal.pause()  # long work; somebody pulls the plug
        if how == "fails":
            ledger.release(db, hold_id=UUID(hold))
            return "failed: the credit is free again"
        try:
            ledger.capture(db, hold_id=UUID(hold), amount=30)
        except HoldFinished as refused:  # too late: nobody pays for this picture
            return f"not delivered: the hold is {refused.facts['status']}"
        return "rendered: 30 captured, the rest released"


def main() -> None:
    """Sell four pictures and print what each does to the wallet."""
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        database() as place,
        psycopg.connect(place.url, autocommit=True) as db,
    ):
        for name in ("messages", "control", "results"):
            Path(folder, name).mkdir()
        os.environ |= {"EXAMPLE_FOLDER": folder, "EXAMPLE_URL": place.url}
        use_folder(folder)
        ada = accounts.sign_in(db, kind="dev", subject=f"ada {uuid4()}")  # with 100 to begin with
        worker = start_worker()
        try:
            for how in ("works", "fails"):
                hold = ledger.hold(
                    db, account_id=ada.id, amount=40, ttl=60, cause=f"picture {how}", key=how
                )
                show(db, ada.id, f"{how}: held 40")
                print("  ", render.delay(str(hold.id), how).get(timeout=60))
                show(db, ada.id, f"{how}: done")
            crash(db, ada.id, worker)
        finally:
            worker.kill()
            worker.wait()


def crash(db: psycopg.Connection, account: UUID, worker: subprocess.Popen[bytes]) -> None:
    """Kill the worker in the middle of a task, and wait for the hold to end."""
    hold = ledger.hold(
        db, account_id=account, amount=70, ttl=3, cause="picture crashes", key="crashes"
    )
    show(db, account, "crashes: held 70")
    task = render.delay(str(hold.id), "crashes")
    until(lambda: task.state == "STARTED")
    worker.kill()  # kill -9: no finally, no atexit, no acknowledgement
    worker.wait()
    try:  # what is held cannot be spent, whoever has died
        ledger.charge(db, account_id=account, amount=1, key="too early")
    except InsufficientTokens as refused:
        print("  ", f"1 more is refused: {refused.facts['available']} available")
    until(lambda: ledger.hold_of(db, hold_id=hold.id).status == "EXPIRED")
    ledger.sweep(db)  # `holdfast work` does this every few seconds
    show(db, account, "crashes: expired")

    again = start_worker()  # a late try with the same hold is not paid by anybody
    try:
        print("  ", render.delay(str(hold.id), "works").get(timeout=60))
    finally:
        again.kill()
        again.wait()
    show(db, account, "crashes: after a late try")


def start_worker() -> subprocess.Popen[bytes]:
    """Start a Celery worker, a process of its own."""
    command = [sys.executable, "-m", "celery", "--quiet", "-A", "outside_queue", "worker"]
    options = ["--pool=solo", "--loglevel=ERROR", "--without-gossip", "--without-mingle"]
    return subprocess.Popen(
        [*command, *options],
        cwd=Path(__file__).parent,
        env=os.environ | {"PYTHONWARNINGS": "ignore", "C_FORCE_ROOT": "1"},
        stdout=subprocess.DEVNULL,
    )


def show(db: psycopg.Connection, account: UUID, what: str) -> None:
    """Print the wallet."""
    wallet = ledger.wallet_of(db, account_id=account)
    print(f"{what:28} balance {wallet.balance:3}  held {wallet.held:2}", flush=True)


def until(condition, within: float = 60) -> None:
    """Wait for a condition, with a deadline."""
    end = time.monotonic() + within
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.05)


if __name__ == "__main__":
    main()
