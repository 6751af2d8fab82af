"""
Every code that AWS documents for all of its services, and those of the busiest ones, as botocore raises them and as HTTP brings them.

Expectations come from the provider: "Common Error Types" of the API references; "Error responses" of the S3 API reference and "Amazon S3
error best practices"; "Error handling with DynamoDB" (its column "OK to retry?"); "Error codes for the Amazon EC2 API"; the errors of STS,
SQS, Route 53, Kinesis, Lambda Invoke and Bedrock Runtime, as in botocore's service models; what botocore's two modes repeat, from botocore
itself.
"""

from __future__ import annotations

import json
import ssl
from typing import Any

import httpx2
import pytest
from botocore import exceptions
from botocore.loaders import Loader
from botocore.retries import special, standard

from resilience import Action, Blame, Phase, Signal, Verdict, read
from resilience.dialects import aws

RETRY, FAIL, REFRESH = Action.RETRY, Action.FAIL_FAST, Action.REFRESH_TOKEN
PEER, CALLER, CREDENTIAL = Blame.PEER, Blame.CALLER, Blame.CREDENTIAL

# What a code calls for: action, tries in all that may end in it, throttled, whom it blames.
PASSES = (RETRY, None, False, PEER)
THROTTLED = (RETRY, None, True, PEER)
IN_THE_WAY = (RETRY, None, False, CALLER)
SIGN_AGAIN = (RETRY, 2, False, CALLER)
EXPIRED = (REFRESH, None, False, CREDENTIAL)
DENIED = (FAIL, None, False, CREDENTIAL)
OURS = (FAIL, None, False, CALLER)

Expected = tuple[Action, int | None, bool, Blame]

