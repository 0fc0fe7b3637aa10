"""Raw requests that have split HTTP parsers, with what the hub answers (facts/security.md §2.B).

Each row: a name, the bytes, the statuses of all responses on the connection. Every refusal is the last response.
"""

from __future__ import annotations

from tests.security.rig import AUTH, HOST, get

P = b"/k8s/clusters/c1/api"
LINE = b"GET " + P + b" HTTP/1.1\r\n"
POST = b"POST " + P + b" HTTP/1.1\r\n" + HOST + AUTH
NEXT = get()
SMUGGLED = b"GET /k8s/clusters/c1/smuggled HTTP/1.1\r\n" + HOST + AUTH + b"\r\n"
CLOSE = b"Connection: close\r\n"


def bad(*lines: bytes) -> bytes:
    """A request with these lines behind the request line, and a second request behind it."""
    return LINE + b"".join(lines) + b"\r\n" + NEXT


ROWS: list[tuple[str, bytes, list[int]]] = [
    # B1
    ("B1 HTTP/0.9", b"GET /a\r\n", [505]),
    ("B1 HTTP/0.9 with next", b"GET /a\r\n\r\n" + NEXT, [505]),
    ("B1 HTTP/2.0", b"GET " + P + b" HTTP/2.0\r\n" + HOST + AUTH + b"\r\n" + NEXT, [505]),
    ("B1 HTTP/1.2", b"GET " + P + b" HTTP/1.2\r\n" + HOST + AUTH + b"\r\n" + NEXT, [505]),
    ("B1 HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", [505]),
    # B2
    ("B2 1.0 without Host", b"GET " + P + b" HTTP/1.0\r\n" + AUTH + b"\r\n", [400]),
    (
        "B2 1.0 with TE",
        b"POST " + P + b" HTTP/1.0\r\n" + HOST + AUTH + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        [400],
    ),
    ("B2 1.0 closes", b"GET " + P + b" HTTP/1.0\r\n" + HOST + AUTH + b"Connection: keep-alive\r\n\r\n" + NEXT, [200]),
    # B3
    ("B3 gzip, chunked", POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + NEXT, [501]),
    ("B3 chunked, identity", POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", [501]),
    ("B3 xchunked", POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", [501]),
    ("B3 ,chunked", POST + b"Transfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n", [501]),
    ("B3 duplicate", POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", [400]),
    ("B3 VT", POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", [400]),
    ("B3 folded", POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", [400]),
    # B4
    ("B4 path in Host", bad(b"Host: h/../x@y\r\n", AUTH), [400]),
    ("B4 two hosts in one", bad(b"Host: a,b\r\n", AUTH), [400]),
    ("B4 port", bad(b"Host: h:99999\r\n", AUTH), [400]),
    ("B4 empty", bad(b"Host:\r\n", AUTH), [400]),
    ("B4 two headers", bad(HOST, HOST, AUTH), [400]),
    ("B4 none", bad(AUTH), [400]),
    ("B4 userinfo", bad(b"Host: u@h\r\n", AUTH), [400]),
    # B5
    ("B5 absolute form", b"GET http://evil/k8s/clusters/c1/api HTTP/1.1\r\n" + HOST + AUTH + b"\r\n" + NEXT, [400]),
    ("B5 absolute form, own host", b"GET http://hub.test" + P + b" HTTP/1.1\r\n" + HOST + AUTH + b"\r\n", [400]),
    # B6
    ("B6 OPTIONS *", b"OPTIONS * HTTP/1.1\r\n" + HOST + AUTH + b"\r\n" + NEXT, [400]),
    ("B6 CONNECT", b"CONNECT h:443 HTTP/1.1\r\n" + HOST + AUTH + b"\r\n" + NEXT, [405]),
    # B7
    ("B7 two spaces", b"GET  " + P + b" HTTP/1.1\r\n" + HOST + AUTH + b"\r\n" + NEXT, [400]),
    ("B7 tab", b"GET\t" + P + b" HTTP/1.1\r\n" + HOST + AUTH + b"\r\n" + NEXT, [400]),
    ("B7 trailing space", b"GET " + P + b" HTTP/1.1 \r\n" + HOST + AUTH + b"\r\n" + NEXT, [400]),
    ("B7 leading space", b" GET " + P + b" HTTP/1.1\r\n" + HOST + AUTH + b"\r\n" + NEXT, [400]),
    # B8
    (
        "B8 chunk extension",
        POST + b"Transfer-Encoding: chunked\r\n\r\n1;" + b"x" * 1_000_000 + b"\r\na\r\n0\r\n\r\n",
        [400],
    ),
    (
        "B8 many",
        POST + b"Transfer-Encoding: chunked\r\n\r\n" + (b"1;" + b"x" * 300 + b"\r\na\r\n") * 9 + b"0\r\n\r\n",
        [400],
    ),
    # B9
    ("B9 fragment", get(P + b"#x") + NEXT, [400]),
    ("B9 escape", get(P + b"/%zz") + NEXT, [400]),
    ("B9 backslash", get(b"/k8s/clusters/c1\\x/api") + NEXT, [400]),
    ("B9 parameter", get(b"/k8s/clusters/c1;x=1/api") + NEXT, [400]),
    ("B9 raw UTF-8", get(P + b"/\xc3\xa9") + NEXT, [400]),
    # B10
    ("B10 TRACE", b"TRACE " + P + b" HTTP/1.1\r\n" + HOST + AUTH + b"\r\n" + NEXT, [405]),
    ("B10 FOO", b"FOO " + P + b" HTTP/1.1\r\n" + HOST + AUTH + b"\r\n" + NEXT, [405]),
    ("B10 get", b"get " + P + b" HTTP/1.1\r\n" + HOST + AUTH + b"\r\n" + NEXT, [405]),
    # B11
    ("B11 pipelined", get() + get() + get(P, CLOSE), [200, 200, 200]),
    ("B11 behind close", get(P, CLOSE) + NEXT, [200]),
    ("B11 behind an error", get() + LINE + AUTH + b"\r\n" + NEXT, [200, 400]),
    # B12
    ("B12 GET with body", get(P, b"Content-Length: 10\r\n") + b"0123456789" + NEXT, [400]),
    ("B12 GET chunked", get(P, b"Transfer-Encoding: chunked\r\n") + b"0\r\n\r\n" + NEXT, [400]),
    ("B12 GET whose body is a request", get(P, b"Content-Length: %d\r\n" % len(SMUGGLED)) + SMUGGLED, [400]),
    # B13
    (
        "B13 upgrade with body",
        get(P, b"Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: %d\r\n" % len(SMUGGLED)) + SMUGGLED,
        [400],
    ),
    (
        "B13 upgrade with TE",
        POST + b"Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        [400],
    ),
    # B14
    ("B14 unknown expectation", POST + b"Expect: foo\r\nContent-Length: 1\r\n\r\nx" + NEXT, [417]),
    # B15
    ("B15 two empty lines", b"\r\n\r\n" + get(P, CLOSE), [200]),
    ("B15 three empty lines", b"\r\n\r\n\r\n" + get(P, CLOSE), [400]),
    ("B15 a million empty lines", b"\r\n" * 1_000_000 + NEXT, [400]),
    ("B15 bare LFs", b"\n\n" + NEXT, [400]),
    # Content-Length and Transfer-Encoding, after aiohttp's regressions and http-garden
    ("CL+TE", POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + NEXT, [400]),
    ("TE+CL", POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + NEXT, [400]),
    ("CL twice, same", POST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc" + NEXT, [400]),
    ("CL twice, different", POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd" + NEXT, [400]),
    ("CL list", POST + b"Content-Length: 3, 3\r\n\r\nabc" + NEXT, [400]),
    ("CL +3", POST + b"Content-Length: +3\r\n\r\nabc" + NEXT, [400]),
    ("CL 0x3", POST + b"Content-Length: 0x3\r\n\r\nabc" + NEXT, [400]),
    ("CL 1_0", POST + b"Content-Length: 1_0\r\n\r\n0123456789" + NEXT, [400]),
    ("CL -1", POST + b"Content-Length: -1\r\n\r\n" + NEXT, [400]),
    ("CL overflow", POST + b"Content-Length: 18446744073709551619\r\n\r\nabc" + NEXT, [400]),
    ("CL empty", POST + b"Content-Length:\r\n\r\n" + NEXT, [400]),
    ("chunk 0x3", POST + b"Transfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n" + NEXT, [400]),
    ("chunk +3", POST + b"Transfer-Encoding: chunked\r\n\r\n+3\r\nabc\r\n0\r\n\r\n" + NEXT, [400]),
    ("chunk '3 '", POST + b"Transfer-Encoding: chunked\r\n\r\n3 \r\nabc\r\n0\r\n\r\n" + NEXT, [400]),
    ("chunk bare LF", POST + b"Transfer-Encoding: chunked\r\n\r\n3\nabc\n0\n\n" + NEXT, [400]),
    ("chunk without CRLF", POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc0\r\n\r\n" + NEXT, [400]),
    ("chunk 2^64", POST + b"Transfer-Encoding: chunked\r\n\r\n10000000000000003\r\nabc\r\n0\r\n\r\n" + NEXT, [400]),
    ("chunk LF in extension", POST + b"Transfer-Encoding: chunked\r\n\r\n3;a\nb\r\nabc\r\n0\r\n\r\n" + NEXT, [400]),
    # Header syntax
    ("space before colon", bad(HOST, AUTH, b"X : y\r\n"), [400]),
    ("obs-fold", bad(HOST, AUTH, b"X: y\r\n z\r\n"), [400]),
    ("first header with leading space", bad(b" X: y\r\n", HOST, AUTH), [400]),
    ("bare LF", bad(HOST, AUTH, b"X: y\nZ: z\r\n"), [400]),
    ("bare CR", bad(HOST, AUTH, b"X: y\rZ: z\r\n"), [400]),
    ("NUL", bad(HOST, AUTH, b"X: a\x00b\r\n"), [400]),
    ("VT", bad(HOST, AUTH, b"X: a\x0bb\r\n"), [400]),
    ("non-ASCII name", bad(HOST, AUTH, b"X\xe9: a\r\n"), [400]),
    ("empty name", bad(HOST, AUTH, b": a\r\n"), [400]),
    ("no colon", bad(HOST, AUTH, b"abc\r\n"), [400]),
    ("CR as terminator", LINE.replace(b"\r\n", b"\r") + HOST + AUTH + b"\r\n", [400]),
    ("head ended by CR LF CR X", LINE + HOST + AUTH + b"\r\rX: y\r\n\r\n", [400]),
    ("all LF", b"GET " + P + b" HTTP/1.1\nHost: h\n\n" + NEXT, [400]),
    ("257 fields", bad(HOST, AUTH, b"X: y\r\n" * 256), [431]),
    ("field of 16 KiB", bad(HOST, AUTH, b"X: " + b"y" * 16_384 + b"\r\n"), [431]),
    ("head of 56 KiB", bad(HOST, AUTH, (b"X: " + b"y" * 8_000 + b"\r\n") * 8), [431]),
    ("endless head", LINE + HOST + AUTH + b"X: y\r\n" * 20_000, [431]),
]
