"""
Who may do what: tenants, API keys that never expire, and sessions that do.

An API key (``cm_...``) can only be revoked.  A session is a family of tokens: a JWT that expires, and a refresh token that is good for
one use and answers with its successor.  A refresh token that comes back a second time is taken for stolen, and the whole family dies,
its newest tokens included: what real servers with rotating tokens do, and why a hundred tasks must not refresh for themselves.

Reference:
    RFC 9700, "Best Current Practice for OAuth 2.0 Security", section 4.14.2.
"""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import attrs
import jwt

from resilience.demo.envelopes import Problem

__all__ = ["ALL_SCOPES", "Caller", "Credentials", "Plan", "Session", "Tenant"]

Plan: TypeAlias = Literal["free", "starter", "pro", "enterprise"]

ALL_SCOPES = frozenset({"bots:read", "bots:write", "calls:read", "calls:write", "messages:write", "models:read", "completions:write"})


@attrs.define(eq=False)
class Tenant:
    """
    A customer of the API, and what is left of its money.

    Args:
        name: Unique.
        plan: Sets how many requests a minute each of its keys may make.
        credits: Prepaid credits; >= 0.  Using them up is ``insufficient_credits``.
        budget: Most credits that may be spent a month, or None for no cap.  Reaching it is ``budget_exceeded``.
        domains: Where its bots may live.  Others are ``domain_not_allowed``.
        search_providers: What its completions may search with.  Others are ``search_provider_not_allowed``.
        spent: Credits spent this month.
    """

    name: str
    plan: Plan = "pro"
    credits: int = 1_000
    budget: int | None = None
    domains: frozenset[str] = frozenset({"acme.example"})
    search_providers: frozenset[str] = frozenset({"web"})
    spent: int = 0

    def charge(self, price: int) -> None:
        """
        Take *price* credits.

        Raises:
            Problem: 402, and nothing was taken.
        """
        if price > self.credits:
            raise Problem(402, "insufficient_credits", f"This costs {price} credits and {self.credits} are left.")
        if self.budget is not None and self.spent + price > self.budget:
            raise Problem(402, "budget_exceeded", f"The monthly budget of {self.budget} credits is used up.")
        self.credits -= price
        self.spent += price


@attrs.frozen
class Caller:
    """Whom a request's credential speaks for.  *holder* is what its rate is counted by: a key, or a session's family."""

    tenant: Tenant
    holder: str
    scopes: frozenset[str] = ALL_SCOPES

    def require(self, scope: str) -> None:
        """
        Go on only with this *scope*.

        Raises:
            Problem: 403.
        """
        if scope not in self.scopes:
            raise Problem(403, "permission_denied", f"This key lacks the scope {scope}.")


@attrs.frozen
class Session:
    """A signed-in user's tokens.  *expires_in* is the access token's life, in seconds."""

    access_token: str = attrs.field(repr=False)
    refresh_token: str = attrs.field(repr=False)
    expires_in: float

    def body(self) -> dict[str, object]:
        """As the auth endpoints answer it."""
        return {
            "access_token": self.access_token,
            "refresh_token": self.refresh_token,
            "token_type": "bearer",
            "expires_in": self.expires_in,
        }


@attrs.define(eq=False)
class _Family:
    """All tokens that descend from one login."""

    id: str
    tenant: Tenant
    newest: str = ""
    revoked: bool = False


