"""Tokens as an honest issuer makes them, and more than forty as nobody should."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

ISSUER = "https://clerk.example.test"
PARTY = "https://app.example.test"


@dataclass(frozen=True)
class Issuer:
    """An issuer's key pair under a name."""

    key: rsa.RSAPrivateKey
    kid: str

    @classmethod
    def make(cls, kid: str = "ins_1", bits: int = 2048) -> "Issuer":
        return cls(rsa.generate_private_key(public_exponent=65537, key_size=bits), kid)

    @property
    def pem(self) -> str:
        return (
            self.key.public_key()
            .public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
            .decode()
        )

    @property
    def jwk(self) -> dict[str, Any]:
        made = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self.key.public_key()))
        return {**made, "kid": self.kid, "use": "sig", "alg": "RS256"}

    def claims(self, **changes: Any) -> dict[str, Any]:
        now = int(time.time())
        made = {
            "iss": ISSUER, "sub": "user_good", "sid": "sess_1", "azp": PARTY,
            "iat": now - 1, "nbf": now - 1, "exp": now + 7200, "v": 2, "fva": [0, -1],
        }  # fmt: skip
        made |= changes
        return {name: value for name, value in made.items() if value is not ...}

    def token(self, header: dict[str, Any] | None = None, **changes: Any) -> str:
        """Sign claims; `...` leaves a claim out."""
        return self.sign(self.claims(**changes), header)

    def sign(self, payload: Any, header: dict[str, Any] | None = None) -> str:
        top = {"alg": "RS256", "kid": self.kid, "typ": "JWT"} | (header or {})
        top = {name: value for name, value in top.items() if value is not ...}
        return self.raw(json.dumps(top).encode(), json.dumps(payload).encode())

    def raw(self, header: bytes, payload: bytes) -> str:
        signed = f"{b64(header)}.{b64(payload)}"
        signature = self.key.sign(signed.encode(), padding.PKCS1v15(), SHA256())
        return f"{signed}.{b64(signature)}"


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def hmac_with(issuer: Issuer, secret: bytes, header: dict[str, Any] | None = None) -> str:
    """Sign by HS256 with something public as the secret: the oldest trick."""
    top = {"alg": "HS256", "typ": "JWT", "kid": issuer.kid} | (header or {})
    signed = f"{b64(json.dumps(top).encode())}.{b64(json.dumps(issuer.claims()).encode())}"
    return f"{signed}.{b64(hmac.digest(secret, signed.encode(), hashlib.sha256))}"


def with_signature(token: str, change: Callable[[bytes], bytes]) -> str:
    head, _, signature = token.rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    return f"{head}.{b64(change(raw))}"


Cases = dict[str, tuple[str, str]]


def hostile(good: Issuer) -> Cases:
    """Return name → (token, code of its refusal)."""
    return _forms(good) | _algorithms(good) | _keys(good) | _types(good) | _values(good)


def _forms(good: Issuer) -> Cases:
    fine = good.token()
    head, payload, signature = fine.split(".")
    return {
        "not a token": ("hello", "token_malformed"),
        "two parts": (f"{head}.{payload}", "token_malformed"),
        "four parts": (f"{fine}.{signature}", "token_malformed"),
        "five parts, as encrypted": (f"{fine}.a.b", "token_malformed"),
        "empty signature": (f"{head}.{payload}.", "token_malformed"),
        "padding": (f"{fine}==", "token_malformed"),
        "blank inside": (f"{head}. {payload}.{signature}", "token_malformed"),
        "standard alphabet": (f"{head}.{payload}.+/{signature[2:]}", "token_malformed"),
        "other spelling of the last letter": (_respelled(fine), "token_malformed"),
        "huge": (good.token(extra="x" * 20_000), "token_malformed"),
        "header no JSON": (good.raw(b"hello", b"{}"), "token_malformed"),
        "header a list": (good.raw(b'["RS256"]', b"{}"), "token_malformed"),
        "header twice alg": (
            good.raw(
                json.dumps({"kid": good.kid, "alg": "RS256"}).replace(
                    "{", '{"alg": "none", ', 1).encode(),
                json.dumps(good.claims()).encode()),
            "token_malformed"),
        "header not UTF-8": (good.raw(b'{"alg":"RS256","kid":"\xff"}', b"{}"), "token_malformed"),
        "header deep": (good.raw(b'{"alg":' + b"[" * 3000, b"{}"), "token_malformed"),
        "kid a number": (good.token({"kid": 7}), "token_malformed"),
        "kid huge": (good.token({"kid": "k" * 5000}), "token_malformed"),
        "critical extension": (good.token({"crit": ["exp"]}), "token_malformed"),
        "unencoded payload": (good.token({"b64": False}), "token_malformed"),
        "another type": (good.token({"typ": "at+jwt"}), "token_malformed"),
    }  # fmt: skip


