"""What every request meets: health, problems, strict bodies, ids."""

import json

import pytest


@pytest.mark.parametrize(
    "path",
    ["/livez", "/readyz", "/metrics", "/openapi.json", "/docs", "/api/machines", "/api/prices"],
)
async def test_what_is_public_answers_a_stranger(client, path):
    response = await client.get(path)
    assert response.status_code == 200, response.text
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["x-request-id"]


WRONG = [
    (b'{"prompt":"x","words":1.0}', 422, "invalid", "/words"),
    (b'{"prompt":"x","words":true}', 422, "invalid", "/words"),
    (b'{"prompt":"x","words":"60"}', 422, "invalid", "/words"),
    (b'{"prompt":"x","words":99999999999999999999}', 422, "invalid", "/words"),
    (b'{"prompt":"x","words":' + b"9" * 5000 + b"}", 422, "invalid", "/words"),
    (b'{"prompt":"x","more":1}', 422, "invalid", "/more"),
    (b'{"prompt":"a\\u0000b"}', 422, "invalid", "/prompt"),
    (b'{"a/b~":"\\u0000"}', 422, "invalid", "/a~1b~0"),
    (b'{"prompt":1e999}', 422, "invalid", "/prompt"),
    (b'{"prompt":""}', 422, "invalid", "/prompt"),
    (b'{"prompt":"' + b"x" * 4001 + b'"}', 422, "invalid", "/prompt"),
    (b"[]", 422, "invalid", ""),
    (b"[" * 100_000, 422, "invalid", ""),
    (b"", 422, "invalid", ""),
    (b'{"prompt":"x","prompt":"y"}', 400, "malformed_json", None),
    (b'{"prompt":NaN}', 400, "malformed_json", None),
    (b'{"prompt":-Infinity}', 400, "malformed_json", None),
    (b'{"prompt":"\\ud800"}', 400, "malformed_json", None),
    (b'{"prompt":"\xff"}', 400, "malformed_json", None),
    (b'\xef\xbb\xbf{"prompt":"x"}', 400, "malformed_json", None),
    ('{"prompt":"x"}'.encode("utf-16"), 400, "malformed_json", None),
    (b'{"prompt":"x"} x', 400, "malformed_json", None),
    (b"{", 400, "malformed_json", None),
]


async def test_a_body_that_is_wrong_is_told_where(alice):
    for body, status, code, pointer in WRONG:
        response = await alice.post(
            "/api/generate",
            content=body,
            headers={"Idempotency-Key": "k", "Content-Type": "application/json"},
        )
        told = response.json()
        assert (response.status_code, told["code"]) == (status, code), (body[:60], told)
        assert response.headers["content-type"] == "application/problem+json"
        if pointer is not None:
            assert told["errors"][0]["pointer"] == pointer, (body[:60], told)
            assert told["errors"][0]["detail"]
    assert (await alice.get("/api/jobs")).json()["items"] == []


async def test_problems_speak_the_readers_language(client):
    response = await client.get("/nowhere", headers={"Accept-Language": "uk;q=0.5, ru"})
    assert response.headers["content-language"] == "ru"
    assert "Accept-Language" in response.headers["vary"]
    assert response.json()["title"] != (await client.get("/nowhere")).json()["title"]


async def test_a_sane_request_id_is_echoed_and_another_replaced(client):
    given = await client.get("/nowhere", headers={"X-Request-Id": "abc-1"})
    assert given.headers["x-request-id"] == given.json()["requestId"] == "abc-1"
    for bad in ("a b", "x" * 129, "<script>"):
        made = await client.get("/nowhere", headers={"X-Request-Id": bad})
        assert made.headers["x-request-id"] == made.json()["requestId"] != bad


async def test_a_body_above_the_limit_is_413_also_in_chunks(alice, settings):
    async def chunks():
        for _ in range(200):
            yield b"x" * 10_000

    whole = await alice.post("/api/generate", content=b"x" * (settings.body_bytes_max + 1))
    chunked = await alice.post(
        "/api/generate", content=chunks(), headers={"Idempotency-Key": "chunks"}
    )
    for response in (whole, chunked):
        assert response.status_code == 413
        assert response.json()["code"] == "payload_too_large"


async def test_strangers_are_401_before_their_body_is_judged(client):
    for body in (b"{", b"{}"):
        response = await client.post(
            "/api/generate", content=body, headers={"Content-Type": "application/json"}
        )
        assert response.json()["code"] == "token_missing"
        assert response.status_code == 401


async def test_the_openapi_page_lists_the_refusals_of_every_route(client):
    page = (await client.get("/openapi.json")).json()
    generate = page["paths"]["/api/generate"]["post"]
    codes = json.dumps(generate["responses"])
    for code in ("insufficient_tokens", "idempotency_key_required", "token_expired", "unavailable"):
        assert f'"{code}"' in codes, code
    assert "HTTPValidationError" not in json.dumps(page)


async def test_a_wrong_method_is_told_all_that_are_right(client):
    for path, allowed in (("/api/generate", "POST"), ("/api/jobs/1/cancel", "POST")):
        response = await client.put(path)
        assert (response.status_code, response.json()["code"]) == (405, "method_not_allowed")
        assert response.headers["allow"] == response.json()["allowed"] == allowed
    several = await client.request("OPTIONS", "/api/projects/1/steps/1")
    assert several.headers["allow"] == "GET, PATCH, PUT"
