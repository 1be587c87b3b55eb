"""`holdfast serve` and `holdfast work`: the server, the worker, and how they stop."""

import asyncio
import signal
import sys
from contextlib import AsyncExitStack
from typing import Annotated, Any

import structlog
import typer

from holdfast.cli import logs, personas, terminal
from holdfast.cli.place import Place, fit, place, read_settings
from holdfast.config import Settings
from holdfast.systems import courses
from holdfast.worker import Worker

log = structlog.get_logger("holdfast.cli")


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(serve)
    app.command()(work)


def serve(
    port: Annotated[int | None, typer.Option(help="Port; 0 takes a free one.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    no_worker: Annotated[
        bool, typer.Option("--no-worker", help="Only serve; jobs are made by `holdfast work`.")
    ] = False,
    concurrency: Annotated[
        int | None, typer.Option(min=1, help="Jobs that the worker inside makes at once.")
    ] = None,
    imports: Annotated[
        list[str] | None, typer.Option("--import", help="Module that declares job kinds.")
    ] = None,
) -> None:
    """Serve the API and the console, with a worker inside."""
    settings = read_settings(port=port, host=host, worker_concurrency=concurrency)
    logs.configure(settings)
    with place(settings, serving=True) as where:
        fit(settings, where)
        terminal.run(serving(settings, where, worker=not no_worker, modules=_modules(imports)))


def work(
    concurrency: Annotated[
        int | None, typer.Option(min=1, help="Jobs that are made at once.")
    ] = None,
    imports: Annotated[
        list[str] | None, typer.Option("--import", help="Module that declares job kinds.")
    ] = None,
) -> None:
    """Make jobs, deliver effects, sweep; until SIGTERM or Ctrl-C."""
    settings = read_settings(worker_concurrency=concurrency)
    logs.configure(settings)
    with place(settings, serving=True) as where:
        fit(settings, where)
        raise typer.Exit(terminal.run(_working(settings, where, _modules(imports))))


def _modules(given: list[str] | None) -> tuple[str, ...]:
    sys.path.insert(0, "")  # as `python -m` does: the user's modules lie where he stands
    return tuple(given or ())


async def open_worker(settings: Settings, where: Place, modules: tuple[str, ...] = ()) -> Worker:
    """Open a worker on a pool of its own. Raises BadParameter for a module it cannot import."""
    try:
        return await Worker.open(where.url, settings, role=where.standing.role, modules=modules)
    except ImportError as problem:
        raise typer.BadParameter(f"cannot import: {problem}", param_hint="--import") from problem


async def _working(settings: Settings, where: Place, modules: tuple[str, ...]) -> int:
    worker = await open_worker(settings, where, modules)
    loop = asyncio.get_running_loop()
    signals: list[int] = []

    def stop(number: int) -> None:
        signals.append(number)
        worker.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    try:
        await worker.run()
    finally:
        await worker.close()
    return 128 + signals[1] if len(signals) > 1 else 0


async def serving(
    settings: Settings,
    where: Place,
    *,
    worker: bool,
    modules: tuple[str, ...] = (),
    started: asyncio.Future[str] | None = None,
    stop: asyncio.Event | None = None,
) -> None:
    """Serve until a signal, or `stop`; server and worker stop together.

    `started` is given the server's URL instead of the log.
    """
    from holdfast.web import serve as web

    listening = web.listen(settings)
    url = _url(settings.host, listening.getsockname()[1])
    async with AsyncExitStack() as ending:
        ending.callback(listening.close)
        db = await ending.enter_async_context(await where.open(settings, combining=True))
        if not settings.production:
            await courses.publish_samples(db)
            await personas.introduce(settings, where, db)
        inside = None
        if worker:
            inside = await open_worker(settings, where, modules)
            ending.push_async_callback(inside.close)
        server = web.server(settings, db)
        _stop_together(server, inside)
        tasks: list[asyncio.Task[Any]] = [
            asyncio.create_task(server.serve(sockets=[listening]), name="server")
        ]
        if inside is not None:
            tasks.append(asyncio.create_task(inside.run(), name="worker"))
        if started is not None:
            started.set_result(url)
        else:
            log.info("serving", url=url, docs=f"{url}/docs", worker="inside" if worker else "none")
        asked = asyncio.create_task((stop or asyncio.Event()).wait())
        await asyncio.wait({asked, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        server.should_exit = True
        if inside is not None and not inside.stopping:
            inside.stop()
        await asyncio.gather(*tasks)


def _stop_together(server: Any, inside: Worker | None) -> None:
    """One signal stops both gracefully, a second one at once.

    In place of the server's own, which sends itself the signal again when all is done: a stop that
    somebody asked for is no failure.
    """
    loop = asyncio.get_running_loop()

    def handle(number: int, frame: Any) -> None:
        del number, frame
        server.force_exit = server.should_exit
        server.should_exit = True
        if inside is not None:
            loop.call_soon_threadsafe(inside.stop)

    server.handle_exit = handle


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