def _algorithms(good: Issuer) -> Cases:
    _, payload, signature = good.token().split(".")
    none = {"alg": "none", "kid": good.kid, "typ": "JWT"}
    return {
        "none": (f"{b64(json.dumps(none).encode())}.{payload}.{signature}", "token_algorithm"),
        "NONE": (good.token({"alg": "NONE"}), "token_algorithm"),
        "no alg": (good.token({"alg": ...}), "token_algorithm"),
        "alg a list": (good.token({"alg": ["RS256"]}), "token_algorithm"),
        "HS256 with the public key": (hmac_with(good, good.pem.encode()), "token_algorithm"),
        "HS256 with the stripped key": (hmac_with(good, good.pem.strip().encode()),
                                        "token_algorithm"),
        "HS256 with the kid": (hmac_with(good, good.kid.encode()), "token_algorithm"),
        "RS512": (jwt.encode(good.claims(), good.key, "RS512", {"kid": good.kid}),
                  "token_algorithm"),
        "PS256": (jwt.encode(good.claims(), good.key, "PS256", {"kid": good.kid}),
                  "token_algorithm"),
        "ES256": (jwt.encode(good.claims(), ec.generate_private_key(ec.SECP256R1()), "ES256",
                             {"kid": good.kid}), "token_algorithm"),
    }  # fmt: skip


def _keys(good: Issuer) -> Cases:
    other = Issuer.make(kid="ins_other")
    same_name = Issuer(other.key, good.kid)
    fine = good.token()
    head, _, signature = fine.split(".")
    return {
        "unknown kid": (other.token(), "token_key_unknown"),
        "kid a path": (good.token({"kid": "../../dev/null"}), "token_key_unknown"),
        "kid an injection": (good.token({"kid": "' or 1=1 --"}), "token_key_unknown"),
        "no kid": (good.token({"kid": ...}), "token_key_unknown"),
        "own key in the header": (other.token({"jwk": other.jwk}), "token_key_unknown"),
        "own address in the header": (other.token({"jku": "http://127.0.0.1:1/"}),
                                      "token_key_unknown"),
        "another key under a good name": (same_name.token(), "token_signature"),
        "payload swapped": (f"{head}.{b64(json.dumps(good.claims(sub='admin')).encode())}."
                            f"{signature}", "token_signature"),
        "signature cut": (with_signature(fine, lambda s: s[:-1]), "token_signature"),
        "signature flipped": (with_signature(fine, lambda s: s[:-1] + bytes([s[-1] ^ 1])),
                              "token_signature"),
        "signature zero": (with_signature(fine, lambda s: bytes(len(s))), "token_signature"),
    }  # fmt: skip


def _types(good: Issuer) -> Cases:
    now = int(time.time())
    return {
        "payload no JSON": (good.raw(_head(good), b"hello"), "token_claims"),
        "payload a list": (good.sign([1]), "token_claims"),
        "payload twice sub": (good.raw(_head(good), json.dumps(good.claims()).replace(
            "{", '{"sub": "admin", ', 1).encode()), "token_claims"),
        "payload NaN": (good.raw(_head(good), json.dumps(
            good.claims(exp=float("nan"))).encode()), "token_claims"),
        "no exp": (good.token(exp=...), "token_claims"),
        "no iat": (good.token(iat=...), "token_claims"),
        "no sub": (good.token(sub=...), "token_claims"),
        "no sid": (good.token(sid=...), "token_claims"),
        "no iss": (good.token(iss=...), "token_claims"),
        "exp true": (good.token(exp=True), "token_claims"),
        "exp a text": (good.token(exp=str(now + 60)), "token_claims"),
        "exp past all time": (good.token(exp=1e300), "token_claims"),
        "nbf null": (good.token(nbf=None), "token_claims"),
        "sub empty": (good.token(sub=""), "token_claims"),
        "sub a number": (good.token(sub=1), "token_claims"),
        "sub with NUL": (good.token(sub="user\0x"), "token_claims"),
        "sub half a character": (good.token(sub="user\ud800"), "token_claims"),
        "act a text": (good.token(act="admin"), "token_claims"),
        "act nobody": (good.token(act={}), "token_claims"),
    }  # fmt: skip


def _values(good: Issuer) -> Cases:
    now = int(time.time())
    return {
        "expired by 6 s": (good.token(exp=now - 6), "token_expired"),
        "expired long ago": (good.token(exp=1), "token_expired"),
        "not before an hour": (good.token(nbf=now + 3600), "token_not_yet_valid"),
        "issued tomorrow": (good.token(iat=now + 86400), "token_not_yet_valid"),
        "another issuer": (good.token(iss="https://evil.example.test"), "token_issuer"),
        "issuer with a slash": (good.token(iss=ISSUER + "/"), "token_issuer"),
        "another party": (good.token(azp="https://evil.example.test"), "token_party"),
        "party as a prefix": (good.token(azp=PARTY + ".evil.test"), "token_party"),
        "no party": (good.token(azp=...), "token_party"),
        "party a list": (good.token(azp=[PARTY]), "token_party"),
        "pending": (good.token(sts="pending"), "session_pending"),
    }  # fmt: skip


def _head(issuer: Issuer) -> bytes:
    return json.dumps({"alg": "RS256", "kid": issuer.kid, "typ": "JWT"}).encode()


def _respelled(token: str) -> str:
    """Change bits of the last letter that carry nothing: 256 bytes leave 2 of its 6 unused."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    last = alphabet.index(token[-1])
    return token[:-1] + alphabet[last ^ 1]