CODES: list[tuple[int, str, Expected]] = [
    # Common errors, in the forms of the query protocols (no suffix) and of the JSON protocols.
    (400, "AccessDeniedException", DENIED),
    (403, "AccessDeniedException", DENIED),
    (403, "AccessDenied", DENIED),
    (403, "ExpiredTokenException", EXPIRED),
    (400, "ExpiredTokenException", EXPIRED),
    (403, "IncompleteSignature", DENIED),
    (400, "IncompleteSignatureException", DENIED),
    (500, "InternalFailure", PASSES),
    (400, "MalformedHttpRequestException", OURS),
    (401, "NotAuthorized", DENIED),
    (400, "NotAuthorized", DENIED),
    (403, "OptInRequired", DENIED),
    (400, "RequestAbortedException", OURS),
    (413, "RequestEntityTooLargeException", OURS),
    (400, "RequestExpired", EXPIRED),
    (408, "RequestTimeoutException", PASSES),
    (503, "ServiceUnavailable", PASSES),
    (400, "ThrottlingException", THROTTLED),
    (403, "UnrecognizedClientException", EXPIRED),
    (404, "UnknownOperationException", OURS),
    (400, "ValidationError", OURS),
    (400, "ValidationException", OURS),
    (400, "InvalidAction", OURS),
    (403, "InvalidClientTokenId", EXPIRED),
    (400, "InvalidParameterValue", OURS),
    (404, "MalformedQueryString", OURS),
    (403, "MissingAuthenticationToken", DENIED),
    (400, "MissingAuthenticationTokenException", DENIED),
    (403, "RequestTimeTooSkewed", SIGN_AGAIN),
    (403, "RequestInTheFuture", SIGN_AGAIN),
    # Throttling by all its names, with statuses from _retry.json and the models: 400, 403, 429, 502, 503, 509.
    (400, "Throttling", THROTTLED),
    (429, "ThrottledException", THROTTLED),
    (400, "RequestThrottledException", THROTTLED),
    (403, "RequestThrottled", THROTTLED),
    (502, "EC2ThrottledException", THROTTLED),
    (503, "EC2ThrottledException", THROTTLED),
    (400, "KMSThrottlingException", THROTTLED),
    (400, "KmsThrottled", THROTTLED),
    (400, "KMS.ThrottlingException", THROTTLED),
    (400, "DependentServiceRequestThrottlingFault", THROTTLED),
    (400, "throttlingException", THROTTLED),
    (400, "TooManyRequestsException", THROTTLED),
    (429, "TooManyRequests", THROTTLED),
    (429, "TooManyRequestException", THROTTLED),
    (400, "TooManyRequestedAttributes", OURS),
    (400, "ProvisionedThroughputExceededException", THROTTLED),
    (400, "TransactionInProgressException", THROTTLED),
    (400, "RequestLimitExceeded", THROTTLED),
    (503, "RequestLimitExceeded", THROTTLED),
    (509, "BandwidthLimitExceeded", THROTTLED),
    (503, "SlowDown", THROTTLED),
    (400, "SlowDownException", THROTTLED),
    (400, "PriorRequestNotComplete", THROTTLED),
    (400, "RateLimitExceededException", THROTTLED),
    (429, "CallRateLimitExceededException", THROTTLED),
    (400, "ClientLimitExceededException", THROTTLED),
    (400, "ConnectionLimitExceededException", THROTTLED),
    (429, "SomethingNew", THROTTLED),
    (509, "SomethingNew", THROTTLED),
    # A rate in some services, a number of resources in most; 403, 409, 410 and 412 only ever mean the latter.
    (400, "LimitExceededException", (RETRY, 3, True, CALLER)),
    (429, "LimitExceededException", (RETRY, 3, True, CALLER)),
    (400, "limitExceededException", (RETRY, 3, True, CALLER)),
    (403, "LimitExceededException", OURS),
    (409, "LimitExceededException", OURS),
    (410, "LimitExceededException", OURS),
    (412, "LimitExceededException", OURS),
    # Quotas.
    (400, "ServiceQuotaExceededException", OURS),
    (402, "ServiceQuotaExceededException", OURS),
    (429, "ServiceQuotaExceededException", OURS),
    (429, "ResourceQuotaExceededException", OURS),
    (403, "DBClusterQuotaExceededFault", OURS),
    (400, "serviceQuotaExceededException", OURS),
    (400, "LimitExceeded", OURS),
    (400, "ClusterLimitExceededException", OURS),
    # S3.
    (500, "InternalError", PASSES),
    (503, "ServiceUnavailable", PASSES),
    (400, "RequestTimeout", PASSES),
    (409, "OperationAborted", IN_THE_WAY),
    (409, "ConditionalRequestConflict", IN_THE_WAY),
    (412, "PreconditionFailed", OURS),
    (400, "BadDigest", (RETRY, 2, False, CALLER)),
    (400, "ExpiredToken", EXPIRED),
    (400, "InvalidToken", EXPIRED),
    (400, "TokenRefreshRequired", EXPIRED),
    (403, "InvalidAccessKeyId", EXPIRED),
    (403, "SignatureDoesNotMatch", DENIED),
    (403, "AllAccessDisabled", DENIED),
    (403, "InvalidObjectState", DENIED),
    (404, "NoSuchBucket", OURS),
    (404, "NoSuchKey", OURS),
    (409, "BucketAlreadyOwnedByYou", OURS),
    (409, "BucketNotEmpty", OURS),
    (400, "EntityTooLarge", OURS),
    (400, "InvalidDigest", OURS),
    (405, "MethodNotAllowed", OURS),
    (416, "InvalidRange", OURS),
    (301, "PermanentRedirect", OURS),
    (501, "NotImplemented", (FAIL, None, False, PEER)),
    # DynamoDB: "OK to retry?"
    (500, "InternalServerError", PASSES),
    (400, "ConditionalCheckFailedException", OURS),
    (400, "ItemCollectionSizeLimitExceededException", OURS),
    (400, "ReplicatedWriteConflictException", IN_THE_WAY),
    (400, "TransactionConflictException", IN_THE_WAY),
    (400, "TransactionCanceledException", OURS),
    (400, "IdempotentParameterMismatchException", OURS),
    (400, "ResourceInUseException", OURS),
    (400, "ResourceNotFoundException", OURS),
    # STS.
    (400, "IDPCommunicationError", (RETRY, 3, False, PEER)),
    (400, "InvalidIdentityToken", EXPIRED),
    (403, "IDPRejectedClaim", DENIED),
    (400, "MalformedPolicyDocument", OURS),
    (400, "PackedPolicyTooLarge", OURS),
    (403, "RegionDisabledException", DENIED),
    # EC2, SNS, Cognito, ElastiCache.
    (401, "AuthFailure", EXPIRED),
    (403, "UnauthorizedOperation", DENIED),
    (400, "UnauthorizedOperation", DENIED),
    (403, "AuthorizationError", DENIED),
    (400, "AuthorizationErrorException", DENIED),
    (400, "NotAuthorizedException", DENIED),
    (408, "InvalidCredentialsException", DENIED),
    (400, "InvalidInstanceID.NotFound", OURS),
    (503, "Unavailable", PASSES),
    # Changes that meet.
    (409, "ConcurrentModificationException", (RETRY, 3, False, CALLER)),
    (400, "ConcurrentModificationException", (RETRY, 3, False, CALLER)),
    (409, "RetryableConflictException", IN_THE_WAY),
    (409, "ConflictException", OURS),
    # Lambda: Invoke.
    (500, "ServiceException", PASSES),
    (429, "TooManyRequestsException", THROTTLED),
    (409, "ResourceConflictException", OURS),
    (413, "RequestTooLargeException", OURS),
    (415, "UnsupportedMediaTypeException", OURS),
    (502, "EC2UnexpectedException", PASSES),
    (502, "ENINotReadyException", PASSES),
    (502, "ResourceNotReadyException", PASSES),
    (408, "SnapStartTimeoutException", PASSES),
    (502, "EC2AccessDeniedException", DENIED),
    (502, "KMSAccessDeniedException", DENIED),
    (502, "ENILimitReachedException", OURS),
    (502, "InvalidRuntimeException", OURS),
    (502, "InvalidSecurityGroupIDException", OURS),
    (502, "InvalidSubnetIDException", OURS),
    (502, "InvalidZipFileException", OURS),
    (502, "KMSDisabledException", OURS),
    (502, "KMSInvalidStateException", OURS),
    (502, "KMSNotFoundException", OURS),
    (502, "SubnetIPAddressLimitReachedException", OURS),
    # Bedrock Runtime.
    (429, "ModelNotReadyException", (RETRY, 5, True, PEER)),
    (424, "ModelNotReadyException", (RETRY, 5, True, PEER)),
    (408, "ModelTimeoutException", (RETRY, 2, False, PEER)),
    (424, "ModelStreamErrorException", PASSES),
    (424, "ModelErrorException", (FAIL, None, False, PEER)),
    (500, "InternalServerException", PASSES),
    (503, "ServiceUnavailableException", PASSES),
    # Event streams (Bedrock, Lex, Kinesis, SageMaker, CloudWatch Logs, Polly), all of which botocore calls 400.
    (400, "InternalServerException", PASSES),
    (400, "internalServerException", PASSES),
    (400, "InternalFailureException", PASSES),
    (400, "internalFailureException", PASSES),
    (400, "ServiceUnavailableException", PASSES),
    (400, "serviceUnavailableException", PASSES),
    (400, "BadGatewayException", PASSES),
    (400, "badGatewayException", PASSES),
    (400, "InternalStreamFailure", PASSES),
    (400, "InternalStreamingException", PASSES),
    (400, "ServiceFailureException", PASSES),
    (400, "modelStreamErrorException", PASSES),
    (400, "modelTimeoutException", (RETRY, 2, False, PEER)),
    (400, "modelNotReadyException", (RETRY, 5, True, PEER)),
    (400, "accessDeniedException", DENIED),
    (400, "validationException", OURS),
    (400, "conflictException", OURS),
    # Any 5xx, and any other 4xx.
    (500, "SomethingNew", PASSES),
    (502, "SomethingNew", PASSES),
    (503, "SomethingNew", PASSES),
    (504, "SomethingNew", PASSES),
    (400, "SomethingNew", OURS),
    (404, "SomethingNew", OURS),
]

