"""`holdfast courses`: files become versions, and one that is no course is refused."""

import json

import pytest

from holdfast.postgres.conninfo import as_url
from holdfast.systems import accounts, courses
from processes import ran

TEXT = (
    "slug: pages\ntitle: {en: Pages, ru: Страницы}\ndays: [{steps: [{key: pen, title: A pen}]}]\n"
)


@pytest.fixture
def run(app_url, owner_url, tmp_path):
    variables = {
        "HOLDFAST_DATABASE_URL": as_url(app_url), "HOLDFAST_OWNER_URL": as_url(owner_url),
        "HOLDFAST_HOME": str(tmp_path / "home"),
    }  # fmt: skip

    async def run(*arguments):
        done = await ran(tmp_path, "courses", *arguments, **variables)
        assert "Traceback" not in done.log + done.out
        return done

    return run


async def test_a_file_is_published_rehearsed_and_listed(run, db, tmp_path):
    file = tmp_path / "pages.yaml"
    file.write_text(TEXT)
    assert "would publish pages version 1" in (await run("publish", str(file), "--dry-run")).out
    assert await courses.catalogue(db) == []
    done = await run("publish", str(file), "--json")
    assert done.code == 0
    assert json.loads(done.out)["version"] == 1
    assert "nothing has changed" in (await run("publish", str(file))).out
    person = await accounts.sign_in(db, kind="dev", subject="ada")
    await courses.enrol(db, account_id=person.id, slug="pages", actor="test")
    file.write_text(TEXT.replace("A pen}", "A pen}, {key: ink, title: Ink}"))
    told = json.loads((await run("publish", str(file), "--dry-run", "--json")).out)
    assert (told["version"], told["steps_added"], told["touched"]) == (2, 1, 1)
    listed = json.loads((await run("list", "--json")).out)["items"]
    assert [(c["slug"], c["version"], c["steps"]) for c in listed] == [("pages", 1, 1)]


@pytest.mark.parametrize("text", ["{", "slug: pages\ntitle: P\ndays: []\n"])
async def test_a_file_that_is_no_course_is_refused_in_a_sentence(run, db, tmp_path, text):
    file = tmp_path / "pages.yaml"
    file.write_text(text)
    done = await run("publish", str(file))
    assert done.code == 1
    assert done.log.strip()
    assert (await run("publish", str(tmp_path / "none.yaml"))).code == 2
    assert await courses.catalogue(db) == []
