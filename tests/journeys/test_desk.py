"""The live desk in real browsers."""

import contextlib
from collections.abc import Awaitable, Callable

import pytest

from holdfast.config import Settings
from holdfast.systems import accounts, orders
from journeys.browsers import browser, serving

ROLES = {"carol": "user", "alice": "operator", "bob": "operator", "sam": "supervisor"}
WAIT = 10_000  # milliseconds, for anything that should appear


@pytest.fixture
async def people(combined, owner):
    made = {}
    for name, role in ROLES.items():
        account = await accounts.sign_in(combined, kind="dev", subject=f"persona:{name}", name=name)
        made[name] = account.id
        if role != "user":
            await accounts.set_role(owner, account_id=account.id, role=role, actor="test")
    return made


@pytest.fixture
async def visit(combined, people, tmp_path):
    """Open the desk in a browser of its own, signed in as a persona; fail on any script error."""
    problems: list[str] = []
    settings = Settings(home=tmp_path, port=0, stop_seconds=1)
    async with contextlib.AsyncExitStack() as stack:
        opened = await stack.enter_async_context(browser())
        address = await stack.enter_async_context(serving(settings, combined))

        async def enter(name: str, **looks):
            context = await opened.new_context(**{"locale": "en-GB", **looks})
            stack.push_async_callback(context.close)
            page = await context.new_page()
            page.set_default_timeout(WAIT)
            page.on("pageerror", lambda error: problems.append(str(error)))
            page.on("console", lambda said: _note(problems, said))
            await page.goto(f"{address}/console/sign-in")
            await page.get_by_role("button", name=name).click()
            await page.wait_for_selector("#orders[data-live=yes]", state="attached")
            return page

        yield enter
    assert problems == []


def _note(problems: list[str], said) -> None:
    if said.type == "error" and "409" not in said.text:  # a lost race is told as 409
        problems.append(said.text)


Visit = Callable[..., Awaitable]


async def test_two_browsers_race_and_the_loser_reads_who_won(visit: Visit, combined, people):
    order = await orders.place(combined, customer_id=people["carol"], title="The last parcel")
    alice, bob = await visit("alice"), await visit("bob")
    row = f"#order-{order.id}"
    for page in (alice, bob):
        await page.evaluate("window.stays = true")
        await page.wait_for_selector(f"{row} button:has-text('Take')")
    # Both pages click by themselves, at the same moment of the same clock.
    at = await alice.evaluate("Date.now() + 400")
    click = """([row, at]) => new Promise(done => setTimeout(() => {
        const button = document.querySelector(row + ' button');
        window.clicked = button !== null;
        button?.click();
        done();
    }, at - Date.now()))"""
    for page in (alice, bob):
        await page.evaluate(f"arguments => {{ ({click})(arguments); }}", [row, at])
    seen = await orders_of(combined, order.id)
    winner, loser = (alice, bob) if seen.holder_name == "alice" else (bob, alice)
    await winner.wait_for_selector(f"{row} button:has-text('Complete')")
    await loser.wait_for_selector(f"{row} .holder:has-text('Taken by {seen.holder_name}')")
    assert await loser.locator(f"{row} button").count() == 0
    assert await loser.evaluate("window.stays") is True, "the page was not loaded again"
    if await loser.evaluate("window.clicked"):  # he was not shown the winner even before
        told = loser.locator(f"{row} [role=alert]")
        assert "already been assigned to another operator" in await told.inner_text()


async def orders_of(db, order_id):
    """Wait until somebody has it."""
    import asyncio

    async with asyncio.timeout(10):
        while True:
            found = await orders.get(db, order_id=order_id, actor_id=order_id, role="admin")
            if found.status == "PROCESSING":
                return found
            await asyncio.sleep(0.02)


async def test_the_list_changes_by_itself_in_its_order(visit: Visit, combined, people):
    page = await visit("alice")
    first = await orders.place(combined, customer_id=people["carol"], title="usual")
    await page.wait_for_selector(f"#order-{first.id}")
    urgent = await orders.place(combined, customer_id=people["carol"], title="urgent", priority=9)
    await page.wait_for_selector(f"#order-{urgent.id}")
    titles = await page.locator("#orders h2").all_inner_texts()
    assert titles == ["urgent", "usual"]
    await orders.take(combined, order_id=first.id, operator_id=people["bob"], operator_name="bob")
    await page.wait_for_selector(f"#order-{first.id} .holder:has-text('bob')")
    await orders.complete(combined, order_id=first.id, operator_id=people["bob"])
    await page.wait_for_selector(f"#order-{first.id}", state="detached")


