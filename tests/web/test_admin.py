"""What an admin sees, and nobody else."""

import pytest

from asking import claim, generate
from holdfast.kernel import queue

PATHS = ("/api/admin/jobs", "/api/admin/audit", "/api/admin/verify")


@pytest.fixture
async def root(client, bearer, owner):
    me = (await client.get("/api/me", headers=bearer("root"))).json()["id"]
    await owner.execute("update accounts.account set role = 'admin' where id = %s", [me])
    return bearer("root")


@pytest.mark.parametrize("path", PATHS)
async def test_only_an_admin_may_look(alice, path):
    refused = await alice.get(path)
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")


async def test_everybodys_jobs_are_paged_newest_first(client, bearer, root):
    made = []
    for n in range(2):
        for name in ("alice", "bob"):
            client.headers.update(bearer(name))
            made.append((await generate(client, key=f"{name}{n}"))["id"])
    first = (await client.get("/api/admin/jobs?limit=3", headers=root)).json()
    params = {"cursor": first["nextCursor"]}
    rest = (await client.get("/api/admin/jobs", params=params, headers=root)).json()
    assert [job["id"] for job in first["items"] + rest["items"]] == sorted(made, reverse=True)
    assert len({job["accountId"] for job in first["items"]}) == 2


async def test_a_jobs_whole_story_and_its_trail(alice, combined, root):
    job = await generate(alice)
    lease = await claim(combined)
    await queue.fail(combined, job_id=lease.id, token=lease.token, code="stalled", permanent=True)
    story = (await alice.get(f"/api/admin/jobs/{job['id']}/story", headers=root)).json()["items"]
    whats = [step["what"] for step in story]
    assert whats.index("ledger.charge") < whats.index("ledger.refund")
    assert {"stories.generate", "queue.claim", "queue.fail"} <= set(whats)
    found = await alice.get("/api/admin/audit", params={"entity": job["id"]}, headers=root)
    assert [(e["action"], e["from"], e["to"]) for e in found.json()["items"]] == [
        ("stories.generate", None, "queued"),
        ("queue.claim", "queued", "processing"),
        ("queue.fail", "processing", "failed"),
    ]


async def test_the_audit_is_paged_newest_first_also_beyond_an_hour(alice, owner, root):
    for n in range(2):
        await generate(alice, f"k{n}")
    await owner.execute(
        "insert into audit.event (bucket, entity_id, id, entity, action, actor, at)"
        " select 0, made, made, 'job', 'long.ago', 'test', kernel.now() - make_interval(days => n)"
        " from generate_series(1, 5) n, kernel.new_id((n - n)::smallint) made"
    )
    seen, cursor = [], None
    while True:
        params = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = (await alice.get("/api/admin/audit", params=params, headers=root)).json()
        seen += page["items"]
        cursor = page["nextCursor"]
        if cursor is None:
            break
    assert [e["at"] for e in seen] == sorted((e["at"] for e in seen), reverse=True)
    assert len({e["id"] for e in seen}) == len(seen)
    actions = [e["action"] for e in seen]
    assert actions.count("stories.generate") == 2
    assert actions[-5:] == ["long.ago"] * 5


async def test_the_promises_are_counted(alice, root):
    await generate(alice)
    told = (await alice.get("/api/admin/verify", headers=root)).json()
    assert told["ok"] is True
    assert any(one["checked"] for one in told["invariants"])
    assert all(one["violations"] == 0 for one in told["invariants"])
