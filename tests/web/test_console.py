"""The console without a browser: who gets in, whose forms are taken, what a page may do."""

import re

import pytest

from holdfast.systems import accounts
from holdfast.systems.accounts.development import mint

PAGE = "/console/orders"


@pytest.fixture
async def operator(client, combined, owner, settings):
    """A client with the session cookie of an operator; gives the token of his forms."""
    found = await accounts.sign_in(combined, kind="dev", subject="ann", name="ann")
    await accounts.set_role(owner, account_id=found.id, role="operator", actor="test")
    client.cookies.set("__session", mint(settings, "ann"))
    page = await client.get(PAGE)
    assert page.status_code == 200
    return re.search(r'data-csrf="([^"]+)"', page.text)[1]


async def test_a_stranger_is_led_to_the_sign_in_page(client):
    answer = await client.get(PAGE)
    assert (answer.status_code, answer.headers["location"]) == (303, "/console/sign-in")
    part = await client.post(f"{PAGE}/take-next", headers={"HX-Request": "true"})
    assert (part.status_code, part.headers["HX-Redirect"]) == (401, "/console/sign-in")


@pytest.mark.parametrize(
    ("headers", "data"),
    [({}, {}), ({}, {"csrf": "x"}), ({"X-CSRF-Token": "é".encode()}, {})],
)
async def test_a_form_without_its_token_is_refused(client, operator, headers, data):
    answer = await client.post(f"{PAGE}/take-next", headers=headers, data=data)
    assert (answer.status_code, answer.json()["code"]) == (403, "csrf_failed")


async def test_the_token_of_another_session_and_another_site_are_refused(
    client, operator, combined, settings
):
    evil = {"X-CSRF-Token": operator, "Origin": "https://evil.example"}
    assert (await client.post(f"{PAGE}/take-next", headers=evil)).status_code == 403
    own = {"X-CSRF-Token": operator, "HX-Request": "true"}
    assert (await client.post(f"{PAGE}/take-next", headers=own)).status_code == 200
    client.cookies.set("__session", mint(settings, "ann"))  # the same person, another session
    assert (await client.post(f"{PAGE}/take-next", headers=own)).status_code == 403


async def test_a_page_runs_no_inline_script_and_sets_no_inline_style(client, operator):
    page = await client.get(PAGE)
    policy = page.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    for script in re.findall(r"<script([^>]*)>(.*?)</script>", page.text, re.DOTALL):
        assert "src=" in script[0]
        assert script[1].strip() == ""
    assert not re.search(r"\s(?:on\w+|style)=", page.text)
    for asset in re.findall(r'(?:src|href)="(/console/static/[^"]+)"', page.text):
        assert (await client.get(asset)).status_code == 200
    licence = await client.get("/console/static/htmx-LICENSE.txt")
    assert "Zero-Clause BSD" in licence.text


async def test_what_a_customer_writes_is_shown_as_he_wrote_it(client, operator, combined):
    title = "<script>alert('1')</script>\"'&"
    sent = {"title": title, "csrf": operator, "priority": "3"}
    placed = await client.post(PAGE, data=sent, headers={"HX-Request": "true"})
    assert placed.status_code == 200
    page = (await client.get(PAGE)).text
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page


async def test_a_form_is_checked_and_answers_in_place(client, operator):
    sent = {"title": "", "csrf": operator, "priority": "99"}
    answer = await client.post(PAGE, data=sent, headers={"HX-Request": "true"})
    assert answer.status_code == 422
    assert 'role="alert"' in answer.text
    wrong = await client.post(
        PAGE, content=b"{}", headers={"X-CSRF-Token": operator, "Content-Type": "application/json"}
    )
    assert wrong.status_code == 415


async def test_a_key_places_one_order_however_often_the_button_is_pressed(client, operator):
    sent = {"title": "once", "csrf": operator, "key": "k-1"}
    for _ in range(2):
        await client.post(PAGE, data=sent, headers={"HX-Request": "true"})
    assert (await client.get(PAGE)).text.count("<h2>once</h2>") == 1


async def test_personas_are_for_development_only(client, app):
    page = await client.get("/console/sign-in")
    assert "persona:alice" in page.text
    signed = await client.post("/console/sign-in", data={"name": "persona:alice"})
    cookie = signed.headers["set-cookie"]
    assert signed.status_code == 303
    assert "HttpOnly" in cookie
    assert "samesite=lax" in cookie.lower()
    object.__setattr__(app.state.settings, "env", "production")
    assert "persona:alice" not in (await client.get("/console/sign-in")).text
    refused = await client.post("/console/sign-in", data={"name": "persona:alice"})
    assert refused.status_code == 404


@pytest.mark.parametrize("back", ["https://evil.example", "//evil.example", "/console\\x"])
async def test_choosing_looks_leads_nowhere_else(client, back):
    answer = await client.post("/console/looks", data={"locale": "uk", "back": back})
    assert answer.headers["location"] == PAGE
    page = await client.get("/console/sign-in")
    assert 'lang="uk"' in page.text


@pytest.mark.parametrize("path", ["?desk=nowhere", "?desk=<b>"])
async def test_a_desk_that_is_not_there_is_told_on_the_page(client, operator, path):
    page = await client.get(PAGE + path)
    assert page.status_code == 404
    assert "<b>" not in page.text


async def test_the_bare_address_leads_to_the_console(client):
    answer = await client.get("/")
    assert (answer.status_code, answer.headers["location"]) == (303, "/console")
