"""Projects in real browsers: the whole chain, and two people typing in one place."""

import asyncio
import contextlib
import time
from dataclasses import dataclass
from uuid import UUID

import pytest

from holdfast.config import Settings
from holdfast.kernel import ledger, queue
from holdfast.systems import accounts, projects, stories
from holdfast.worker import Worker
from journeys.browsers import browser, serving

WAIT = 20_000  # milliseconds, for anything that should appear


@dataclass
class Studio:
    """Carol at her console, with a server and a worker behind it."""

    db: object
    carol: UUID
    address: str
    context: object
    problems: list

    async def tab(self, path: str):
        page = await self.context.new_page()
        page.set_default_timeout(WAIT)
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("console", self._said)
        await page.goto(f"{self.address}{path}")
        return page

    def _said(self, message) -> None:
        # A refused save is told as 412, an invalid stage as 422: the browser notes both.
        if message.type == "error" and not any(code in message.text for code in ("412", "422")):
            self.problems.append(message.text)

    async def project(self, **data) -> str:
        made = await projects.create(self.db, account_id=self.carol, title="A film about a fox")
        for number, held in data.items():
            await projects.save(
                self.db, project_id=made.id, number=int(number[1:]), actor=self.carol,
                family=[self.carol], data=held,
            )  # fmt: skip
        return f"/console/projects/{made.id}"

    async def held(self, path: str, number: int) -> projects.Step:
        return await projects.step(
            self.db, project_id=UUID(path[-36:]), number=number, family=[self.carol]
        )

    async def entries(self) -> list[tuple[str, int]]:
        found = await ledger.transactions(self.db, account_id=self.carol)
        return [(entry.kind, entry.amount) for entry in reversed(found)]


@pytest.fixture
async def studio(combined, app_url, tmp_path):
    carol = (await accounts.sign_in(combined, kind="dev", subject="persona:carol", name="carol")).id
    settings = Settings(
        home=tmp_path, port=0, stop_seconds=1, poll_seconds=0.2, job_backoff_seconds=0.01
    )
    problems: list[str] = []
    async with contextlib.AsyncExitStack() as stack:
        opened = await stack.enter_async_context(browser())
        worker = await Worker.open(app_url, settings)
        stack.push_async_callback(worker.close)
        running = asyncio.create_task(worker.run())
        stack.push_async_callback(asyncio.wait_for, running, 30)
        stack.callback(worker.stop)
        await asyncio.wait_for(worker.ready.wait(), 20)
        address = await stack.enter_async_context(serving(settings, combined))
        context = await opened.new_context(locale="en-GB")
        stack.push_async_callback(context.close)
        made = Studio(combined, carol, address, context, problems)
        page = await made.tab("/console/sign-in")
        await page.get_by_role("button", name="carol").click()
        await page.wait_for_url("**/console/*")
        yield made
    assert problems == []


async def finished(db, job_id: UUID) -> queue.Job:
    end = time.monotonic() + 60
    while True:
        job = await queue.get(db, job_id=job_id, owners=None)
        if job.status in ("completed", "failed"):
            return job
        assert time.monotonic() < end, job
        await asyncio.sleep(0.05)


async def test_a_story_becomes_the_script_and_the_script_is_heard(studio):
    ordered = await stories.generate(
        studio.db, account_id=studio.carol, prompt="a fox who reads", key="s", words=60
    )
    story = await finished(studio.db, ordered.id)
    page = await studio.tab("/console/projects")
    await page.get_by_label("Title").fill("A film about a fox")
    await page.get_by_role("button", name="Begin").click()
    await page.wait_for_url("**/projects/*/1")
    path = page.url.removeprefix(studio.address)[:-2]
    await page.get_by_label("The idea").fill("A fox who reads")
    await page.wait_for_selector("#autosave[data-state=saved]:has-text('Everything is saved')")
    await page.reload()
    await page.get_by_role("button", name="Complete this stage").click()
    await page.wait_for_selector(".path .completed")
    await page.goto(f"{studio.address}{path}/2")
    await page.get_by_label("Reason to skip it").fill("Foxes are known")
    await page.get_by_role("button", name="Skip").click()
    await page.wait_for_selector(".path .skipped")
    await page.goto(f"{studio.address}{path}/3")
    await page.get_by_role("button", name="Make it the script").click()
    await page.wait_for_load_state()
    typed = await page.get_by_role("textbox", name="The script").input_value()
    assert typed.split() == story.result["text"].split()
    await page.get_by_role("button", name="Complete this stage").click()
    await page.goto(f"{studio.address}{path}/4")
    assert (await page.locator(".scenes li").all_inner_texts())[0] == typed.split("\n\n")[0]
    await page.get_by_role("button", name="Speak the script").dblclick()
    await page.wait_for_selector(".voicing[data-status=completed] audio")
    heard = await page.evaluate(
        """async () => Promise.all([...document.querySelectorAll("audio")].map(async (audio) => {
            audio.muted = true;
            await audio.play();
            await new Promise((done) => audio.addEventListener("timeupdate", () => {
                if (audio.currentTime > 0.05) done();
            }));
            return [audio.duration, audio.currentTime, audio.error];
        }))"""
    )
    assert len(heard) == len(typed.split("\n\n"))
    words = len(typed.split())
    assert 0.2 * words < sum(duration for duration, _, _ in heard) < 1.2 * words
    assert all(at > 0 and error is None for _, at, error in heard)
    kinds = [kind for kind, _ in await studio.entries()]
    assert kinds == ["grant", "charge", "charge"], "the story once, the voice once"