async def test_the_key_n_takes_the_next_but_not_while_writing(visit: Visit, combined, people):
    for title in ("one", "two"):
        await orders.place(combined, customer_id=people["carol"], title=title)
    page = await visit("alice")
    await page.locator("#title").focus()
    await page.keyboard.press("n")
    assert await page.locator("#title").input_value() == "n"
    await page.locator("h1").click()
    await page.keyboard.press("n")
    await page.wait_for_selector("[data-mine]:has-text('one')")
    assert "You have taken: one" in await page.locator("#notice").inner_text()
    await page.get_by_role("button", name="Complete: one").click()
    await page.wait_for_selector("#orders:not(:has([data-mine]))", state="attached")
    assert await page.locator("#orders [data-status=PENDING]").count() == 1


async def test_a_customer_places_watches_and_cancels(visit: Visit, combined, people):
    page = await visit("carol", locale="uk-UA", viewport={"width": 390, "height": 844})
    assert await page.locator("h1").inner_text() == "Мої замовлення"
    await page.locator("#title").fill("Потрібна допомога")
    await page.get_by_role("button", name="Подати замовлення").click()
    await page.wait_for_selector("#orders .order:has-text('Потрібна допомога')")
    overflow = await page.evaluate(
        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )
    assert overflow <= 0, "nothing is wider than a phone"
    await orders.take_next(combined, operator_id=people["alice"], operator_name="alice")
    await page.wait_for_selector(".holder:has-text('alice')")
    await orders.release(
        combined,
        order_id=(await mine(combined, people)).id,
        operator_id=people["alice"],
    )
    await page.get_by_role("button", name="Скасувати").click()
    await page.wait_for_selector("#orders:not(:has([data-status=PENDING]))", state="attached")


async def mine(db, people):
    (order,) = await orders.list_of_customer(db, actor_id=people["carol"], family=[people["carol"]])
    return order


async def test_language_and_colours_are_kept(visit: Visit):
    page = await visit("sam")
    await page.get_by_label("Language").select_option("ru")
    await page.wait_for_selector("html[lang=ru]")
    await page.get_by_label("Цвета").select_option("dark")
    await page.wait_for_selector("html[data-theme=dark]")
    await page.reload()
    assert await page.locator("h1").inner_text() == "Стол: main"
    ground = await page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == "rgb(20, 23, 26)"


async def test_nothing_hinders_a_screen_reader(visit: Visit, combined, people):
    """What can be said without a second opinion: names, labels, one heading, a language."""
    await orders.place(combined, customer_id=people["carol"], title="A parcel")
    page = await visit("sam")
    await page.wait_for_selector(".order")
    nameless = await page.evaluate(
        """() => [...document.querySelectorAll('button, a, input, select, textarea')]
            .filter(e => e.type !== 'hidden' && !e.textContent.trim() && !e.labels?.length
                    && !e.getAttribute('aria-label')).map(e => e.outerHTML)"""
    )
    assert nameless == []
    assert await page.locator("h1").count() == 1
    assert await page.locator("main").count() == 1
    assert await page.locator("html").get_attribute("lang") == "en"
    twice = await page.evaluate(
        """() => { const ids = [...document.querySelectorAll('[id]')].map(e => e.id);
                   return ids.filter((id, n) => ids.indexOf(id) !== n); }"""
    )
    assert twice == []
    await page.keyboard.press("Tab")
    assert await page.evaluate("document.activeElement.className") == "skip"


async def test_who_comes_too_late_is_told_in_place(visit: Visit, combined, people):
    """The button is pressed after another has it, before the page could hear of it."""
    order = await orders.place(combined, customer_id=people["carol"], title="The last parcel")
    page = await visit("alice", locale="ru-RU")
    row = f"#order-{order.id}"
    await page.wait_for_selector(f"{row} button")
    await page.evaluate("row => { window.late = document.querySelector(row + ' button') }", row)
    await orders.take(combined, order_id=order.id, operator_id=people["bob"], operator_name="bob")
    await page.evaluate("window.late.click()")
    await page.wait_for_selector(f"{row} .holder:has-text('bob')")
    assert await page.locator(f"{row} button").count() == 0


async def test_the_page_with_javascript_off_still_takes(visit: Visit, combined, people):
    await orders.place(combined, customer_id=people["carol"], title="one")
    page = await visit("alice")
    cookies = await page.context.cookies()
    plain = await page.context.browser.new_context(java_script_enabled=False, locale="en-GB")
    try:
        await plain.add_cookies(cookies)
        bare = await plain.new_page()
        await bare.goto(page.url)
        await bare.get_by_role("button", name="Take the next").click()
        await bare.wait_for_selector("[data-mine]:has-text('one')")
    finally:
        await plain.close()