class Credentials:
    """
    Everything that opens a door, and what has become of it.

    Args:
        session_seconds: Life of an access token; > 0.
    """

    def __init__(self, session_seconds: float) -> None:
        self._session_seconds = session_seconds
        self._secret = secrets.token_bytes(32)
        self._serials = itertools.count(1)
        self._expired_up_to = 0
        self._tenants: dict[str, Tenant] = {}
        self._keys: dict[str, Caller] = {}
        self._users: dict[str, tuple[str, Tenant]] = {}
        self._families: dict[str, _Family] = {}
        self._refresh_tokens: dict[str, _Family] = {}

    def add_tenant(self, tenant: Tenant) -> Tenant:
        """
        Make *tenant* known.

        Raises:
            ValueError: Its name is taken.
        """
        if tenant.name in self._tenants:
            raise ValueError(f"there is a tenant {tenant.name!r} already")
        self._tenants[tenant.name] = tenant
        return tenant

    def add_user(self, email: str, password: str, tenant: Tenant) -> None:
        """
        Let somebody log in to *tenant*.

        Raises:
            Problem: 409, where the address is taken.
        """
        if email in self._users:
            raise Problem(409, "conflict", "There is an account with this address already.")
        self._users[email] = (password, tenant)

    def tenant(self, name: str) -> Tenant:
        """
        The tenant of that *name*.

        Raises:
            KeyError: There is none.
        """
        return self._tenants[name]

    def add_key(self, tenant: Tenant, scopes: frozenset[str] = ALL_SCOPES) -> str:
        """A new API key of *tenant*."""
        key = "cm_" + secrets.token_hex(16)
        self._keys[key] = Caller(tenant, key, scopes)
        return key

    def revoke_key(self, key: str) -> None:
        """
        Make *key* an ``invalid_api_key``.

        Raises:
            KeyError: There is no such key.
        """
        del self._keys[key]

    def log_in(self, email: str, password: str) -> Session:
        """
        Open a session for the user who proves to be one.

        Raises:
            Problem: 401, with a code that the documentation does not list.
        """
        user = self._users.get(email)
        if user is None or user[0] != password:
            raise Problem(401, "invalid_credentials", "Wrong address or password.")
        return self.open_session(user[1])

    def open_session(self, tenant: Tenant) -> Session:
        """A session in a family of its own."""
        family = _Family(secrets.token_hex(8), tenant)
        self._families[family.id] = family
        return self._issue(family)

    def refresh(self, refresh_token: str) -> Session:
        """
        Exchange a refresh token, once, for the next tokens of its family.

        Raises:
            Problem: 401; where the token had been used before, the family is revoked.
        """
        family = self._refresh_tokens.get(refresh_token)
        if family is None:
            raise Problem(401, "invalid_refresh_token", "No such refresh token.")
        if family.revoked:
            raise Problem(401, "session_revoked", "This session was revoked.")
        if refresh_token != family.newest:
            family.revoked = True
            raise Problem(401, "refresh_token_reused", "This refresh token was used before; the session is revoked.")
        return self._issue(family)

    def expire_all(self) -> None:
        """Let every access token issued up to now count as expired, whatever its ``exp`` says."""
        self._expired_up_to = next(self._serials)

    def identify(self, headers: Mapping[str, str], *, x_api_key: bool) -> Caller:
        """
        Whom the request's credential speaks for.

        Args:
            headers: The request's, by lower-case name.
            x_api_key: Whether this endpoint takes a key from ``x-api-key`` too.

        Raises:
            Problem: 401.
        """
        scheme, _, token = headers.get("authorization", "").partition(" ")
        token = token.strip()
        if not token and x_api_key and "x-api-key" in headers:
            scheme, token = "bearer", headers["x-api-key"]
        if scheme.lower() != "bearer" or not token:
            raise Problem(401, "missing_authorization", "Send Authorization: Bearer with a key or a token.")
        return self._key_holder(token) if token.startswith("cm_") else self._session_holder(token)

    def _key_holder(self, key: str) -> Caller:
        caller = self._keys.get(key)
        if caller is None:
            raise Problem(401, "invalid_api_key", "This API key is unknown or was revoked.")
        return caller

    def _session_holder(self, token: str) -> Caller:
        try:
            # PyJWT compares whole seconds; a life of 0.2 s, as a test may want it, needs the float below.
            claims: dict[str, Any] = jwt.decode(  # pyright: ignore[reportUnknownMemberType] - of keys we have no use for
                token, self._secret, algorithms=["HS256"], options={"require": ["exp", "sid", "jti"], "verify_exp": False}
            )
        except jwt.InvalidTokenError as error:
            raise Problem(401, "invalid_token", "This is no token of ours.") from error
        family = self._families[claims["sid"]]
        if family.revoked:
            raise Problem(401, "session_revoked", "This session was revoked.")
        if claims["exp"] <= time.time() or int(claims["jti"]) <= self._expired_up_to:
            raise Problem(401, "token_expired", "This session token has expired; refresh it.")
        return Caller(family.tenant, family.id)

    def _issue(self, family: _Family) -> Session:
        now = time.time()
        claims = {
            "iss": "callmissed",
            "sub": family.tenant.name,
            "sid": family.id,
            "jti": str(next(self._serials)),
            "iat": int(now),
            "exp": now + self._session_seconds,
        }
        family.newest = secrets.token_urlsafe(24)
        self._refresh_tokens[family.newest] = family
        token = jwt.encode(claims, self._secret, algorithm="HS256")  # pyright: ignore[reportUnknownMemberType] - as above
        return Session(token, family.newest, self._session_seconds)