CANCELED = "Transaction cancelled, please refer cancellation reasons for specific reasons "
# status, code if there is one, message.
WORDS: list[tuple[int, str | None, str, Expected]] = [
    (400, "TransactionCanceledException", CANCELED + "[ConditionalCheckFailed]", OURS),
    (400, "TransactionCanceledException", CANCELED + "[None, ConditionalCheckFailed, TransactionConflict, ThrottlingError]", OURS),
    (400, "TransactionCanceledException", CANCELED + "[ProvisionedThroughputExceeded, ConditionalCheckFailed]", OURS),
    (400, "TransactionCanceledException", CANCELED + "[TransactionConflict, None]", IN_THE_WAY),
    (400, "TransactionCanceledException", CANCELED + "[None, ProvisionedThroughputExceeded]", THROTTLED),
    (400, "TransactionCanceledException", CANCELED + "[ThrottlingError]", THROTTLED),
    (400, "TransactionCanceledException", CANCELED + "[ValidationError]", OURS),
    (400, "ValidationException", "1 validation error detected: Value null at 'provisionedThroughput' failed to satisfy constraint", OURS),
    (429, "ThrottlingException", "Too many tokens per day, please wait before trying again.", OURS),
    (429, "ThrottlingException", "Too many tokens, please wait before trying again.", THROTTLED),
    (403, "SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided.", DENIED),
    (400, "InvalidSignatureException", "The request signature we calculated does not match the signature you provided.", DENIED),
    (403, "SignatureDoesNotMatch", "Signature expired: 20260101T000000Z is now earlier than 20260101T001000Z", SIGN_AGAIN),
    (400, "InvalidSignatureException", "Signature expired: 20260101T000000Z is now earlier than 20260101T001000Z", SIGN_AGAIN),
    (403, "InvalidSignatureException", "Signature not yet current: 20260101T001000Z is still later than ...", SIGN_AGAIN),
    # Where there is no code: from XML, or copied into an error.
    (403, None, "The security token included in the request is expired", EXPIRED),
    (403, None, "The security token included in the request is invalid.", EXPIRED),
    (400, None, "The provided token has expired.", EXPIRED),
    (503, None, "Server error '503 Slow Down' for url 'https://bucket.s3.amazonaws.com/key'", THROTTLED),
    (503, None, "Please reduce your request rate.", THROTTLED),
    (503, None, "Server error '503 Service Unavailable' for url 'https://bucket.s3.amazonaws.com/key'", PASSES),
]

