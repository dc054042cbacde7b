"""One OAuth 2 client for every provider (RFC 6749, RFC 7636, RFC 8628, RFC 7523, RFC 8252).

What differs between providers is data: `OAuthEndpoints`. Users have their own client ID, registered with the
provider; no ID is ever borrowed. Requests go only to the endpoints, follow no redirects, and verify
certificates by the rules of the SMTP connection.
"""

from __future__ import annotations

import secrets
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import parse_qsl, urlsplit

from msgspec import Struct

from mailmerge.errors import AuthError, CampaignFileError, ConnectionLost
from mailmerge.masking import MASK, Secret
from mailmerge.smtp.connect import tls_context
from mailmerge.smtp.endpoint import Endpoint
from mailmerge.suggest import login_command
from mailmerge.text import quoted

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from mailmerge.config.accounts import Account

SECONDS: Final = 30.0
"""Seconds for an answer of an endpoint."""
_DEVICE_GRANT: Final = "urn:ietf:params:oauth:grant-type:device_code"
_JWT_GRANT: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_DEFAULT_INTERVAL = 5
"""Seconds between two checks whether the code was entered (RFC 8628 section 3.2)."""
_LIFETIME = 3600
"""Seconds that a token is assumed to be valid if the provider does not specify it."""
INSTALL: Final = 'pip install "mailmerge-kit[oauth]"'


class Tokens(Struct, frozen=True):
    """The tokens from a token endpoint."""

    access: str
    expires_at: float
    """In seconds since the epoch."""
    refresh: str = ""
    """Empty: none, or the one that was used remains valid."""

    def __repr__(self) -> str:
        return "Tokens()"


class Endpoints(Struct, frozen=True):
    """Where one account's tokens come from."""

    title: str
    """The provider's name in messages."""
    authorize: str
    token: str
    device: str
    """Empty: the provider has no codes for other devices."""
    scopes: tuple[str, ...]
    extra: Mapping[str, str]
    """Further parameters of the authorization address."""
    ca_file: Path | None


class DeviceCode(Struct, frozen=True):
    """A code that a person enters on another device (RFC 8628 section 3.2)."""

    code: str
    """What the client sends to the token endpoint."""
    shown: str
    """What the person types."""
    address: str
    """Where."""
    interval: float
    """Seconds between two questions."""
    until: float
    """In seconds since the epoch."""

    def __repr__(self) -> str:
        return f"DeviceCode(address={self.address!r})"


Pending = Literal["pending", "slow_down"]


