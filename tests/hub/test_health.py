"""Health through the API's world is in tests/hub/api/test_server.py; here the handlers alone."""

from hub import health
from hub.api.routes import Who


def test_nothing_here_asks_for_a_token_or_changes_anything() -> None:
    assert {route.who for route in health.ROUTES} == {Who.ANYBODY}
    assert {route.method for route in health.ROUTES} == {"GET"}