URL = "https://sqs.eu-west-1.amazonaws.com/"
UNTRUSTED = ssl.SSLCertVerificationError(1, "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate")
ERRORS: list[tuple[Exception, Expected, Phase]] = [
    (exceptions.EndpointConnectionError(endpoint_url=URL, error=OSError()), PASSES, Phase.NOT_SENT),
    (exceptions.ConnectTimeoutError(endpoint_url=URL, error=OSError()), PASSES, Phase.NOT_SENT),
    (exceptions.ProxyConnectionError(proxy_url="http://proxy:3128", error=OSError()), PASSES, Phase.NOT_SENT),
    (exceptions.ConnectionError(error=OSError()), PASSES, Phase.UNKNOWN),
    (exceptions.SSLError(endpoint_url=URL, error=ssl.SSLError("EOF occurred in violation of protocol")), PASSES, Phase.UNKNOWN),
    (exceptions.SSLError(endpoint_url=URL, error=UNTRUSTED), (FAIL, None, False, PEER), Phase.UNKNOWN),
    (exceptions.ReadTimeoutError(endpoint_url=URL, error=OSError()), PASSES, Phase.UNKNOWN),
    (exceptions.ConnectionClosedError(endpoint_url=URL, error=OSError()), PASSES, Phase.UNKNOWN),
    (exceptions.ResponseStreamingError(error=OSError()), PASSES, Phase.UNKNOWN),
    (exceptions.HTTPClientError(error=OSError()), PASSES, Phase.UNKNOWN),
    (exceptions.IncompleteReadError(actual_bytes=1, expected_bytes=2), PASSES, Phase.UNKNOWN),
    (exceptions.ChecksumError(checksum_type="crc32", expected_checksum=1, actual_checksum=2), PASSES, Phase.UNKNOWN),
    (exceptions.FlexibleChecksumError(error_msg="..."), PASSES, Phase.UNKNOWN),
    (exceptions.CredentialRetrievalError(provider="iam-role", error_msg="..."), (RETRY, 2, False, CREDENTIAL), Phase.NOT_SENT),
    (exceptions.NoCredentialsError(), DENIED, Phase.UNKNOWN),
    (exceptions.PartialCredentialsError(provider="env", cred_var="AWS_SECRET_ACCESS_KEY"), DENIED, Phase.UNKNOWN),
    (exceptions.NoAuthTokenError(), DENIED, Phase.UNKNOWN),
    (exceptions.TokenRetrievalError(provider="sso", error_msg="..."), DENIED, Phase.UNKNOWN),
    (exceptions.UnauthorizedSSOTokenError(), DENIED, Phase.UNKNOWN),
    (exceptions.SSOTokenLoadError(error_msg="..."), DENIED, Phase.UNKNOWN),
    (exceptions.LoginRefreshRequired(), DENIED, Phase.UNKNOWN),
    (exceptions.ParamValidationError(report="..."), OURS, Phase.UNKNOWN),
    (exceptions.NoRegionError(), OURS, Phase.UNKNOWN),
    (exceptions.UnknownServiceError(service_name="s4", known_service_names="s3"), OURS, Phase.UNKNOWN),
    (exceptions.WaiterError(name="bucket_exists", reason="Max attempts exceeded", last_response={}), OURS, Phase.UNKNOWN),
    (exceptions.InvalidProxiesConfigError(error=OSError()), OURS, Phase.UNKNOWN),
]


