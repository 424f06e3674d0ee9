"""Settings: the only reader of the environment. `docs/settings.md` lists each with its default."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, NoReturn, cast, get_args

import msgspec

from tagstitch.core.callback import CallbackEndpoint, is_strong_secret
from tagstitch.core.destination import Destination, complete_destination, conflicts
from tagstitch.core.identifier import IdentitySettings
from tagstitch.core.problems import Problems
from tagstitch.core.token_bucket import RateLimit, parse_rate

AuthMode = Literal["key", "signature", "iam", "none"]
BackendName = Literal["cloud", "local"]
ConsentDefault = Literal["granted", "denied"]
Scope = Literal["lookup", "decide", "stitch", "assert", "concealed", "explain"]

SCOPES: Final = frozenset(get_args(Scope))

AUDIT_PARAMETERS_DEFAULT: Final = ("value", "tax", "shipping", "currency")

_SECRET_CHARS_MIN: Final = 24
_WHSEC_FORM: Final = "whsec_ and the base64 of at least 24 random bytes"


class SettingsError(Exception):
    """The environment cannot be used as it is; the message says which variable and what to do."""


class Key(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One caller's key or signing secret, with what it may do."""

    id: str
    secret: str
    scopes: frozenset[Scope]
    views: frozenset[str] | None = None
    """The views it may ask for; None means all that are not limited."""
    rate: str | None = None
    """Its own limit in the form of `TAGSTITCH_RATE_LIMIT`; None means that one."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything an operator can set, typed and checked."""

    project: str
    backend: BackendName
    auth: AuthMode
    consent_default: ConsentDefault
    keys: tuple[Key, ...]
    signing_secrets: tuple[Key, ...]
    rate_limit: RateLimit | None
    """Of each key that has none of its own; None does not limit."""
    callbacks: tuple[CallbackEndpoint, ...]
    destinations: tuple[Destination, ...]
    """Complete: with everything that their presets say."""
    identity_key: bytes
    """HMAC key of the identifier keys; never rotated."""
    pseudonym_keys: tuple[tuple[str, bytes], ...]
    """(kid, HMAC key) of the audit's subjects; the first one is used, the others are old."""
    receipt_key: bytes
    """Master key for sealed payloads and receipts."""
    identity: IdentitySettings
    audit_parameters: tuple[str, ...]
    rules_refresh_s: float
    time_zone: str
    """IANA name of the project's time zone: that of traits which name none."""
    dataset: str
    data_dir: Path
    retry_scale: float
    """Factor on every backoff; below 1 for local work and tests only."""
    push_audience: str | None
    push_accounts: frozenset[str]
    push_origins: frozenset[str]
    """The pages that may listen to the push service, such as https://shop.example.com."""
    firestore_emulator: str | None
    pubsub_emulator: str | None
    bigquery_emulator: str | None
    bigquery_storage_emulator: str | None
    otlp_endpoint: str | None
    """Where spans go, if anywhere; the OpenTelemetry SDK reads it, and its other variables, too."""
    deployed_as: str | None
    """The platform's name of this service (`K_SERVICE`), None outside Cloud Run."""

    @property
    def uses_emulators(self) -> bool:
        """Whether the cloud backend talks to an emulator."""
        return any((self.firestore_emulator, self.pubsub_emulator, self.bigquery_emulator))

    @property
    def is_local(self) -> bool:
        """Whether this process is the local stack, on either of its backends."""
        return self.backend == "local" or self.uses_emulators


