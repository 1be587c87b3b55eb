"""Local work without Clerk: a key pair of this machine, and real tokens signed with it.

Nothing else differs: the tokens are RS256 session tokens and take the same way through the
verifier. Production never trusts this key.
"""

import os
import secrets
import time
from pathlib import Path

import jwt
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from holdfast.config import Settings
from holdfast.config.production import development_key
from holdfast.errors import HomeUnusable, ProductionRefused
from holdfast.systems.accounts.keys import FixedKey, KeySet
from holdfast.systems.accounts.tokens import Trust, Verifier

ISSUER = "https://development.holdfast.invalid"
TOKEN_SECONDS = 12 * 3600


def mint(settings: Settings, name: str) -> str:
    """Return a session token for the persona `name`, good for 12 hours on this machine's server.

    Makes no account: whoever sends it does. Raises ProductionRefused, HomeUnusable.
    """
    if settings.production:
        raise ProductionRefused(reason="tokens of the development key are for HOLDFAST_ENV=dev")
    key = _private_key(settings)
    now = int(time.time())
    claims = {
        "iss": ISSUER,
        "sub": name,
        "sid": f"dev_{secrets.token_hex(8)}",
        "iat": now,
        "nbf": now,
        "exp": now + TOKEN_SECONDS,
    }
    return jwt.encode(claims, key, algorithm="RS256", headers={"kid": _kid(key.public_key())})


def verifier(settings: Settings) -> Verifier:
    """Return the verifier of this installation: Clerk as configured, and in dev the local key.

    Raises SettingInvalid for a PEM that is no RSA key, HomeUnusable.
    """
    trusts: list[Trust] = []
    if not settings.production:
        key = _private_key(settings).public_key()
        trusts.append(Trust("dev", FixedKey(key, _kid(key)), issuer=ISSUER))
    if settings.clerk_pem or settings.clerk_jwks_url:
        trusts.append(
            Trust(
                "clerk",
                FixedKey.from_pem(settings.clerk_pem)
                if settings.clerk_pem
                else KeySet(settings.clerk_jwks_url or ""),
                issuer=settings.clerk_issuer,
                parties=frozenset(settings.clerk_parties),
                audience=settings.clerk_audience,
            )
        )
    return Verifier(trusts)


def _kid(key: rsa.RSAPublicKey) -> str:
    """Name a key by what it is, so that two machines' keys never share a name."""
    digest = hashes.Hash(hashes.SHA256())
    digest.update(
        key.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    return f"dev_{digest.finalize().hex()[:32]}"


def _private_key(settings: Settings) -> rsa.RSAPrivateKey:
    """Return the key of this machine, made at the first call. Raises HomeUnusable.

    Processes that start together agree: a file appears whole, and the first one wins.
    """
    path = development_key(settings)
    try:
        settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            _write_once(path, 0o600, _new_key())
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        if not isinstance(key, rsa.RSAPrivateKey):
            raise ValueError("not an RSA key")
        public = path.with_suffix(".pub")
        if not public.exists():
            _write_once(
                public,
                0o644,
                key.public_key().public_bytes(
                    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
                ),
            )
    except (OSError, ValueError) as problem:
        raise HomeUnusable(path=str(path)) from problem
    return key


def _new_key() -> bytes:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _write_once(path: Path, mode: int, data: bytes) -> None:
    draft = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(draft, path)
    except FileExistsError:
        pass  # another process was first
    finally:
        draft.unlink()