def client_error(status: int | None, code: str | None, message: str = "for people", headers: dict[str, str] | None = None) -> Exception:
    """As botocore makes it of an answer in any of the protocols, XML included."""
    metadata = {"RequestId": "1", "HTTPStatusCode": status, "HTTPHeaders": headers or {}, "RetryAttempts": 0}
    error: Exception = exceptions.ClientError({"Error": {"Code": code, "Message": message}, "ResponseMetadata": metadata}, "DescribeThings")
    return error


def response(status: int, code: str | None, message: str = "for people") -> httpx2.Response:
    """As the JSON protocols bring it."""
    typed = {} if code is None else {"__type": f"com.amazon.coral.service#{code}"}
    return httpx2.Response(status, content=json.dumps({**typed, "message": message}).encode())


def rest_response(status: int, code: str | None, message: str = "for people") -> httpx2.Response:
    """As the REST protocol with JSON brings it: Lambda, Bedrock, API Gateway ..."""
    headers = {} if code is None else {"x-amzn-ErrorType": f"{code}:http://internal.amazon.com/coral/com.amazon.coral.service/"}
    return httpx2.Response(status, headers=headers, content=json.dumps({"message": message}).encode())


def judged(verdict: Verdict) -> Expected:
    return verdict.action, verdict.attempts, verdict.throttled, verdict.blames


def met(outcome: object) -> Verdict:
    return aws.RULES.classify(read(outcome, wall=0))


@pytest.mark.parametrize(("status", "code", "expected"), CODES)
def test_each_code_means_what_its_page_says_by_botocore_and_by_http(status: int, code: str, expected: Expected) -> None:
    assert expected == judged(met(client_error(status, code)))
    assert expected == judged(met(response(status, code)))
    assert expected == judged(met(rest_response(status, code)))


@pytest.mark.parametrize(("status", "code", "message", "expected"), WORDS)
def test_where_the_code_does_not_tell_the_words_do(status: int, code: str | None, message: str, expected: Expected) -> None:
    assert expected == judged(met(client_error(status, code, message)))
    assert expected == judged(met(response(status, code, message)))
    assert expected == judged(met(rest_response(status, code, message)))


@pytest.mark.parametrize(
    ("error", "expected", "phase"), ERRORS, ids=lambda value: type(value).__name__ if isinstance(value, Exception) else ""
)
def test_botocore_s_own_errors_are_known_by_name(error: Exception, expected: Expected, phase: Phase) -> None:
    """D28; a write whose connection was never made is repeated, and one that may have arrived is not."""
    assert expected == judged(met(error))
    assert phase is read(error).phase


def test_every_entry_of_the_table_is_expected_by_a_line_of_this_file() -> None:
    reached = {met(client_error(status, code)).rule for status, code, _ in CODES}
    reached |= {met(client_error(status, code, message)).rule for status, code, message, _ in WORDS}
    reached |= {met(error).rule for error, *_ in ERRORS}
    rules = aws.RULES
    entries = [
        entry for table in (rules.by_code, rules.by_message, rules.by_kind, rules.by_status, rules.by_error) for entry in table.values()
    ]

    assert set() == {entry.rule for entry in entries if entry.rule.startswith("aws: ")} - reached


# What botocore repeats, asked of the botocore that is installed.


def test_whatever_botocore_s_standard_mode_calls_throttling_is_throttled_here() -> None:
    for code in standard.ThrottledRetryableChecker._THROTTLED_ERROR_CODES:
        for status in (400, 429, 503):
            verdict = met(client_error(status, code))
            assert (RETRY, True) == (verdict.action, verdict.throttled), code


def test_whatever_botocore_s_standard_mode_calls_transient_is_repeated_here() -> None:
    for code in standard.TransientRetryableChecker._TRANSIENT_ERROR_CODES:
        assert RETRY is met(client_error(400, code)).action, code
    for status in standard.TransientRetryableChecker._TRANSIENT_STATUS_CODES:
        assert RETRY is met(client_error(status, "SomethingNew")).action, status
    for kind in standard.TransientRetryableChecker._TRANSIENT_EXCEPTION_CLS:
        assert RETRY is met(kind(error=OSError())).action, kind
    assert "sts" == special.RetryIDPCommunicationError._SERVICE_NAME
    assert RETRY is met(client_error(400, "IDPCommunicationError")).action


