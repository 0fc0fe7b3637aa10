"""The agent's own token at the API server."""

import os

import pytest

from agent.errors import TokenUnavailable
from agent.relay.credential import CHECK_INTERVAL, CertificateOnly, FixedToken, TokenFile


def write(path, content, mtime):
    path.write_bytes(content)
    os.utime(path, (mtime, mtime))


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "token"
    write(path, b"one\n", 1)
    return path


def test_a_renewed_token_is_noticed_once_a_second(path):
    token = TokenFile(path)
    assert token.authorization(0.0) == b"Bearer one"
    write(path, b"two", 2)
    assert token.authorization(CHECK_INTERVAL / 2) == b"Bearer one"
    assert token.authorization(CHECK_INTERVAL) == b"Bearer two"


def test_a_refused_token_is_read_again_at_once_even_with_an_old_time_stamp(path):
    token = TokenFile(path)
    token.authorization(0.0)
    write(path, b"two", 1)
    token.refresh()
    assert token.authorization(0.0) == b"Bearer two"


def test_a_projected_volume_switches_by_symbolic_link(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "token", name.encode(), 1)
    link = tmp_path / "..data"
    link.symlink_to("a")
    (tmp_path / "token").symlink_to("..data/token")
    token = TokenFile(tmp_path / "token")
    assert token.authorization(0.0) == b"Bearer a"
    link.unlink()
    link.symlink_to("b")
    assert token.authorization(2.0) == b"Bearer b"


def test_a_file_that_is_gone_for_a_moment_leaves_the_last_token(path):
    token = TokenFile(path)
    token.authorization(0.0)
    path.unlink()
    assert token.authorization(2.0) == b"Bearer one"
    write(path, b"two", 1)
    assert token.authorization(4.0) == b"Bearer two"


@pytest.mark.parametrize("content", [b"", b"\n", b"a b", b"a\r\nX: y", b"a\x00", b"\xff", b"x" * 20_000])
def test_what_is_no_token_is_never_sent(path, content):
    write(path, content, 3)
    with pytest.raises(TokenUnavailable):
        TokenFile(path).authorization(0.0)


def test_a_missing_file(tmp_path):
    with pytest.raises(TokenUnavailable):
        TokenFile(tmp_path / "none").authorization(0.0)


def test_the_log_never_has_the_token(path, caplog):
    token = TokenFile(path)
    token.authorization(0.0)
    write(path, b"very-secret", 2)
    token.authorization(2.0)
    write(path, b"very secret", 3)
    token.authorization(4.0)
    assert "secret" not in caplog.text


def test_others():
    assert FixedToken("abc").authorization(0.0) == b"Bearer abc"
    FixedToken("abc").refresh()
    assert CertificateOnly().authorization(0.0) == b""
    CertificateOnly().refresh()
    with pytest.raises(TokenUnavailable):
        FixedToken("a b")