def read_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Return the settings of this process.

    A value that starts with `/` in a secret setting names a file, as a mounted secret. Raises
    SettingsError: a missing or weak secret stops the start, since no secret has a default.
    The local backend takes the secrets it lacks from its data folder (`local_secrets.py`).
    """
    reader = _Reader(os.environ if environment is None else environment)
    backend = cast(BackendName, reader.choice("TAGSTITCH_BACKEND", get_args(BackendName), "cloud"))
    emulators = any(
        reader.text(name)
        for name in ("FIRESTORE_EMULATOR_HOST", "PUBSUB_EMULATOR_HOST", "BIGQUERY_EMULATOR_HOST")
    )
    is_local = backend == "local" or emulators
    data_dir = Path(reader.text("TAGSTITCH_DATA_DIR") or ".tagstitch")
    if is_local:
        from tagstitch.adapters.local_secrets import read_local_secrets

        reader.fallback = read_local_secrets(data_dir)
    settings = Settings(
        project=reader.text("TAGSTITCH_PROJECT")
        or reader.text("GOOGLE_CLOUD_PROJECT")
        or ("local" if is_local else reader.missing("TAGSTITCH_PROJECT")),
        backend=backend,
        auth=cast(
            AuthMode,
            reader.choice("TAGSTITCH_AUTH", get_args(AuthMode), "none" if is_local else None),
        ),
        consent_default=cast(
            ConsentDefault,
            reader.choice(
                "TAGSTITCH_CONSENT_DEFAULT",
                get_args(ConsentDefault),
                "granted" if is_local else None,
            ),
        ),
        keys=reader.decoded("TAGSTITCH_KEYS", tuple[Key, ...]),
        signing_secrets=reader.decoded("TAGSTITCH_SIGNING_SECRETS", tuple[Key, ...]),
        rate_limit=reader.rate("TAGSTITCH_RATE_LIMIT"),
        callbacks=reader.decoded("TAGSTITCH_CALLBACKS", tuple[CallbackEndpoint, ...]),
        destinations=reader.destinations("TAGSTITCH_DESTINATIONS"),
        identity_key=reader.key("TAGSTITCH_IDENTITY_KEY"),
        pseudonym_keys=reader.pseudonym_keys("TAGSTITCH_PSEUDONYM_KEYS"),
        receipt_key=reader.key("TAGSTITCH_RECEIPT_KEY"),
        identity=reader.identity("TAGSTITCH_IDENTITY"),
        audit_parameters=_names(reader.text("TAGSTITCH_AUDIT_PARAMETERS")),
        rules_refresh_s=reader.number("TAGSTITCH_RULES_REFRESH_S", 10.0),
        time_zone=reader.time_zone("TAGSTITCH_TIME_ZONE"),
        dataset=reader.text("TAGSTITCH_DATASET") or "tagstitch",
        data_dir=data_dir,
        retry_scale=reader.number("TAGSTITCH_RETRY_SCALE", 1.0),
        push_audience=reader.text("TAGSTITCH_PUSH_AUDIENCE"),
        push_accounts=frozenset(_names(reader.text("TAGSTITCH_PUSH_ACCOUNTS"), default=())),
        push_origins=frozenset(_names(reader.text("TAGSTITCH_PUSH_ORIGINS"), default=())),
        firestore_emulator=reader.text("FIRESTORE_EMULATOR_HOST"),
        pubsub_emulator=reader.text("PUBSUB_EMULATOR_HOST"),
        bigquery_emulator=reader.text("BIGQUERY_EMULATOR_HOST"),
        bigquery_storage_emulator=reader.text("BIGQUERY_STORAGE_EMULATOR_HOST"),
        otlp_endpoint=reader.text("OTEL_EXPORTER_OTLP_ENDPOINT"),
        deployed_as=reader.text("K_SERVICE"),
    )
    _refuse_unsafe(settings)
    return settings


def read_identity_settings(environment: Mapping[str, str] | None = None) -> IdentitySettings:
    """Return what the project declares about its identifiers, for what needs no other setting."""
    reader = _Reader(os.environ if environment is None else environment)
    return reader.identity("TAGSTITCH_IDENTITY")


def environment_with(
    *, defaults: Mapping[str, str] | None = None, overrides: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return this process's environment, for `read_settings` or for a process that we start."""
    return {**(defaults or {}), **os.environ, **(overrides or {})}