class OAuthClient:
    """Sends requests to the endpoints of one account.

    Args:
        endpoints: where requests go.
        client_id: the application's id, registered by the user.
        client_secret: the secret that was registered with it; empty: none.
        account: its name, for commands in hints.

    Raises:
        CampaignFileError: the optional packages are not installed.

    """

    def __init__(self, endpoints: Endpoints, client_id: str, client_secret: str, *, account: str) -> None:
        self.endpoints = endpoints
        self._account = account
        self._client_id = client_id
        self._secret = client_secret
        self._refresh = ""
        self._scope = " ".join(endpoints.scopes)

    # --- with a person --------------------------------------------------------------------------------

    def authorization(self, redirect_uri: str, user: str) -> tuple[str, str, str]:
        """Return the address for a person's consent, the state it comes back with, and the code verifier."""
        verifier = secrets.token_urlsafe(64)
        with self._session(redirect_uri=redirect_uri) as session:
            address, state = session.create_authorization_url(
                self.endpoints.authorize, code_verifier=verifier, login_hint=user, **self.endpoints.extra
            )
        return str(address), str(state), verifier

    def exchange(self, answer: str, redirect_uri: str, state: str, verifier: str) -> Tokens:
        """Exchange the address that the browser was sent to for tokens.

        Raises:
            AuthError: the person declined, the address is another one's, or the provider refuses.
            ConnectionLost: the endpoint does not answer.

        """
        told = dict(parse_qsl(urlsplit(answer).query))
        if not secrets.compare_digest(told.get("state", "").encode(), state.encode()):
            raise self._refused("mismatching_state", "")
        if "error" in told:
            raise self._refused(told["error"], told.get("error_description", ""))
        with self._session(redirect_uri=redirect_uri) as session:
            return self._tokens(
                session.fetch_token(
                    self.endpoints.token,
                    authorization_response=answer,
                    state=state,
                    code_verifier=verifier,
                    **_CALL,
                )
            )

    def begin_device(self) -> DeviceCode:
        """Request a code that a person enters on another device.

        Raises:
            AuthError: the provider refuses.
            ConnectionLost: the endpoint does not answer.

        """
        told = self._ask(self.endpoints.device, {"client_id": self._client_id, "scope": self._scope})
        address = told.get("verification_uri") or told.get("verification_url")  # Google's name for it
        code, shown = told.get("device_code"), told.get("user_code")
        if not (isinstance(address, str) and isinstance(code, str) and isinstance(shown, str)):
            raise self._odd("no code")
        lifetime = _number(told.get("expires_in"), 900)
        interval = max(1.0, _number(told.get("interval"), _DEFAULT_INTERVAL))
        return DeviceCode(code, shown, address, interval, time.time() + lifetime)

    def ask_device(self, device: DeviceCode) -> Tokens | Pending:
        """Check once whether the code was entered; None: not yet.

        Raises:
            AuthError: the person declined, or the code expired.
            ConnectionLost: the endpoint does not answer.

        """
        with self._session() as session:
            from authlib.integrations.base_client import OAuthError

            try:
                found = session.fetch_token(
                    self.endpoints.token, grant_type=_DEVICE_GRANT, device_code=device.code, **_CALL
                )
            except OAuthError as error:
                if error.error == "authorization_pending":
                    return "pending"
                if error.error == "slow_down":
                    return "slow_down"
                raise
            return self._tokens(found)

    # --- without one ----------------------------------------------------------------------------------

    def refresh(self, refresh_token: str) -> Tokens:
        """Get a new access token.

        Raises:
            AuthError: the provider refuses: the sign-in was revoked or has expired.
            ConnectionLost: the endpoint does not answer.

        """
        self._refresh = refresh_token
        with self._session() as session:
            return self._tokens(
                session.refresh_token(self.endpoints.token, refresh_token=refresh_token, **_CALL)
            )

    def as_application(self) -> Tokens:
        """Get a token for the application itself (client credentials, RFC 6749 section 4.4).

        Raises:
            AuthError: the provider refuses.
            ConnectionLost: the endpoint does not answer.

        """
        with self._session() as session:
            return self._tokens(
                session.fetch_token(self.endpoints.token, grant_type="client_credentials", **_CALL)
            )

    def without_person(self, account: Account) -> Tokens | None:
        """Get a token without a person; None: the account cannot, so a person has to agree.

        Raises:
            AuthError: the provider refuses, or the key cannot be used.
            ConnectionLost: the endpoint does not answer.

        """
        if account.service_account is not None:
            return self.as_service_account(ServiceAccount.read(account.service_account), account.user or "")
        return self.as_application() if account.grant == "application" else None

    def as_service_account(self, key: ServiceAccount, user: str) -> Tokens:
        """Get a token for *user* with the key of a service account (RFC 7523).

        Raises:
            AuthError: the provider refuses, or the key cannot be used.
            ConnectionLost: the endpoint does not answer.

        """
        now = int(time.time())
        claims = {
            "iss": key.client_email,
            "sub": user,
            "scope": self._scope,
            "aud": self.endpoints.token,
            "iat": now,
            "exp": now + _LIFETIME,
        }
        with self._session() as session:
            assertion = key.sign(claims)
            return self._tokens(
                session.fetch_token(self.endpoints.token, grant_type=_JWT_GRANT, assertion=assertion, **_CALL)
            )

    # --- calls ----------------------------------------------------------------------------------------

    @contextmanager
    def _session(self, **more: Any) -> Iterator[Any]:
        """Open a session whose errors have clear messages."""
        session_class, adapter_class = _classes()
        from authlib.integrations.base_client import OAuthError
        from requests.exceptions import HTTPError, InvalidJSONError, RequestException

        session = session_class(
            self._client_id,
            self._secret or None,
            scope=self._scope,
            code_challenge_method="S256",
            token_endpoint_auth_method="client_secret_post" if self._secret else "none",
            **more,
        )
        session.mount("https://", adapter_class(_rules(self.endpoints)))
        try:
            yield session
        except OAuthError as error:
            raise self._refused(str(error.error or ""), str(error.description or "")) from None
        except (HTTPError, InvalidJSONError) as error:
            status = 0 if error.response is None else error.response.status_code
            if status >= 500 or status == 429:
                raise self._not_now(f"HTTP {status}") from None
            raise self._odd("something that is not an OAuth 2 response") from None
        except RequestException as error:
            raise _no_answer(self.endpoints, error) from None
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise self._odd("something that is not an OAuth 2 response") from None
        finally:
            session.close()

    def _ask(self, address: str, fields: Mapping[str, str]) -> Mapping[str, object]:
        with self._session() as session:
            secret = {"client_secret": self._secret} if self._secret else {}
            answer = session.post(
                address,
                data={**fields, **secret},
                headers={"Accept": "application/json"},
                withhold_token=True,
                **_CALL,
            )
            if answer.status_code >= 500:
                answer.raise_for_status()
            told = answer.json()
            if not isinstance(told, dict):
                raise TypeError
            if "error" in told:
                raise self._refused(str(told["error"]), str(told.get("error_description", "")))
        return told

    def _tokens(self, found: Mapping[str, object]) -> Tokens:
        access, refresh = found["access_token"], found.get("refresh_token") or ""
        if not isinstance(access, str) or not isinstance(refresh, str):
            raise TypeError
        lasts = _number(found.get("expires_in"), _LIFETIME)
        for text, what in ((access, "access token"), (refresh, "refresh token")):
            if text:
                Secret(text, origin=f"{self.endpoints.title} ({what})")  # refuses line breaks
        return Tokens(access, time.time() + lasts, refresh)

    def _refused(self, error: str, description: str) -> AuthError | ConnectionLost:
        if error in {"temporarily_unavailable", "server_error"}:  # RFC 6749 section 4.1.2.1
            return self._not_now(error)
        title = self.endpoints.title
        told = f"{error}: {description}" if description else error
        for secret in (self._secret, self._refresh):  # some quote the request
            told = told.replace(secret, MASK) if secret else told
        what, hint = _REFUSALS.get(
            error, ("refuses", "Check `client_id`, `tenant` and `scopes` of the account.")
        )
        hint = hint.format(login=login_command(self._account))
        code = "S662" if error == "invalid_grant" else "S663"
        return AuthError(f"{title} {what} ({told[:500]})", code=code, hint=hint)

    def _not_now(self, why: str) -> ConnectionLost:
        host = urlsplit(self.endpoints.token).hostname
        return ConnectionLost(
            f"{host} cannot issue a token now ({why})",
            code="S664",
            hint="The server has a problem of its own: try again later.",
        )

    def _odd(self, what: str) -> AuthError:
        host = urlsplit(self.endpoints.token).hostname
        return AuthError(
            f"{host} answered with {what}",
            code="S663",
            hint="Check the addresses of the account (`issuer`) and whether a proxy is in between.",
        )


