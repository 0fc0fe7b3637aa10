"""hub/status.py: the Status table of facts/style.md §5.6 with the precisions P2 and P11."""

from __future__ import annotations

import inspect
import json

import pytest

from hub import errors, status
from proto.errors import Code

ALL_ERRORS = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, errors.HubError) and kind is not errors.HubError
]


@pytest.mark.parametrize("kind", ALL_ERRORS, ids=lambda kind: kind.__name__)
def test_every_error_is_a_status_that_kubectl_understands(kind: type[errors.HubError]) -> None:
    answer = status.answer(kind())
    body = json.loads(answer.body)
    assert answer.status == body["code"] == kind.http_status
    assert answer.status not in (500, 502) or kind is errors.InternalError
    assert (body["kind"], body["apiVersion"], body["status"]) == ("Status", "v1", "Failure")
    assert body["reason"] == kind.reason
    assert body["message"]


def test_details_name_the_object_and_the_causes() -> None:
    error = errors.Invalid("no", kind="clusters", name="a", causes=[errors.Cause("name", "too long")])
    details = json.loads(status.answer(error).body)["details"]
    assert details == {
        "kind": "clusters",
        "name": "a",
        "causes": [{"field": "name", "message": "too long", "reason": "FieldValueInvalid"}],
    }


def test_a_token_given_for_a_name_comes_back_without_its_secret() -> None:
    error = errors.NotFound("there is no such token", kind="tokens", name=f"riata_{'a' * 10}_{'f' * 64}")
    assert json.loads(status.answer(error).body)["details"]["name"] == "riata_aaaaaaaaaa_[redacted]"


def test_retry_after_is_header_and_detail() -> None:
    answer = status.answer(errors.TooManyRequests())
    assert ("retry-after", "1") in answer.headers
    assert json.loads(answer.body)["details"] == {"retryAfterSeconds": 1}


def test_an_internal_error_names_the_request_and_nothing_else() -> None:
    assert b"request abc" in status.answer(errors.InternalError(), request_id="abc").body
    assert b"abc" not in status.answer(errors.Timeout(), request_id="abc").body


def fate(*, mutation: bool = False, delivered: bool = True, recent: bool = True) -> status.Fate:
    return status.Fate(is_mutation=mutation, is_delivered=delivered, is_recent_loss=recent)


@pytest.mark.parametrize("code", list(Code))
def test_a_delivered_mutation_is_never_repeated_by_a_client(code: Code) -> None:
    """P2: client-go repeats any verb on a 5xx or 429 with Retry-After."""
    error = status.stream_lost(code, fate(mutation=True, delivered=True))
    executed_nothing = code in (Code.REFUSED, Code.DRAINING)
    assert (error.retry_after_s is None) or executed_nothing


@pytest.mark.parametrize("code", list(Code))
def test_no_stream_code_becomes_502(code: Code) -> None:
    for mutation in (True, False):
        for delivered in (True, False):
            error = status.stream_lost(code, fate(mutation=mutation, delivered=delivered))
            assert error.http_status in (403, 413, 429, 500, 503, 504)


@pytest.mark.parametrize(
    ("code", "mutation", "expected"),
    [
        (Code.SESSION_LOST, False, 503),
        (Code.SESSION_LOST, True, 504),
        (Code.UPSTREAM, False, 503),
        (Code.UPSTREAM, True, 504),
        (Code.KUBE_UNAUTHORIZED, False, 503),
        (Code.DIAL_REFUSED, True, 503),
        (Code.DIAL_TIMEOUT, False, 504),
        (Code.FORBIDDEN, False, 403),
        (Code.OVERLOADED, False, 429),
        (Code.OVERLOADED, True, 504),
        (Code.PROTOCOL, False, 500),
        (Code.TOO_BIG, True, 413),
    ],
)
def test_the_table(code: Code, mutation: bool, expected: int) -> None:
    assert status.stream_lost(code, fate(mutation=mutation)).http_status == expected


def test_a_refusal_by_a_living_agent_is_a_limit() -> None:
    busy = status.Fate(is_mutation=True, is_delivered=False, is_recent_loss=False, is_busy=True)
    error = status.stream_lost(Code.REFUSED, busy)
    assert (error.http_status, error.retry_after_s) == (429, 1)
    assert status.stream_lost(Code.DRAINING, busy).http_status == 503


def test_unknown_outcome_says_so() -> None:
    assert "outcome unknown" in status.stream_lost(Code.SESSION_LOST, fate(mutation=True)).message


@pytest.mark.parametrize(("recent", "expected"), [(True, 1), (False, None)])
def test_a_disconnected_cluster_is_worth_a_retry_only_for_a_while(recent: bool, expected: int | None) -> None:
    assert status.no_tunnel("a", is_recent_loss=recent).retry_after_s == expected


def test_a_name_is_cut_before_it_is_looked_through() -> None:
    """It comes in the path, of 56 KiB, and looking for secrets in it would hold the loop."""
    error = errors.NotFound("there is none", kind="tokens", name="x-auth-" * 8_000)
    assert len(json.loads(status.answer(error).body)["details"]["name"]) == status.NAME_MAX