@contextlib.contextmanager
def exported_settings(
    values: Mapping[str, str], *, defaults: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Set variables of this process, so that code which it loads later reads them.

    For the local stack, which loads the functions as they are. `defaults` stand only where the
    variable has no value. What was there comes back at the end.
    """
    before = dict(os.environ)
    missing = {n: value for n, value in (defaults or {}).items() if not before.get(n)}
    changed = {**missing, **values}
    os.environ.update(changed)
    try:
        yield
    finally:
        for name in changed:
            del os.environ[name]
            if name in before:
                os.environ[name] = before[name]


class _Reader:
    """Reads one variable at a time and says its name when the value cannot be used."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self.fallback: Mapping[str, str] = {}

    def text(self, name: str) -> str | None:
        value = (self._environment.get(name) or self.fallback.get(name) or "").strip()
        return value or None

    def missing(self, name: str) -> NoReturn:
        raise SettingsError(f"{name} is not set; docs/settings.md says what it needs")

    def choice(self, name: str, allowed: tuple[str, ...], default: str | None) -> str:
        value = self.text(name) or default
        if value is None:
            return self.missing(name)
        if value not in allowed:
            raise SettingsError(f"{name} must be one of {', '.join(allowed)}")
        return value

    def number(self, name: str, default: float) -> float:
        text = self.text(name)
        try:
            value = default if text is None else float(text)
        except ValueError:
            value = -1.0
        if not 0 < value < 1e9:
            raise SettingsError(f"{name} must be a number above 0")
        return value

    def rate(self, name: str) -> RateLimit | None:
        try:
            return parse_rate(self.text(name) or "off")
        except ValueError as error:
            raise SettingsError(f"{name} must be {error}") from None

    def time_zone(self, name: str) -> str:
        value = self.text(name) or "UTC"
        if value == "UTC":
            return value
        from tagstitch.core.problems import Problems
        from tagstitch.core.time_zone import parse_time_zone

        problems = Problems()
        parse_time_zone(value, name, problems)
        for problem in problems.found:
            raise SettingsError(f"{name}: {problem.message}; {problem.hint}")
        return value

    def secret(self, name: str) -> str | None:
        value = self.text(name)
        if value is None or not value.startswith("/"):
            return value
        try:
            return Path(value).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise SettingsError(f"{name} names a file that cannot be read") from error

    def key(self, name: str) -> bytes:
        value = self.secret(name) or self.missing(name)
        if len(value) < _SECRET_CHARS_MIN:
            raise SettingsError(f"{name} must have at least {_SECRET_CHARS_MIN} characters")
        return value.encode()

    def pseudonym_keys(self, name: str) -> tuple[tuple[str, bytes], ...]:
        """Read `kid:secret`, several separated by spaces, the current one first."""
        pairs = []
        for part in (self.secret(name) or self.missing(name)).split():
            kid, colon, secret = part.partition(":")
            if not (kid and colon) or len(secret) < _SECRET_CHARS_MIN:
                raise SettingsError(
                    f"{name} must be kid:secret with a secret of at least "
                    f"{_SECRET_CHARS_MIN} characters"
                )
            pairs.append((kid, secret.encode()))
        return tuple(pairs)

    def destinations(self, name: str) -> tuple[Destination, ...]:
        """Read and complete the destinations; the first thing that is wrong stops the start."""
        completed = []
        for written in self.decoded(name, tuple[Destination, ...]):
            problems = Problems()
            completed.append(complete_destination(written, problems))
            for problem in problems.found:
                raise SettingsError(f"{name}, destination {written.id!r}: {problem}")
        problems = Problems()
        conflicts(completed, problems)
        for problem in problems.found:
            raise SettingsError(f"{name}, destination {problem}")
        return tuple(completed)

    def identity(self, name: str) -> IdentitySettings:
        """Read a JSON object; the defaults when the variable is not set."""
        text = self.secret(name)
        if text is None:
            return IdentitySettings()
        from tagstitch.core.identity_settings import parse_identity_settings  # RE2 takes a while
        from tagstitch.core.problems import Problems

        try:
            raw = msgspec.json.decode(text, type=dict[str, Any])
        except msgspec.MsgspecError:
            raise SettingsError(f"{name} must be a JSON object") from None
        problems = Problems()
        settings = parse_identity_settings(raw, problems)
        if problems.found:
            raise SettingsError(f"{name}: " + "; ".join(map(str, problems.found)))
        return settings

    def decoded(self, name: str, type_: Any) -> Any:
        """Read a JSON list; empty when the variable is not set."""
        text = self.secret(name)
        if text is None:
            return ()
        try:
            return msgspec.json.decode(text, type=type_)
        except msgspec.ValidationError as error:
            raise SettingsError(f"{name}: {error}") from None
        except msgspec.DecodeError:
            raise SettingsError(f"{name} must be a JSON list") from None


def _names(
    text: str | None, default: tuple[str, ...] = AUDIT_PARAMETERS_DEFAULT
) -> tuple[str, ...]:
    if text is None:
        return default
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _refuse_unsafe(settings: Settings) -> None:
    """Raise SettingsError for what would open a deployed function to everybody."""
    if settings.deployed_as and settings.is_local:
        raise SettingsError(
            "the local backend and the emulators are for one machine: remove TAGSTITCH_BACKEND=local"
            " and the *_EMULATOR_HOST variables from the deployed function"
        )
    if settings.retry_scale != 1.0 and not settings.is_local:
        raise SettingsError("TAGSTITCH_RETRY_SCALE is for the local stack and tests only")
    _refuse_unsafe_auth(settings)
    _refuse_unusable_rates(settings.keys)
    _refuse_unusable_rates(settings.signing_secrets)
    _refuse_unsafe_callbacks(settings)


def _refuse_unsafe_auth(settings: Settings) -> None:
    if settings.auth == "none" and not settings.is_local:
        raise SettingsError("TAGSTITCH_AUTH=none is accepted by the local stack only")
    if settings.auth == "key" and not settings.keys:
        raise SettingsError("TAGSTITCH_AUTH=key needs TAGSTITCH_KEYS")
    if settings.auth == "signature" and not settings.signing_secrets:
        raise SettingsError("TAGSTITCH_AUTH=signature needs TAGSTITCH_SIGNING_SECRETS")
    for key in settings.signing_secrets:
        if not key.secret.split() or not all(map(is_strong_secret, key.secret.split())):
            raise SettingsError(f"the signing secret {key.id!r} must be {_WHSEC_FORM}")
    for key in settings.keys:
        if len(key.secret) < _SECRET_CHARS_MIN:
            raise SettingsError(
                f"the secret of the key {key.id!r} must have at least {_SECRET_CHARS_MIN} characters"
            )


def _refuse_unusable_rates(keys: tuple[Key, ...]) -> None:
    """Raise SettingsError for a rate of another form, and for two rates of one caller."""
    rates: dict[str, str | None] = {}
    for key in keys:
        try:
            parse_rate(key.rate or "off")
        except ValueError as error:
            raise SettingsError(f"the rate of the key {key.id!r} must be {error}") from None
        if rates.setdefault(key.id, key.rate) != key.rate:
            raise SettingsError(f"the keys with the id {key.id!r} must have the same rate")


def _refuse_unsafe_callbacks(settings: Settings) -> None:
    for destination in settings.destinations:
        if destination.allow_private and not settings.is_local:
            raise SettingsError(
                f"allow_private of destination {destination.id!r} is for local use only"
            )
    for endpoint in settings.callbacks:
        if not endpoint.secret.split() or not all(map(is_strong_secret, endpoint.secret.split())):
            raise SettingsError(f"the secret of callback {endpoint.id!r} must be {_WHSEC_FORM}")
        if endpoint.allow_private and not settings.is_local:
            raise SettingsError(f"allow_private of callback {endpoint.id!r} is for local use only")
        if not endpoint.url.startswith("https://") and not endpoint.allow_private:
            raise SettingsError(f"the URL of callback {endpoint.id!r} must start with https://")