_CALL: Final[Mapping[str, Any]] = {"timeout": SECONDS, "allow_redirects": False}

_REFUSALS: Final[Mapping[str, tuple[str, str]]] = {
    "invalid_grant": (
        "does not renew the sign-in any more: it was revoked or has expired, or the password was changed",
        "Sign in again: {login}",
    ),
    "access_denied": ("says that the sign-in was declined", "Sign in again, and agree: {login}"),
    "expired_token": ("says that the code was not entered in time", "Start again: {login}"),
    "invalid_client": (
        "does not know the application",
        "Check `client_id` and the application's secret, which may have expired: {login} asks for it.",
    ),
    "unauthorized_client": (
        "does not allow the application to sign in this way",
        "Its registration must allow public clients, or this kind of sign-in; see docs/sign-in.md.",
    ),
    "invalid_scope": (
        "does not allow the application to send mail",
        "Add the permission to the registration of the application; see docs/sign-in.md.",
    ),
    "consent_required": ("requires the person's consent", "Sign in again: {login}"),
    "interaction_required": ("requires the person to sign in again", "Sign in again: {login}"),
    "mismatching_state": (
        "has answered an earlier request",
        "Paste the address of the latest attempt, or start again: {login}",
    ),
}


def _no_answer(endpoints: Endpoints, error: Exception) -> ConnectionLost | AuthError:
    from requests.exceptions import SSLError

    host = urlsplit(endpoints.token).hostname
    if isinstance(error, SSLError):
        return AuthError(
            f"the certificate of {host} cannot be verified",
            code="S664",
            hint="Nothing was sent. Somebody may be intercepting the connection; your own issuer: `ca_file`.",
        )
    return ConnectionLost(
        f"{host} does not answer: no token could be renewed",
        code="S664",
        hint="Is this machine online?",
    )


