"""Settings: every variable is read, checked, listed and documented; production is strict."""

from __future__ import annotations

import dataclasses
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from holdfast import config
from holdfast.config import Settings
from holdfast.errors import HomeUnusable, ProductionRefused, SettingInvalid

ROOT = Path(__file__).parents[1]
PEM = "-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----\n"

# the outer contract: programs outside set these, with these defaults
PROMISED = {
    "HOLDFAST_JOB_LEASE_SECONDS": 30,
    "HOLDFAST_ORDER_LEASE_SECONDS": 900,
    "HOLDFAST_SWEEP_SECONDS": 5,
    "HOLDFAST_ORDER_WIP_LIMIT": 10,
    "HOLDFAST_BODY_BYTES_MAX": 1024 * 1024,
    "HOLDFAST_RATE_LIMIT": None,
    "HOLDFAST_WELCOME_BONUS": 100,
    "HOLDFAST_STORY_PRICE": 50,
    "HOLDFAST_WEBHOOK_ALLOW_PRIVATE": False,
    "HOLDFAST_JOB_ATTEMPTS": 3,
    "HOLDFAST_JOB_BACKOFF_SECONDS": 1,
    "HOLDFAST_JOB_DEADLINE_SECONDS": 3600,
    "HOLDFAST_HOLD_TTL_SECONDS_MAX": 86400,
    "HOLDFAST_ORDER_SLA_SECONDS": 3600,
    "HOLDFAST_REFUND_GRACE_HOURS": 72,
    "HOLDFAST_IDEMPOTENCY_HOURS": 24,
    "HOLDFAST_OWNER_URL": None,
    "HOLDFAST_LISTEN_URL": None,
    "HOLDFAST_DATABASE_URL": None,
    "HOLDFAST_ENV": "dev",
    "HOLDFAST_STORY_PROVIDER": "offline",
    "ANTHROPIC_API_KEY": None,
    "ANTHROPIC_BASE_URL": None,
    "HOLDFAST_CLERK_JWKS_URL": None,
    "HOLDFAST_CLERK_PEM": None,
    "HOLDFAST_CLERK_ISSUER": None,
    "HOLDFAST_CLERK_PARTIES": (),
    "HOLDFAST_DEVICE_AUTH": "secret",
}


def fields_by_variable() -> dict[str, str]:
    names = [f.name for f in dataclasses.fields(Settings) if f.name != "explicit"]
    return {config.variable(name): name for name in names}


@pytest.mark.parametrize("variable", PROMISED)
def test_the_promised_variables_have_the_promised_defaults(variable):
    settings = Settings.read({"HOME": "/home/ada"})
    assert getattr(settings, fields_by_variable()[variable]) == PROMISED[variable]


def test_what_is_given_is_explicit_and_the_rest_is_not():
    settings = Settings.read({"HOLDFAST_WELCOME_BONUS": " 0 ", "HOLDFAST_STORY_PRICE": ""})
    assert settings.welcome_bonus == 0
    assert settings.explicit == {"welcome_bonus": "0"}
    assert settings.stored(explicit_only=True) == {"welcome_bonus": "0"}
    assert settings.stored()["story_price"] == "50"
    assert "host" not in settings.stored()


@pytest.mark.parametrize(
    ("variable", "given", "value"),
    [
        ("HOLDFAST_JOB_LEASE_SECONDS", "0.5", 0.5),
        ("HOLDFAST_JOB_BACKOFF_SECONDS", "0", 0.0),
        ("HOLDFAST_RATE_LIMIT", "off", "off"),
        ("HOLDFAST_RATE_LIMIT", "90", 90),
        ("HOLDFAST_WEBHOOK_ALLOW_PRIVATE", "ON", True),
        ("HOLDFAST_CLERK_PARTIES", "https://a.example, http://b.example:3000",
         ("https://a.example", "http://b.example:3000")),
        ("HOLDFAST_CLERK_JWKS_URL", "http://127.0.0.1:9/jwks", "http://127.0.0.1:9/jwks"),
        ("HOLDFAST_CLERK_JWKS_URL", "http://[::1]:9/jwks", "http://[::1]:9/jwks"),
        ("HOLDFAST_CLERK_PEM", PEM.replace("\n", "\\n"), PEM),
        ("HOLDFAST_DATABASE_URL", "embedded", "embedded"),
        ("HOLDFAST_DATABASE_URL", "postgresql:///db?host=/run/pg", "postgresql:///db?host=/run/pg"),
        ("HOLDFAST_HOME", "/a b/c", Path("/a b/c")),
    ],
)  # fmt: skip
def test_good_values_are_read(variable, given, value):
    settings = Settings.read({variable: given})
    assert getattr(settings, fields_by_variable()[variable]) == value


