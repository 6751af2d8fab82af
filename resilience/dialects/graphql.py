"""
GraphQL over HTTP, whichever server answers: errors inside a 200, and servers that set a status all the same.

    engine = Engine([Retry(), RefreshToken(login)], rules=graphql.RULES)

Sources, as of 2026: the GraphQL specification (7.1, request errors and field errors) and "GraphQL over HTTP"; Apollo Server, "Error
handling" (``ApolloServerErrorCode``; up to version 3 ``UNAUTHENTICATED`` and ``FORBIDDEN`` were built in, and most servers have kept them);
Apollo Router, "Router Errors"; GitHub, "Rate limits and query limits for the GraphQL API".  The specification knows no codes, so these are
conventions: an API's own come with ``RULES.extend(...)``.

A query is sent by POST like a mutation, and nothing about the request tells them apart.  What has been begun is therefore repeated only if
the caller says that it may be: ``engine.using(repeatable=True)``, or a key.  Too many requests, and a credential that was not accepted, are
refused before anything is begun (`resilience.reading.inside`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from resilience.classify import CodeKey
from resilience.dialects import http
from resilience.outcome import Blame, Verdict, fail_fast, refresh_token, retry
from resilience.reading.inside import graphql_errors

__all__ = ["RULES"]

_ASKED = fail_fast()  # the operation is at fault, and stays so
_KEY = fail_fast(blames=Blame.CREDENTIAL)
_THEIRS = fail_fast(blames=Blame.PEER)
_LIMITED = retry(throttled=True, blames=Blame.CALLER)  # as of a 429, the caller's own rate: a 200 does not say so
_ONCE_MORE = retry(attempts=2)

_CODES: Final[Mapping[CodeKey, Verdict]] = {
    # Apollo Server, `ApolloServerErrorCode` and `ApolloServerValidationErrorCode`.
    "GRAPHQL_PARSE_FAILED": _ASKED,
    "GRAPHQL_VALIDATION_FAILED": _ASKED,
    "BAD_USER_INPUT": _ASKED,
    "BAD_REQUEST": _ASKED,
    "OPERATION_RESOLUTION_FAILURE": _ASKED,
    "INTROSPECTION_DISABLED": _ASKED,
    "MAX_RECURSIVE_SELECTIONS_EXCEEDED": _ASKED,
    # "A client sent the hash of a query string": it has to send the query with it, so the same request meets the same answer.
    "PERSISTED_QUERY_NOT_FOUND": _ASKED,
    "PERSISTED_QUERY_NOT_SUPPORTED": _ASKED,
    # "An unspecified error occurred", a bug in a resolver included.
    "INTERNAL_SERVER_ERROR": _ONCE_MORE,
    # Apollo Server 3, and by convention most others.
    "UNAUTHENTICATED": refresh_token(),
    "FORBIDDEN": _KEY,
    # Apollo Router: what the operation asks for.
    "GRAPHQL_UNKNOWN_OPERATION_NAME": _ASKED,
    "PARSING_ERROR": _ASKED,
    "VALIDATION_INVALID_TYPE_VARIABLE": _ASKED,
    "CANNOT_SEND_PQ_ID_AND_BODY": _ASKED,
    "PERSISTED_QUERY_HASH_MISMATCH": _ASKED,
    "PERSISTED_QUERY_NOT_IN_LIST": _ASKED,
    "PERSISTED_QUERY_ID_REQUIRED": _ASKED,
    "QUERY_NOT_IN_SAFELIST": _ASKED,
    "QUERY_PLAN_COMPLEXITY_EXCEEDED": _ASKED,
    "MAX_ALIASES_LIMIT": _ASKED,
    "MAX_DEPTH_LIMIT": _ASKED,
    "MAX_HEIGHT_LIMIT": _ASKED,
    "MAX_ROOT_FIELDS_LIMIT": _ASKED,
    "COST_ESTIMATED_TOO_EXPENSIVE": _ASKED,
    "SUBGRAPH_COST_ESTIMATED_TOO_EXPENSIVE": _ASKED,
    "COST_ACTUAL_TOO_EXPENSIVE": _ASKED,
    "COST_QUERY_PARSE_FAILURE": _ASKED,
    "REQUEST_LIMIT_EXCEEDED": _ASKED,  # of the requests that one operation may cause, and no rate
    "UNAUTHORIZED_FIELD_OR_TYPE": _KEY,
    # Apollo Router: what is behind it.
    "CONNECTOR_FETCH": retry(),
    "HTTP_CLIENT_ERROR": retry(),
    "SUBREQUEST_HTTP_ERROR": retry(),
    "GATEWAY_TIMEOUT": retry(),
    "RESPONSE_VALIDATION_FAILED": _THEIRS,
    "COST_RESPONSE_TYPING_FAILURE": _THEIRS,
    # Too many requests, as Apollo Router (REQUEST_RATE_LIMITED), GitHub (RATE_LIMITED) and others have it.
    "*RATE_LIMIT*": _LIMITED,
    "*RATELIMIT*": _LIMITED,
    "*THROTTLED*": _LIMITED,
    "TOO_MANY_REQUESTS": _LIMITED,
}

RULES: Final = http.RULES.extend(
    "graphql",
    by_code=_CODES,
    # graphql-ruby and so GitHub name the error's type, where others have a code.
    by_kind={
        "RATE_LIMITED": _LIMITED,
        "FORBIDDEN": _KEY,
        "INSUFFICIENT_SCOPES": _KEY,
        "NOT_FOUND": _ASKED,
        "UNPROCESSABLE": _ASKED,
        "MAX_NODE_LIMIT_EXCEEDED": _ASKED,
    },
    by_result=graphql_errors,
)
"""GraphQL over HTTP.  Errors without a known code fail fast, as the base has it for whatever is unknown."""
