"""A learner's week in a real browser, on a phone, in three languages."""

import os
from pathlib import Path

import pytest

from courses_content import at
from holdfast import messages
from holdfast.config import Settings
from holdfast.kernel import verify
from holdfast.systems import accounts, courses
from journeys.browsers import browser, serving

PHONE = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "is_mobile": True,
         "has_touch": True}  # fmt: skip
WAIT = 10_000  # milliseconds, for anything that should appear
MONDAY = "2026-06-01"


@pytest.fixture
async def phone(combined, owner, tmp_path):
    """Open the console on a phone; fail on any script error and on anything that sticks out."""
    problems: list[str] = []
    await courses.publish_samples(combined)
    settings = Settings(home=tmp_path, port=0, stop_seconds=1)
    async with browser() as opened, serving(settings, combined) as address:

        async def enter(locale: str):
            context = await opened.new_context(**PHONE, locale=locale)
            page = await context.new_page()
            page.set_default_timeout(WAIT)
            page.on("pageerror", lambda error: problems.append(str(error)))
            page.on("console", lambda said: _note(problems, said))
            await page.goto(f"{address}/console/sign-in")
            await page.get_by_role("button", name="carol").click()
            await page.wait_for_url("**/console/**")
            await page.goto(f"{address}/console/courses")
            return page

        yield enter
    assert problems == []


def _note(problems, said):
    if said.type == "error" and "409" not in said.text and "422" not in said.text:
        problems.append(said.text)


async def shot(page, name):
    """Keep a picture where HOLDFAST_TEST_SHOTS names a folder; nothing may stick out sideways."""
    wide = await page.evaluate(
        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )
    assert wide <= 0, f"{name} is {wide} pixels too wide"
    if folder := os.environ.get("HOLDFAST_TEST_SHOTS"):
        await page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


async def finish(page):
    """Press Done on the open step that stands next; wait until the page shows it."""
    row = await page.locator(".day[open] .steps .next").first.get_attribute("id")
    await page.locator(f"#{row} button.main").tap()
    await page.wait_for_selector(f"#{row}[data-status=COMPLETED]", state="attached")


async def monday(page, language, begin):
    """Begin; one step, a look at why the day is not done, and a try at what stands later."""
    await shot(page, f"{language}-1-courses")
    await page.get_by_role("button", name=f"{begin}: ").first.tap()
    await page.wait_for_selector("#way[data-status=NOT_STARTED]")
    assert "18:00" in await page.inner_text(".reminders")
    await shot(page, f"{language}-2-monday-morning")
    await finish(page)
    assert await page.locator(".streak").get_attribute("data-streak") == "1"
    await page.locator(".day[open] .why summary").tap()
    await page.wait_for_selector(".told-why li")
    assert await page.locator(".told-why li").count() == 1
    await shot(page, f"{language}-3-why")
    await page.locator("#day-3 summary").first.tap()
    await page.locator("#day-3 .steps button.main").first.tap()
    await page.wait_for_selector("#notice [role=alert]")
    locked = messages.translator(language).detail("step_locked")
    assert (await page.inner_text("#notice")).startswith(locked)
    await shot(page, f"{language}-4-locked")


async def wednesday(page, language, streak):
    """Finish one step of day two, and pass the other by."""
    await finish(page)
    assert (await page.inner_text(".streak")).strip() == streak
    await page.locator("#day-2 .next .pass summary").tap()
    await page.locator("#day-2 .next .pass input").fill("…")
    await page.locator("#day-2 .next .pass button").tap()
    await page.wait_for_selector("#day-2[data-status=COMPLETED]", state="attached")
    await shot(page, f"{language}-5-wednesday")


@pytest.mark.parametrize(
    ("locale", "begin", "streak", "over"),
    [
        ("en-GB", "Begin", "3 days in a row", "done"),
        ("ru-RU", "Начать", "3 дня подряд", "пройдено"),
        ("uk-UA", "Почати", "3 дні поспіль", "пройдено"),
    ],
)
async def test_a_learners_week(phone, combined, owner, locale, begin, streak, over):
    language = locale[:2]
    person = await accounts.sign_in(combined, kind="dev", subject="carol", name="carol")
    await owner.execute(
        "update accounts.account set time_zone = 'Europe/Kyiv' where id = %s", [person.id]
    )
    await at(owner, f"{MONDAY}T09:00+03:00")
    page = await phone(locale)
    assert await page.evaluate("document.documentElement.lang") == language
    await monday(page, language, begin)
    await at(owner, "2026-06-02T21:00+03:00")
    await page.reload()
    await finish(page)
    await page.wait_for_selector("#day-1[data-status=COMPLETED]", state="attached")
    await at(owner, "2026-06-03T07:30+03:00")
    await page.reload()
    await wednesday(page, language, streak)
    # Thursday to Saturday he rests; the streak is gone, the course is not.
    await at(owner, "2026-06-07T12:00+03:00")
    await page.reload()
    assert await page.locator(".streak").get_attribute("data-streak") == "0"
    assert await page.locator(".dots .active").count() == 3
    await finish(page)
    await finish(page)
    await page.wait_for_selector("#way[data-status=COMPLETED][data-percent='100']")
    assert over in await page.inner_text("#way .head")
    await shot(page, f"{language}-6-sunday")
    broken = [one for one in await verify.run(combined) if one.violations]
    assert broken == []


async def test_a_new_version_is_offered_and_taken(phone, combined, owner):
    page = await phone("en-GB")
    await page.get_by_role("button", name="Begin: A week of voices").tap()
    await page.wait_for_selector("#way")
    text = "slug: free-order\nflow: free\ntitle: A week of voices\n"
    text += "days: [{key: breath, steps: [{key: slow, title: Slowly}, {key: new, title: New}]}]"
    await courses.publish(combined, courses.parse(text), actor="test")
    await page.reload()
    assert "1 step more, 5 steps fewer" in await page.inner_text(".offer")
    await shot(page, "en-7-offer")
    await page.locator(".offer button").tap()
    await page.wait_for_selector(".offer", state="detached")
    assert await page.locator(".steps > li").count() == 2
    await page.locator(".reminders button").tap()
    await page.wait_for_selector("text=No reminders.")


async def test_without_scripts_it_works_too(phone, combined, owner):
    """Forms are forms: skipping needs no script."""
    page = await phone("en-GB")
    await page.get_by_role("button", name="Begin: First steps").tap()
    await page.wait_for_selector("#way")
    form = await page.locator("form[action$='/skip']").first.get_attribute("action")
    assert form.startswith("/console/enrolments/")
    refused = await page.request.post(page.url + "/restart")
    assert refused.status == 403, "no form without its token"