def test_whatever_botocore_s_legacy_mode_repeats_is_repeated_here() -> None:
    config: dict[str, Any] = Loader().load_data("_retry")
    asked = []
    for name, service in config["retry"].items():
        for policy in (service if name == "__default__" else service["__default__"])["policies"].values():
            rule = config["definitions"][policy["$ref"].rpartition("/")[2]] if "$ref" in policy else policy
            answer = rule["applies_when"].get("response", {})
            if "http_status_code" in answer:  # else connection errors, and a checksum that only the client can compare
                asked.append((answer["http_status_code"], answer.get("service_error_code", "SomethingNew")))

    assert len(asked) > 20
    assert [] == [one for one in asked if RETRY is not met(client_error(*one)).action]


@pytest.mark.parametrize("service", ["bedrock-runtime", "dynamodb", "kinesis", "lambda", "sqs", "sagemaker-runtime", "sns"])
def test_what_a_service_s_model_calls_retryable_is_repeated_here(service: str) -> None:
    shapes = Loader().load_service_model(service, "service-2")["shapes"]
    marked = {name: shape for name, shape in shapes.items() if "retryable" in shape and shape.get("exception")}

    for name, shape in marked.items():
        told = shape.get("error", {})
        verdict = met(client_error(told.get("httpStatusCode", 400), told.get("code", name)))
        assert RETRY is verdict.action, name
        assert verdict.throttled or not shape["retryable"].get("throttling"), name


@pytest.mark.parametrize("service", ["bedrock-runtime", "dynamodb", "ebs", "emr-containers", "kinesis", "lambda", "sns", "sqs"])
def test_in_a_service_s_model_only_throttling_goes_by_that_name(service: str) -> None:
    """The patterns hold for what the models name, by its code on the wire."""
    shapes = Loader().load_service_model(service, "service-2")["shapes"]
    codes = {shape.get("error", {}).get("code", name) for name, shape in shapes.items() if shape.get("exception") or "error" in shape}
    named = {code for code in codes if "throttl" in code.lower()}

    assert named
    assert named <= {code for code in codes if met(client_error(400, code)).throttled}


# What is not the table's alone.


def test_a_code_without_a_status_is_known_too() -> None:
    """Records and items of a batch are refused one by one: Kinesis PutRecords, DynamoDB's cancellation reasons."""
    for code in ("ProvisionedThroughputExceededException", "ThrottlingError", "ProvisionedThroughputExceeded"):
        assert aws.RULES.classify(Signal(code=code)).throttled

    assert OURS == judged(aws.RULES.classify(Signal(code="ConditionalCheckFailed")))


def test_what_answers_head_has_no_code_so_the_status_decides() -> None:
    """botocore gives the status for one."""
    assert "http: status 403" == met(client_error(403, "403", "Forbidden")).rule
    assert "http: status 4xx" == met(client_error(404, "404", "Not Found")).rule
    assert "http: status 5xx" == met(client_error(503, "503", "Service Unavailable")).rule


def test_an_error_in_the_middle_of_a_stream_may_have_had_effects() -> None:
    metadata = {"ResponseMetadata": {"HTTPStatusCode": 400, "HTTPHeaders": {}}}
    error = exceptions.EventStreamError({"Error": {"Code": "modelStreamErrorException", "Message": "..."}, **metadata}, "ConverseStream")

    assert (RETRY, Phase.UNKNOWN) == (met(error).action, read(error).phase)


@pytest.mark.parametrize(
    ("method", "path", "repeatable"),
    [
        ("POST", "/model/anthropic.claude-v2/converse", True),
        ("POST", "/model/arn:aws:bedrock:eu-west-1:1:provisioned-model%2Fabc/invoke", True),
        ("POST", "/model/m/converse-stream", True),
        ("POST", "/model/m/invoke-with-response-stream", True),
        ("POST", "/model/m/count-tokens", True),
        ("POST", "/model/m/async-invoke", False),
        ("POST", "/agents/a/agentAliases/b/sessions/c/text", False),
        ("POST", "/2015-03-31/functions/f/invocations", False),
        ("POST", "/", False),
        ("PUT", "/model/m/converse", False),
    ],
)
def test_asking_a_model_creates_nothing(method: str, path: str, *, repeatable: bool) -> None:
    assert aws.RULES.creates_nothing is not None
    assert repeatable is aws.RULES.creates_nothing(method, path)