async def test_a_failing_scene_comes_back_and_is_told(studio):
    path = await studio.project(n3={"finalScript": {"scenes": ["All is well.", "!fail here"]}})
    page = await studio.tab(f"{path}/4")
    await page.get_by_role("button", name="Speak the script").click()
    await page.wait_for_selector(".voicing[data-status=failed]")
    told = await page.locator(".voicing").inner_text()
    assert "5 crystals came back" in told
    assert "cannot speak this text" in told
    assert await page.locator("audio").count() == 0
    assert await studio.entries() == [("grant", 100), ("charge", -5), ("refund", 5)]


async def test_two_tabs_lose_nothing_and_tell(studio):
    path = await studio.project(n1={"idea": "a fox"})
    first, second = await studio.tab(f"{path}/1"), await studio.tab(f"{path}/1")
    await first.get_by_label("The idea").fill("a fox who reads")
    await first.wait_for_selector("#autosave[data-state=saved]:has-text('saved')")
    await _until(lambda: _idea(studio, path), "a fox who reads")
    await second.get_by_label("The idea").fill("a hare who counts")
    conflict = second.locator("#conflict")
    await conflict.wait_for()
    assert "Somebody else has saved another text here" in await conflict.inner_text()
    assert await second.locator("#theirs").inner_text() == "a fox who reads"
    assert await second.get_by_label("The idea").input_value() == "a hare who counts"
    assert await _idea(studio, path) == "a fox who reads", "nothing was overwritten"
    await second.get_by_label("The idea").press_sequentially("!")
    await second.get_by_role("button", name="Take the other").click()
    assert await second.get_by_label("The idea").input_value() == "a fox who reads"
    await second.get_by_text("What you had typed").click()
    assert "!" in await second.locator("#typed pre").inner_text()
    await second.get_by_label("The idea").fill("a fox who reads aloud")
    await _until(lambda: _idea(studio, path), "a fox who reads aloud")
    await first.get_by_label("The idea").fill("a fox who writes")
    await first.locator("#conflict").wait_for()
    await first.get_by_role("button", name="Save mine over it").click()
    await _until(lambda: _idea(studio, path), "a fox who writes")
    kept = await projects.revisions(
        studio.db, project_id=UUID(path[-36:]), number=1, family=[studio.carol]
    )
    assert "a fox who reads aloud" in [r.data["idea"] for r in kept], "and it is in the history"


async def test_a_late_autosave_never_overwrites_a_later_one(studio):
    path = await studio.project(n1={"idea": "a"})
    page = await studio.tab(f"{path}/1")
    held = asyncio.Event()
    late: list = []

    async def hold_the_first(route) -> None:
        if late:
            await route.continue_()
            return
        late.append(route.request)
        held.set()
        await route.abort("connectionfailed")  # the browser gives it up; it is still under way

    await page.route("**/save", hold_the_first)
    await page.get_by_label("The idea").fill("a fox")
    await asyncio.wait_for(held.wait(), 10)
    await page.wait_for_selector("#autosave[data-state=unsaved]")
    await page.get_by_label("The idea").fill("a fox who reads")
    await _until(lambda: _idea(studio, path), "a fox who reads")
    studio.problems[:] = [p for p in studio.problems if "ERR_CONNECTION_FAILED" not in p]
    [lost] = late
    told = await studio.context.request.post(
        lost.url,
        data=lost.post_data,
        headers={
            "Content-Type": "application/x-www-form-urlencoded",
            "X-CSRF-Token": lost.headers["x-csrf-token"],
        },
    )
    assert (told.status, (await told.json())["late"]) == (200, True)
    assert await _idea(studio, path) == "a fox who reads"


async def test_what_could_not_be_saved_is_offered_when_the_person_comes_back(studio):
    path = await studio.project(n1={"idea": "a"})
    page = await studio.tab(f"{path}/1")
    await page.route("**/save", lambda route: route.abort("connectionfailed"))
    await page.get_by_label("The idea").fill("typed while offline")
    await page.wait_for_selector("#autosave[data-state=unsaved]:has-text('kept in this browser')")
    await page.reload()
    await page.wait_for_selector("#conflict:has-text('typed while offline')")
    studio.problems[:] = [p for p in studio.problems if "ERR_CONNECTION_FAILED" not in p]
    await page.unroute("**/save")
    await page.get_by_role("button", name="Use it").click()
    await _until(lambda: _idea(studio, path), "typed while offline")


async def test_a_stale_stage_shows_the_difference_and_both_answers(studio):
    scenes = {"finalScript": {"scenes": ["The wind was cold."]}}
    path = await studio.project(n3=scenes, n4={"voice": "en"})
    script = await studio.tab(f"{path}/3")
    await script.get_by_role("textbox", name="The script").fill("The rain was cold.")
    await _until_stale(studio, path)
    page = await studio.tab(f"{path}/4")
    assert await page.locator(".path .stale").count() == 1
    assert await page.locator(".changed del").first.inner_text() == "The wind was cold."
    assert await page.locator(".changed ins").first.inner_text() != ""
    await page.get_by_role("button", name="Keep mine").click()
    await page.wait_for_selector(".changed", state="detached")
    assert not (await studio.held(path, 4)).stale


async def _idea(studio, path: str) -> str:
    return (await studio.held(path, 1)).data["idea"]


async def _until(ask, wanted) -> None:
    end = time.monotonic() + 15
    while (got := await ask()) != wanted:
        assert time.monotonic() < end, got
        await asyncio.sleep(0.03)


async def _until_stale(studio, path: str) -> None:
    async def stale() -> bool:
        return (await studio.held(path, 4)).stale

    await _until(stale, True)
