from proto import errors
from proto.errors import Code


def test_codes_are_one_number_each_and_never_change() -> None:
    assert {code.name: int(code) for code in Code} == {
        "NONE": 0,
        "PROTOCOL": 1,
        "INTERNAL": 2,
        "FLOW_CONTROL": 3,
        "CLOSED": 4,
        "REFUSED": 5,
        "CANCELLED": 6,
        "DIAL_REFUSED": 7,
        "DIAL_TIMEOUT": 8,
        "DIAL_DNS": 9,
        "DIAL_UNREACHABLE": 10,
        "IDLE": 11,
        "DRAINING": 12,
        "FORBIDDEN": 13,
        "TOO_BIG": 14,
        "OVERLOADED": 15,
        "SUPERSEDED": 16,
        "UNKNOWN_STREAM": 17,
        "UNAUTHENTICATED": 18,
        "UPSTREAM": 19,
        "KUBE_UNAUTHORIZED": 20,
        "REVOKED": 21,
        "VERSION": 22,
        "SESSION_LOST": 255,
    }


def test_unknown_and_local_codes_become_internal() -> None:
    assert errors.code_of(13) is Code.FORBIDDEN
    assert errors.code_of(999) is Code.INTERNAL
    assert errors.code_of(255) is Code.INTERNAL


def test_an_error_is_born_with_its_code() -> None:
    assert errors.ProtocolError("x").code is Code.PROTOCOL
    assert errors.ProtocolError("x", Code.TOO_BIG).code is Code.TOO_BIG
    assert errors.SessionLost().code is Code.SESSION_LOST
    assert str(errors.StreamReset("no route", Code.DIAL_UNREACHABLE)) == "DIAL_UNREACHABLE: no route"
    assert str(errors.TooManyStreams()) == "OVERLOADED"
    assert {Code.REFUSED, Code.DRAINING} == errors.UNEXECUTED