@pytest.mark.parametrize(
    ("variable", "given"),
    [
        ("HOLDFAST_JOB_LEASE_SECONDS", "0"),
        ("HOLDFAST_JOB_LEASE_SECONDS", "-1"),
        ("HOLDFAST_JOB_LEASE_SECONDS", "1e3"),
        ("HOLDFAST_JOB_LEASE_SECONDS", "nan"),
        ("HOLDFAST_JOB_ATTEMPTS", "1.5"),
        ("HOLDFAST_JOB_ATTEMPTS", "٣"),
        ("HOLDFAST_JOB_ATTEMPTS", "99999999999999999999"),
        ("HOLDFAST_PORT", "65536"),
        ("HOLDFAST_ENV", "prod"),
        ("HOLDFAST_RATE_LIMIT", "0"),
        ("HOLDFAST_WEBHOOK_ALLOW_PRIVATE", "maybe"),
        ("HOLDFAST_CLERK_JWKS_URL", "http://clerk.example/jwks"),
        ("HOLDFAST_CLERK_JWKS_URL", "http://127.0.0.1.evil.example/jwks"),
        ("HOLDFAST_CLERK_PEM", "/no/such/file.pem"),
        ("HOLDFAST_CLERK_PARTIES", " , "),
        ("HOLDFAST_DATABASE_URL", "mysql://localhost/db"),
        ("HOLDFAST_SECRET", "short"),
    ],
)
def test_a_bad_value_is_one_sentence_with_name_value_and_range(variable, given):
    with pytest.raises(SettingInvalid) as caught:
        Settings.read({variable: given})
    sentence = caught.value.detail()
    assert variable in sentence
    assert "must be" in sentence
    secret = variable in ("HOLDFAST_SECRET", "HOLDFAST_DATABASE_URL")
    assert (given.strip() in sentence) is not secret
    assert "\n" not in sentence


def test_a_pem_may_be_a_path(tmp_path):
    (tmp_path / "clerk.pem").write_text(PEM)
    assert Settings.read({"HOLDFAST_CLERK_PEM": str(tmp_path / "clerk.pem")}).clerk_pem == PEM


def test_the_anthropic_provider_needs_its_key():
    with pytest.raises(SettingInvalid, match="ANTHROPIC_API_KEY"):
        Settings.read({"HOLDFAST_STORY_PROVIDER": "anthropic"})
    told = Settings.read({"HOLDFAST_STORY_PROVIDER": "anthropic", "ANTHROPIC_API_KEY": "k"})
    assert told.story_provider == "anthropic"


def test_home_follows_the_users_data_folder(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    assert Settings.read({"HOME": "/h"}).home == Path("/h/.local/share/holdfast")
    assert Settings.read({"HOME": "/h", "XDG_DATA_HOME": "/x"}).home == Path("/x/holdfast")
    assert Settings.read({"HOME": "/h", "XDG_DATA_HOME": "x"}).home.is_relative_to("/h")
    monkeypatch.setattr(sys, "platform", "darwin")
    home = Settings.read({"HOME": "/h"}).home
    assert home == Path("/h/Library/Application Support/holdfast")


def test_settings_cannot_be_changed_and_can_be_handed_to_processes():
    settings = Settings.read({"HOLDFAST_PORT": "1"})
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.port = 2  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(settings)) == settings


