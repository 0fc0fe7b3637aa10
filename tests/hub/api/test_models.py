"""What the models take: exact fields, exact types, names by their rules."""

from __future__ import annotations

import pydantic
import pytest

from hub.api import models


@pytest.mark.parametrize("key", ["a", "env", "example.org/team", "A.b_c-d", "x" * 63, "riata.io/x"])
def test_labels_of_the_kubernetes_form(key: str) -> None:
    assert models.ClusterRequest(name="a", labels={key: "v"}).labels == {key: "v"}


@pytest.mark.parametrize("key", ["", "-a", "a-", "/a", "a/", "a/b/c", "x" * 64, "É", "a b", "Ex.org/a", "a\n"])
def test_other_labels(key: str) -> None:
    with pytest.raises(pydantic.ValidationError):
        models.ClusterRequest(name="a", labels={key: "v"})


@pytest.mark.parametrize("text", ['{"name":"a","name2":1}', '{"name":null}', "[]", "null", '"a"', '{"Name":"a"}'])
def test_only_exact_objects(text: str) -> None:
    with pytest.raises(pydantic.ValidationError):
        models.ClusterRequest.model_validate_json(text)


def test_requests_and_answers_write_camel_case() -> None:
    made = models.TokenRequest.model_validate_json('{"name":"x","expiresInSeconds":5}')
    assert made.expires_in_seconds == 5
    with pytest.raises(pydantic.ValidationError):
        models.TokenRequest.model_validate_json('{"name":"x","expires_in_seconds":5}')
    shown = models.Version(version="1", wire_version=1, hub_id="h").model_dump_json()
    assert shown == '{"version":"1","wireVersion":1,"hubId":"h"}'


def test_a_token_is_for_as_many_clusters_as_a_hub_has() -> None:
    body = {"name": "x", "expiresInSeconds": 60, "clusters": [f"c{number}" for number in range(5000)]}
    assert models.TokenRequest.model_validate(body).clusters == body["clusters"]
    with pytest.raises(pydantic.ValidationError, match="at most 5000"):
        models.TokenRequest.model_validate({**body, "clusters": [f"c{number}" for number in range(5001)]})


def test_a_star_is_for_impersonation_only() -> None:
    assert models.Impersonation(users=["*"]).users == ["*"]
    with pytest.raises(pydantic.ValidationError):
        models.GrantRequest(name="g", user="*")
