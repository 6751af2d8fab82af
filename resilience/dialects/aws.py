"""
AWS: the codes that its services share, as botocore's exceptions and the JSON protocols carry them.

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

Sources: botocore ``retries/standard.py``, ``retries/special.py``, ``data/_retry.json``, ``httpsession.py`` and the service models' own
``retryable``, ``httpStatusCode`` and documentation; AWS SDKs and Tools Reference Guide, "Retry behavior"; "Common Error Types" of the API
references; the error pages of S3, DynamoDB, EC2, STS, Lambda and Bedrock; aws-sdk-ruby ``retries/error_inspector.rb``, aws-sdk-go
``request/retryer.go`` (credentials).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from resilience.classify import CodeKey, ErrorKey, MessageKey
from resilience.dialects import http
from resilience.outcome import Blame, Verdict, fail_fast, refresh_token, retry

__all__ = ["RULES"]

_PASSES = retry()
_THROTTLED = retry(throttled=True)
_OURS = fail_fast()
_CREDENTIAL = fail_fast(blames=Blame.CREDENTIAL)
_EXPIRED = refresh_token()
_CLOCK = retry(attempts=2, blames=Blame.CALLER)

_THROTTLING: Final[Mapping[CodeKey, Verdict]] = {
    "*Throttl*": _THROTTLED,
    "*throttl*": _THROTTLED,  # in event streams, whose exceptions go by the names of members
    "TooManyRequests*": _THROTTLED,  # with an s: SimpleDB's TooManyRequestedAttributes is a mistake
    "TooManyRequestException": _THROTTLED,
    "ProvisionedThroughputExceeded*": _THROTTLED,
    "*RateLimitExceeded*": _THROTTLED,
    "SlowDown*": _THROTTLED,
    "RequestLimitExceeded": _THROTTLED,
    "BandwidthLimitExceeded": _THROTTLED,
    "PriorRequestNotComplete": _THROTTLED,  # Route 53: transient and throttling in the SDKs; the slower schedule obeys both
    "TransactionInProgressException": _THROTTLED,  # DynamoDB: the same request, still running
    "ClientLimitExceededException": _THROTTLED,  # Kinesis Video Streams, in spite of the name
    "ConnectionLimitExceededException": _THROTTLED,  # likewise
    # Of the 85 services that have it, about ten mean a rate (API Gateway, Cost Explorer, Kinesis), the others a number of resources.  The
    # SDKs repeat it all the same, three tries in all; where the status speaks of a resource, a wait has never helped.
    "LimitExceededException": retry(attempts=3, throttled=True, blames=Blame.CALLER),
    "limitExceededException": retry(attempts=3, throttled=True, blames=Blame.CALLER),
    **{(status, "LimitExceededException"): _OURS for status in (403, 409, 410, 412)},
    # Bedrock: "the AWS SDK will automatically retry the operation up to 5 times".
    "ModelNotReadyException": retry(attempts=5, throttled=True),
    "modelNotReadyException": retry(attempts=5, throttled=True),
}

_TRANSIENT: Final[Mapping[CodeKey, Verdict]] = {
    "RequestTimeout": _PASSES,  # S3 says 400: the request did not arrive in time
    "RequestTimeoutException": _PASSES,
    "IDPCommunicationError": retry(attempts=3),  # STS: "retry the request a limited number of times"
    # Other work is in the way, which is nobody's bad health; DynamoDB, S3 and those who change the same thing at once.
    "ReplicatedWriteConflictException": retry(blames=Blame.CALLER),
    "TransactionConflictException": retry(blames=Blame.CALLER),
    "RetryableConflictException": retry(blames=Blame.CALLER),
    "OperationAborted": retry(blames=Blame.CALLER),
    "ConditionalRequestConflict": retry(blames=Blame.CALLER),
    "ConcurrentModificationException": retry(attempts=3, blames=Blame.CALLER),  # in a few services one has to read the version again
    "BadDigest": retry(attempts=2, blames=Blame.CALLER),  # S3: damaged on the way, or computed wrongly; legacy mode repeats it
    # Bedrock.  A model that took too long is likely to do so again; one that failed in the middle of its answer is to be asked again.
    "ModelTimeoutException": retry(attempts=2),
    "modelTimeoutException": retry(attempts=2),
    "ModelStreamErrorException": _PASSES,
    "modelStreamErrorException": _PASSES,
    # In an event stream botocore gives everything the status 400, so that the code has to say what is a fault of the service.
    **dict.fromkeys(("InternalServerException", "internalServerException"), _PASSES),
    **dict.fromkeys(("InternalFailureException", "internalFailureException", "InternalFailure"), _PASSES),
    **dict.fromkeys(("ServiceUnavailableException", "serviceUnavailableException", "ServiceUnavailable"), _PASSES),
    **dict.fromkeys(("BadGatewayException", "badGatewayException"), _PASSES),
    **dict.fromkeys(("InternalStreamFailure", "InternalStreamingException", "ServiceFailureException"), _PASSES),
}

_CREDENTIALS: Final[Mapping[CodeKey, Verdict]] = {
    "ExpiredToken": _EXPIRED,
    "ExpiredTokenException": _EXPIRED,
    "TokenRefreshRequired": _EXPIRED,
    "RequestExpired": _EXPIRED,  # EC2 says it of expired credentials too; a new signature cures the other meaning
    # The key or token is unknown.  It may have been rotated: then the source has a newer one.
    "InvalidClientTokenId": _EXPIRED,
    "UnrecognizedClientException": _EXPIRED,
    "InvalidAccessKeyId": _EXPIRED,
    (400, "InvalidToken"): _EXPIRED,  # S3; with its status, as exceptions of that name mean other tokens
    "InvalidIdentityToken": _EXPIRED,  # STS: "get a new identity token ... and then retry"
    # Cured by a new signature if the request was late, not if the clock is wrong.
    "RequestTimeTooSkewed": _CLOCK,
    "RequestInTheFuture": _CLOCK,
    # Permissions; in the JSON protocols often with status 400.
    "*AccessDenied*": _CREDENTIAL,
    "accessDeniedException": _CREDENTIAL,
    "NotAuthorized*": _CREDENTIAL,
    "UnauthorizedOperation*": _CREDENTIAL,
    "AuthorizationError*": _CREDENTIAL,
    "IncompleteSignature*": _CREDENTIAL,
    "MissingAuthenticationToken*": _CREDENTIAL,
    "OptInRequired": _CREDENTIAL,
    "InvalidCredentialsException": _CREDENTIAL,  # ElastiCache says 408 with it
}

# Permanent in spite of their status.
_PERMANENT: Final[Mapping[CodeKey, Verdict]] = {
    "*QuotaExceeded*": _OURS,  # 429 in some services
    "ConditionalCheckFailedException": _OURS,  # an answer, and no failure of anybody's
    "ModelErrorException": fail_fast(blames=Blame.PEER),
    # Lambda's 502 for a function that cannot start as it is configured; the SDKs repeat it for its status.
    (502, "ENILimitReachedException"): _OURS,
    (502, "InvalidRuntimeException"): _OURS,
    (502, "InvalidSecurityGroupIDException"): _OURS,
    (502, "InvalidSubnetIDException"): _OURS,
    (502, "InvalidZipFileException"): _OURS,
    (502, "KMSDisabledException"): _OURS,
    (502, "KMSInvalidStateException"): _OURS,
    (502, "KMSNotFoundException"): _OURS,
    (502, "SubnetIPAddressLimitReachedException"): _OURS,
}

_WORDS: Final[Mapping[MessageKey, Verdict]] = {
    # DynamoDB's TransactionCanceledException names why each item was refused.  A condition that failed will fail again, whatever stands
    # beside it: the longest words win, so the others must be shorter.
    (400, "conditionalcheckfailed"): _OURS,
    (400, "throughputexceeded"): _THROTTLED,
    (400, "transactionconflict"): retry(blames=Blame.CALLER),
    (400, "throttlingerror"): _THROTTLED,
    # SignatureDoesNotMatch, InvalidSignatureException: the secret is wrong, or the request was late, and only the words tell which.
    "signature we calculated does not match": _CREDENTIAL,
    "signature expired": _CLOCK,
    "signature not yet current": _CLOCK,
    # What S3 and others say in XML, or an error keeps of the body without its code.
    "security token included in the request is expired": _EXPIRED,
    "provided token has expired": _EXPIRED,
    "security token included in the request is invalid": _EXPIRED,
    # S3 answers in XML, which only botocore parses; some clients put the reason of the status line into their error.
    (503, "slow down"): _THROTTLED,
    (503, "reduce your request rate"): _THROTTLED,
}

_ERRORS: Final[Mapping[ErrorKey, Verdict]] = {
    "botocore.ConnectionError": _PASSES,  # the endpoint, its proxy, TLS
    "botocore.HTTPClientError": _PASSES,  # a connection that was closed, a read that timed out, a stream that broke off
    "botocore.IncompleteReadError": _PASSES,
    "botocore.ChecksumError": _PASSES,  # damaged on the way here
    "botocore.FlexibleChecksumError": _PASSES,
    # The source of credentials (a metadata service, a process) did not answer.  Nothing was sent.
    "botocore.CredentialRetrievalError": retry(attempts=2, blames=Blame.CREDENTIAL),
    "botocore.NoCredentialsError": _CREDENTIAL,
    "botocore.PartialCredentialsError": _CREDENTIAL,
    "botocore.NoAuthTokenError": _CREDENTIAL,
    "botocore.TokenRetrievalError": _CREDENTIAL,
    "botocore.SSOError": _CREDENTIAL,
    "botocore.LoginError": _CREDENTIAL,
}

# Bedrock Runtime.  A model's id may be an ARN, whose slash is encoded.
_INFERENCE = r"/model/[^/]+/(?:converse|invoke|converse-stream|invoke-with-response-stream|count-tokens)"


def _creates_nothing(method: str, path: str) -> bool:
    return method == "POST" and re.fullmatch(_INFERENCE, path) is not None


RULES: Final = http.RULES.extend(
    "aws",
    by_code={**_THROTTLING, **_TRANSIENT, **_CREDENTIALS, **_PERMANENT},
    by_message=_WORDS,
    by_status={509: _THROTTLED},  # legacy mode's "limit exceeded"
    by_error=_ERRORS,
    creates_nothing=_creates_nothing,
)
"""The codes of AWS, for botocore, boto3, aiobotocore and plain HTTP clients."""
