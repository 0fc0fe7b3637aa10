"""proto/kubeconfig.py: fields of a kubeconfig."""

import pytest

from proto import kubeconfig


def test_base64_is_read_as_kubectl_reads_it() -> None:
    assert kubeconfig.decoded("YQ==") == kubeconfig.decoded("Y\r\nQ==\n") == b"a"
    for wrong in ("é", "Y Q==", "%"):
        with pytest.raises(ValueError):  # noqa: PT011 whichever of its kinds
            kubeconfig.decoded(wrong)


def test_a_comment_in_any_encoding_never_becomes_nothing() -> None:
    assert kubeconfig.ca_text("# Prüfstelle\n".encode("latin-1") + b"PEM") == "# Pr\\xfcfstelle\nPEM"
    assert kubeconfig.ca_text(b"\xff") == "\\xff"