def test_the_listing_is_whole_and_masks_every_secret():
    secrets = {
        "HOLDFAST_SECRET": "s" * 40,
        "ANTHROPIC_API_KEY": "sk-ant-very-secret",
        "HOLDFAST_CLERK_WEBHOOK_SECRET": "whsec_abcdefgh",
        "HOLDFAST_DATABASE_URL": "postgresql://ada:p@ss:w0rd@db.example/h?sslpassword=zz",
        "HOLDFAST_OWNER_URL": "postgresql://own@db.example/h?password=hush",
    }
    lines = config.listing(Settings.read(secrets))
    assert {line.name for line in lines} == set(fields_by_variable())
    shown = "\n".join(line.value for line in lines)
    assert not any(s in shown for s in ("ssss", "sk-ant", "whsec_", "w0rd", "p@ss", "hush", "zz"))
    by_name = {line.name: line for line in lines}
    assert by_name["HOLDFAST_DATABASE_URL"].value.startswith("postgresql://ada:***@db.example/h")
    assert by_name["HOLDFAST_SECRET"].source == "environment"
    assert by_name["HOLDFAST_PORT"].source == "default"
    assert all(line.doc.endswith(".") and line.allowed for line in lines)


def test_a_misspelt_variable_is_noticed_with_the_nearest_name():
    strangers = config.unknown(
        {"HOLDFAST_JOB_LEASE_SECOND": "1", "HOLDFAST_TEST_X": "", "PATH": ""}
    )
    assert strangers == {"HOLDFAST_JOB_LEASE_SECOND": "HOLDFAST_JOB_LEASE_SECONDS"}


def test_the_page_of_settings_is_what_the_command_writes():
    written = subprocess.run(
        [sys.executable, "-m", "holdfast.config"], capture_output=True, text=True, check=True
    )
    assert (ROOT / "docs/settings.md").read_text() == written.stdout, "run `make docs`"


def fit_for_production(tmp_path: Path) -> dict[str, str]:
    return {
        "HOLDFAST_ENV": "production",
        "HOLDFAST_HOME": str(tmp_path),
        "HOLDFAST_CLERK_PARTIES": "https://app.example",
        "HOLDFAST_CLERK_PEM": PEM,
        "HOLDFAST_STORY_PROVIDER": "offline",
    }


def test_production_accepts_what_was_chosen_and_says_so(tmp_path):
    settings = Settings.read(fit_for_production(tmp_path))
    assert config.production_problems(settings) == []
    warnings = " ".join(config.production_warnings(settings))
    assert "embedded" in warnings
    assert "offline" in warnings
    assert settings.requests_per_minute == 600


@pytest.mark.parametrize(
    ("missing", "word"),
    [
        ("HOLDFAST_CLERK_PARTIES", "PARTIES"),
        ("HOLDFAST_STORY_PROVIDER", "PROVIDER"),
        ("HOLDFAST_HOME", "database"),
    ],
)
def test_production_refuses_what_was_not_chosen(tmp_path, missing, word):
    given = fit_for_production(tmp_path)
    del given[missing]
    with pytest.raises(ProductionRefused, match=word):
        config.refuse_unfit_production(Settings.read(given))


def test_production_refuses_the_development_key_and_a_shifted_clock(tmp_path):
    settings = Settings.read(fit_for_production(tmp_path))
    with pytest.raises(ProductionRefused, match="clock"):
        config.refuse_unfit_production(settings, clock_shift_seconds=3)
    config.development_key(settings).with_suffix(".pub").write_text(PEM)
    with pytest.raises(ProductionRefused, match="development key"):
        config.refuse_unfit_production(settings)


def test_development_refuses_nothing():
    settings = Settings.read({})
    config.refuse_unfit_production(settings, clock_shift_seconds=3)
    assert config.production_warnings(settings) == []
    assert settings.requests_per_minute is None


def test_processes_that_start_together_share_one_secret(tmp_path):
    settings = Settings.read({"HOLDFAST_HOME": str(tmp_path / "new home")})
    with ThreadPoolExecutor(16) as many:
        found = set(many.map(lambda _: config.signing_secret(settings), range(64)))
    assert len(found) == 1
    assert len(found.pop()) >= 32
    assert [path.name for path in settings.home.iterdir()] == ["secret"]
    assert (settings.home / "secret").stat().st_mode & 0o777 == 0o600
    given = Settings.read({"HOLDFAST_SECRET": "x" * 32})
    assert config.signing_secret(given) == b"x" * 32


def test_a_home_that_is_a_file_is_told_plainly(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(HomeUnusable, match="cannot be created or written"):
        config.signing_secret(Settings.read({"HOLDFAST_HOME": str(tmp_path / "file")}))
