"""
AWS: the codes that its services share, as botocore's exceptions and the JSON protocols carry them.

Sources, as of 2026: botocore ``retries/standard.py``, ``retries/special.py``, ``data/_retry.json``, ``httpsession.py`` and the service
models' own ``retryable``, ``httpStatusCode`` and documentation; AWS SDKs and Tools Reference Guide, "Retry behavior"; "Common Error Types"
of the API references; the error pages of S3, DynamoDB, EC2, STS, Lambda and Bedrock; aws-sdk-ruby ``retries/error_inspector.rb``,
aws-sdk-go ``request/retryer.go`` (credentials).

What the SDKs repeat.  botocore's legacy mode goes by ``_retry.json``, service by service; its standard mode by one list for all of them, to
which 2026 added waits of 50 ms after what may pass and of 1 s after throttling, ``x-amz-retry-after`` (milliseconds), any 429, and standard
mode as the default (botocore 1.44; before that, ``AWS_NEW_RETRIES_2026=true``).  `resilience.Retry` waits just so; for DynamoDB the SDKs
have 25 ms and a fourth try: ``Retry(attempts=4, backoff=Exponential(0.025))``.  The table repeats what either mode does, and says where it
does not.

Set-up.  botocore repeats on its own; turn that off: ``Config(retries={"total_max_attempts": 1})``.  It also makes up a ``ClientToken`` or
``ClientRequestToken`` for each call of a client's method, so an engine's repeats would each bring another, which protects nothing: hand in
``ClientToken=current().take_key()``, under an `IdempotencyKey`.  Its errors mostly do not tell the request, so say it for what must not
happen twice: ``using(method="POST")``.  Where they do (`ConnectionClosedError`, and over a plain HTTP client always) the JSON protocols
have a POST for reads too: ``using(repeatable=True)``.  What answers HEAD has no body: S3 says a bare 400 there for a token that has
expired.

Signatures.  Each attempt of ours is a new call of the client, which signs anew.  That cures a request that was under way for too long,
once.  It cures no wrong clock, since no offset is kept from one attempt to the next, and no URL that was signed in advance.

Names.  Throttling goes by many, and services add more.  All of the 17 with "throttl" among the 2,675 codes in the models of botocore 1.44.5
mean it, and all of the 69 with "QuotaExceeded" mean a quota and no rate, so patterns serve there.  "LimitExceeded" is no such form:
``RequestLimitExceeded`` is a rate, ``ClusterLimitExceededException`` a quota.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from resilience.classify import CodeKey, ErrorKey, MessageKey
from resilience.dialects import http
from resilience.outcome import Blame, Verdict, fail_fast, refresh_token, retry

__all__ = ["RULES"]

_ASKED = fail_fast()
_KEY = fail_fast(blames=Blame.CREDENTIAL)
_BUSY = retry(throttled=True)
_CONTENDED = retry(blames=Blame.CALLER)  # other work is in the way
_CLOCK = retry(attempts=2, blames=Blame.CALLER)

_THROTTLING: Final[Mapping[CodeKey, Verdict]] = {
    "*Throttl*": _BUSY,
    "*throttl*": _BUSY,  # in event streams, whose exceptions go by the names of members
    "TooManyRequests*": _BUSY,  # with an s: SimpleDB's TooManyRequestedAttributes is a mistake
    "TooManyRequestException": _BUSY,
    "ProvisionedThroughputExceeded*": _BUSY,
    "*RateLimitExceeded*": _BUSY,
    "SlowDown*": _BUSY,
    "RequestLimitExceeded": _BUSY,
    "BandwidthLimitExceeded": _BUSY,
    "PriorRequestNotComplete": _BUSY,  # Route 53: transient and throttling in the SDKs; the slower schedule obeys both
    "TransactionInProgressException": _BUSY,  # DynamoDB: the same request, still running
    "ClientLimitExceededException": _BUSY,  # Kinesis Video Streams, in spite of the name
    "ConnectionLimitExceededException": _BUSY,  # likewise
    # Of the 85 services that have it, about ten mean a rate (API Gateway, Cost Explorer, Kinesis), the others a number of resources.  The
    # SDKs repeat it all the same, three tries in all; where the status speaks of a resource, a wait has never helped.
    "LimitExceededException": retry(attempts=3, throttled=True, blames=Blame.CALLER),
    "limitExceededException": retry(attempts=3, throttled=True, blames=Blame.CALLER),
    **{(status, "LimitExceededException"): _ASKED for status in (403, 409, 410, 412)},
    # Bedrock: "the AWS SDK will automatically retry the operation up to 5 times".
    "ModelNotReadyException": retry(attempts=5, throttled=True),
    "modelNotReadyException": retry(attempts=5, throttled=True),
}

_TRANSIENT: Final[Mapping[CodeKey, Verdict]] = {
    "RequestTimeout": retry(),  # S3 says 400: the request did not arrive in time
    "RequestTimeoutException": retry(),
    "IDPCommunicationError": retry(attempts=3),  # STS: "retry the request a limited number of times"
    # Other work is in the way, which is nobody's bad health; DynamoDB, S3 and those who change the same thing at once.
    "ReplicatedWriteConflictException": _CONTENDED,
    "TransactionConflictException": _CONTENDED,
    "RetryableConflictException": _CONTENDED,
    "OperationAborted": _CONTENDED,
    "ConditionalRequestConflict": _CONTENDED,
    "ConcurrentModificationException": retry(attempts=3, blames=Blame.CALLER),  # in a few services one has to read the version again
    "BadDigest": retry(attempts=2, blames=Blame.CALLER),  # S3: damaged on the way, or computed wrongly; legacy mode repeats it
    # Bedrock.  A model that took too long is likely to do so again; one that failed in the middle of its answer is to be asked again.
    "ModelTimeoutException": retry(attempts=2),
    "modelTimeoutException": retry(attempts=2),
    "ModelStreamErrorException": retry(),
    "modelStreamErrorException": retry(),
    # In an event stream botocore gives everything the status 400, so that the code has to say what is a fault of the service.
    **dict.fromkeys(("InternalServerException", "internalServerException"), retry()),
    **dict.fromkeys(("InternalFailureException", "internalFailureException", "InternalFailure"), retry()),
    **dict.fromkeys(("ServiceUnavailableException", "serviceUnavailableException", "ServiceUnavailable"), retry()),
    **dict.fromkeys(("BadGatewayException", "badGatewayException"), retry()),
    **dict.fromkeys(("InternalStreamFailure", "InternalStreamingException", "ServiceFailureException"), retry()),
}

_CREDENTIALS: Final[Mapping[CodeKey, Verdict]] = {
    "ExpiredToken": refresh_token(),
    "ExpiredTokenException": refresh_token(),
    "TokenRefreshRequired": refresh_token(),
    "RequestExpired": refresh_token(),  # EC2 says it of expired credentials too; a new signature cures the other meaning
    # The key or token is unknown.  It may have been rotated: then the source has a newer one.
    "InvalidClientTokenId": refresh_token(),
    "UnrecognizedClientException": refresh_token(),
    "InvalidAccessKeyId": refresh_token(),
    (400, "InvalidToken"): refresh_token(),  # S3; with its status, as exceptions of that name mean other tokens
    "InvalidIdentityToken": refresh_token(),  # STS: "get a new identity token ... and then retry"
    # Cured by a new signature if the request was late, not if the clock is wrong.
    "RequestTimeTooSkewed": _CLOCK,
    "RequestInTheFuture": _CLOCK,
    # Permissions; in the JSON protocols often with status 400.
    "*AccessDenied*": _KEY,
    "accessDeniedException": _KEY,
    "NotAuthorized*": _KEY,
    "UnauthorizedOperation*": _KEY,
    "AuthorizationError*": _KEY,
    "IncompleteSignature*": _KEY,
    "MissingAuthenticationToken*": _KEY,
    "OptInRequired": _KEY,
    "InvalidCredentialsException": _KEY,  # ElastiCache says 408 with it
}

# Permanent in spite of their status.
_PERMANENT: Final[Mapping[CodeKey, Verdict]] = {
    "*QuotaExceeded*": _ASKED,  # 429 in some services
    "ConditionalCheckFailedException": _ASKED,  # an answer, and no failure of anybody's
    "ModelErrorException": fail_fast(blames=Blame.PEER),
    # Lambda's 502 for a function that cannot start as it is configured; the SDKs repeat it for its status.
    (502, "ENILimitReachedException"): _ASKED,
    (502, "InvalidRuntimeException"): _ASKED,
    (502, "InvalidSecurityGroupIDException"): _ASKED,
    (502, "InvalidSubnetIDException"): _ASKED,
    (502, "InvalidZipFileException"): _ASKED,
    (502, "KMSDisabledException"): _ASKED,
    (502, "KMSInvalidStateException"): _ASKED,
    (502, "KMSNotFoundException"): _ASKED,
    (502, "SubnetIPAddressLimitReachedException"): _ASKED,
}

_MESSAGES: Final[Mapping[MessageKey, Verdict]] = {
    # DynamoDB's TransactionCanceledException names why each item was refused.  A condition that failed will fail again, whatever stands
    # beside it: the longest words win, so the others must be shorter.
    (400, "conditionalcheckfailed"): _ASKED,
    (400, "throughputexceeded"): _BUSY,
    (400, "transactionconflict"): _CONTENDED,
    (400, "throttlingerror"): _BUSY,
    # Bedrock's ThrottlingException, of a quota that is whole again tomorrow; reported by users.
    (429, "too many tokens per day"): _ASKED,
    # SignatureDoesNotMatch, InvalidSignatureException: the secret is wrong, or the request was late, and only the words tell which.
    "signature we calculated does not match": _KEY,
    "signature expired": _CLOCK,
    "signature not yet current": _CLOCK,
    # What S3 and others say in XML, or an error keeps of the body without its code.
    "security token included in the request is expired": refresh_token(),
    "provided token has expired": refresh_token(),
    "security token included in the request is invalid": refresh_token(),
    # S3 answers in XML, which only botocore parses; some clients put the reason of the status line into their error.
    (503, "slow down"): _BUSY,
    (503, "reduce your request rate"): _BUSY,
}

_ERRORS: Final[Mapping[ErrorKey, Verdict]] = {
    "botocore.ConnectionError": retry(),  # the endpoint, its proxy, TLS
    "botocore.HTTPClientError": retry(),  # a connection that was closed, a read that timed out, a stream that broke off
    "botocore.IncompleteReadError": retry(),
    "botocore.ChecksumError": retry(),  # damaged on the way here
    "botocore.FlexibleChecksumError": retry(),
    # The source of credentials (a metadata service, a process) did not answer.  Nothing was sent.
    "botocore.CredentialRetrievalError": retry(attempts=2, blames=Blame.CREDENTIAL),
    "botocore.NoCredentialsError": _KEY,
    "botocore.PartialCredentialsError": _KEY,
    "botocore.NoAuthTokenError": _KEY,
    "botocore.TokenRetrievalError": _KEY,
    "botocore.SSOError": _KEY,
    "botocore.LoginError": _KEY,
}

# Bedrock Runtime.  A model's id may be an ARN, whose slash is encoded.
_INFERENCE = r"/model/[^/]+/(?:converse|invoke|converse-stream|invoke-with-response-stream|count-tokens)"


def _creates_nothing(method: str, path: str) -> bool:
    """Asking a model of Bedrock, streamed or not, and counting tokens."""
    return method == "POST" and re.fullmatch(_INFERENCE, path) is not None


RULES: Final = http.RULES.extend(
    "aws",
    by_code={**_THROTTLING, **_TRANSIENT, **_CREDENTIALS, **_PERMANENT},
    by_message=_MESSAGES,
    by_status={509: _BUSY},  # legacy mode's "limit exceeded"
    by_error=_ERRORS,
    creates_nothing=_creates_nothing,
)
"""The codes of AWS, for botocore, boto3, aiobotocore and plain HTTP clients."""