def _number(value: object, default: float) -> float:
    """Return a number of seconds: some providers write it as a string."""
    try:
        found = float(value) if isinstance(value, int | float | str) else default
    except ValueError:
        return default
    return found if 0 < found < 10**9 else default


def _rules(endpoints: Endpoints) -> ssl.SSLContext:
    """Return the TLS context: the same rules as for the SMTP connection."""
    parts = urlsplit(endpoints.token)
    return tls_context(
        Endpoint(parts.hostname or "", parts.port or 443, "tls", "localhost", ca_file=endpoints.ca_file)
    )


def _classes() -> tuple[Any, Any]:
    """Return the session class of the optional packages, and the adapter that makes it verify by our rules.

    Raises:
        CampaignFileError: they are not installed.

    """
    try:
        from authlib.integrations.requests_client import OAuth2Session
        from requests.adapters import HTTPAdapter
    except ImportError:
        raise CampaignFileError(
            'auth = "oauth" needs optional packages that are not installed',
            code="S660",
            hint=f"install them: {INSTALL}",
        ) from None

    class Verified(HTTPAdapter):  # type: ignore[misc,unused-ignore]
        """Requests' own adapter, but with our rules for TLS instead of its own authorities."""

        def __init__(self, rules: ssl.SSLContext) -> None:
            self._rules = rules
            super().__init__()

        def init_poolmanager(self, *args: Any, **more: Any) -> None:
            super().init_poolmanager(*args, ssl_context=self._rules, **more)

        def proxy_manager_for(self, proxy: str, **more: Any) -> Any:
            return super().proxy_manager_for(proxy, ssl_context=self._rules, **more)

        def build_connection_pool_key_attributes(self, request: Any, verify: object, cert: Any = None) -> Any:
            """Ignore authorities from the environment: those of our rules apply."""
            del verify
            verified = True
            return super().build_connection_pool_key_attributes(request, verified, cert)

        def cert_verify(self, conn: Any, url: str, verify: object, cert: object) -> None:
            """Leave it to our rules: requests would add its own authorities."""

    return OAuth2Session, Verified


# --- where an account's tokens come from -----------------------------------------------------------------


def client_of(account: Account, client_secret: str) -> OAuthClient:
    """Return the client that gets an account's tokens.

    Raises:
        CampaignFileError: neither its provider nor the account specifies the endpoints.
        AuthError: the issuer's own description cannot be read.
        ConnectionLost: the issuer does not answer.

    """
    return OAuthClient(endpoints_of(account), account.client_id or "", client_secret, account=account.name)


def endpoints_of(account: Account) -> Endpoints:
    """Return the endpoints of an account with ``auth = "oauth"``.

    Raises:
        CampaignFileError: neither its provider nor the account specifies them.
        AuthError: the issuer's own description cannot be read.
        ConnectionLost: the issuer does not answer.

    """
    if account.issuer:
        return _discovered(account)
    known = account.preset.oauth if account.preset else None
    if known is None:
        raise CampaignFileError(
            f"account {account.name} does not specify where its tokens come from",
            code="C411",
            hint='write issuer = "https://login.example.org" (its OpenID issuer), or provider = "gmail"',
        )
    fill = {"tenant": account.tenant}
    scopes = account.scopes or (known.application_scopes if account.grant == "application" else known.scopes)
    return Endpoints(
        title=account.preset.title if account.preset else account.host,
        authorize=known.authorize.format_map(fill),
        token=known.token.format_map(fill),
        device=known.device.format_map(fill),
        scopes=scopes,
        extra=known.extra,
        ca_file=None,
    )


def _discovered(account: Account) -> Endpoints:
    """Read the issuer's own metadata (OpenID Connect Discovery 1.0, RFC 8414)."""
    issuer = account.issuer or ""
    if not issuer.startswith("https://"):
        raise CampaignFileError(
            f"the issuer of account {account.name} must be an https address, not {quoted(issuer)}",
            code="C411",
            hint='write issuer = "https://login.example.org"',
        )
    blank = Endpoints(
        urlsplit(issuer).hostname or issuer, "", issuer, "", account.scopes, {}, account.ca_file
    )
    client = OAuthClient(blank, "", "", account=account.name)
    with client._session() as session:  # noqa: SLF001  the same session
        address = issuer.rstrip("/") + "/.well-known/openid-configuration"
        told = session.get(address, withhold_token=True, **_CALL).json()
        authorize, token = told["authorization_endpoint"], told["token_endpoint"]
        device = told.get("device_authorization_endpoint") or ""
        if not all(isinstance(text, str) for text in (authorize, token, device)):
            raise TypeError
    if not all(text.startswith("https://") for text in (authorize, token, device) if text):
        raise AuthError(f"{issuer} names addresses that are not https", code="S663")
    return Endpoints(
        title=blank.title,
        authorize=authorize,
        token=token,
        device=device,
        scopes=account.scopes or ("openid", "email", "offline_access"),
        extra={"prompt": "consent"},
        ca_file=account.ca_file,
    )


class ServiceAccount(Struct, frozen=True):
    """The key of a service account, as downloaded from Google's console."""

    client_email: str
    private_key: str

    @classmethod
    def read(cls, path: Path) -> ServiceAccount:
        """Read the JSON file.

        Raises:
            AuthError: it cannot be read, or is not such a key.

        """
        import msgspec

        from mailmerge.folders import read_plain

        try:
            return msgspec.json.decode(read_plain(path, 1_000_000), type=cls)
        except (OSError, msgspec.DecodeError):
            raise AuthError(
                f"{path} is not the key of a service account",
                code="S661",
                hint="download it from the console: a JSON file with client_email and private_key",
            ) from None

    def __repr__(self) -> str:
        return f"ServiceAccount({self.client_email!r})"

    def sign(self, claims: Mapping[str, object]) -> str:
        """Return the signed assertion for the token endpoint."""
        from joserfc import jwt
        from joserfc.errors import JoseError
        from joserfc.jwk import RSAKey

        try:
            return jwt.encode({"alg": "RS256"}, dict(claims), RSAKey.import_key(self.private_key))
        except (JoseError, ValueError) as error:
            raise AuthError(f"the private key of {self.client_email} cannot be used", code="S661") from error
