"""What front servers say about a request. `fronts/` holds what real ones sent, set by set."""

import string
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.wire import PeerError, cgi_request
from gateway.wire.cgi_env import variables
from gateway.wire.cgi_request import Asked, asked

Params = dict[bytes, bytes]

PEER = ("198.51.100.9", 50000)
LOCAL = ("198.51.100.1", 9000)

FRONTS = {
    f"{file.stem} {('POST', 'GET')[number]}": dict(
        line.split(b"=", 1) for line in block.splitlines()
    )
    for file in sorted((Path(__file__).parent / "fronts").glob("*.env"))
    for number, block in enumerate(file.read_bytes().split(b"\n\n"))
}
"""nginx 1.22, Apache 2.4.68, lighttpd 1.4.69, Caddy 2.6.2 and HAProxy 2.6, each asked with curl for

POST PREFIX/a.cgi/x%20y/z%25%C3%BC?q=1&r=%20 with Authorization, Cookie, Proxy and X_Odd, and
GET PREFIX/a.cgi of Host www.example.org:8080, PREFIX being /cgi-bin, /split or /scgi.
"""


def ask(changes: Mapping[bytes, bytes] = {}, *, trusted: bool = True, **more: Any) -> Asked:
    """What a plain GET of /a.cgi with these changes asks for."""
    params = {b"REQUEST_METHOD": b"GET", b"SCRIPT_NAME": b"/a.cgi", **changes}
    return asked(params, trusted=trusted, **({"peer": PEER, "local": LOCAL} | more))


def shown(params: Params, *, trusted: bool = True, authorization: bool = False) -> Params:
    """The variables that a program gets which its front server named by SCRIPT_FILENAME."""
    found = asked(params, trusted=trusted, peer=PEER, local=LOCAL)
    return variables(
        method=found.method,
        request_uri=found.target,
        query=found.query,
        protocol=found.protocol,
        headers=found.headers,
        length=found.length,
        script_name=params.get(b"SCRIPT_NAME", b""),
        path_info=params.get(b"PATH_INFO", b""),
        document_root=params.get(b"DOCUMENT_ROOT", b""),
        script_filename=params.get(b"SCRIPT_FILENAME", b""),
        scheme=found.scheme,
        server_name=found.host,
        server_port=found.local[1],
        server_address=found.local[0],
        remote_address=found.remote[0],
        remote_port=found.remote[1],
        software=b"gateway/0.1.0",
        authorization=authorization,
        request_id="0a1b2c",
        params=found.params,
    )


# -- real front servers ----------------------------------------------------------------------


def test_all_the_fronts_are_there() -> None:
    assert len(FRONTS) == 18
    for name in ("nginx", "apache", "lighttpd", "caddy", "haproxy"):
        assert any(front.startswith(name) for front in FRONTS)


@pytest.mark.parametrize("front", FRONTS)
def test_path_query_host_and_length_of_every_front(front: str) -> None:
    params = FRONTS[front]
    found = asked(params, trusted=True, peer=PEER, local=LOCAL)
    uri = params[b"REQUEST_URI"]
    prefix = uri[: uri.index(b"/a.cgi")]
    assert found.target == uri
    if front.endswith("POST"):
        assert found.method == "POST"
        assert found.path == prefix + b"/a.cgi/x%20y/z%25%C3%BC"
        assert found.query == b"q=1&r=%20"
        assert found.host == b"127.0.0.1"
        assert found.length == 3
        assert (b"content-type", b"application/x-www-form-urlencoded") in found.headers
        assert (b"cookie", b"a=1") in found.headers
    else:
        assert (found.method, found.path, found.query) == ("GET", prefix + b"/a.cgi", b"")
        assert found.host == b"www.example.org"
        assert found.length == 0
    assert found.protocol == b"HTTP/1.1"
    assert found.scheme == b"http"
    assert found.remote == ("127.0.0.1", int(params[b"REMOTE_PORT"]))
    address = "127.0.0.1" if b"SERVER_ADDR" in params else ""
    assert found.local == (address, int(params[b"SERVER_PORT"]))
    assert b"evil" not in b" ".join(value for _, value in found.headers)


@pytest.mark.parametrize("front", FRONTS)
def test_header_fields_come_once_each(front: str) -> None:
    found = asked(FRONTS[front], trusted=True, peer=PEER, local=LOCAL)
    names = [name for name, _ in found.headers]
    assert len(names) == len(set(names))


# -- variables -> request -> variables -------------------------------------------------------

OF_THE_CONNECTION = frozenset(
    b"HTTP_CONNECTION HTTP_EXPECT HTTP_HTTP2_SETTINGS HTTP_KEEP_ALIVE HTTP_PROXY_CONNECTION HTTP_TE"
    b" HTTP_TRAILER HTTP_TRANSFER_ENCODING HTTP_UPGRADE".split()
)
SECRET = frozenset((b"HTTP_AUTHORIZATION", b"HTTP_PROXY_AUTHORIZATION"))
NAME = frozenset(string.ascii_letters.encode() + b"_0123456789")
FIELD_NAME = frozenset(string.ascii_uppercase.encode() + b"_0123456789")
STEERING = (b"LD_", b"DYLD_", b"PYTHON", b"PERL5", b"BASH_FUNC_", b"MALLOC_")
STEERING_NAMES = frozenset((b"PATH", b"IFS", b"ENV", b"BASH_ENV", b"TMPDIR", b"NODE_OPTIONS"))
FROM_THE_REQUEST = frozenset(
    b"REQUEST_METHOD REQUEST_URI QUERY_STRING SCRIPT_NAME SCRIPT_FILENAME PATH_INFO"
    b" DOCUMENT_ROOT".split()
)


def kept(params: Params, authorization: bool) -> Params:
    """What must come back of trusted variables: all but this, and nothing else is missing."""
    kept: Params = {}
    for name, value in params.items():
        if not name or not NAME.issuperset(name) or name[:1].isdigit():
            continue  # no shell could name it
        if name in STEERING_NAMES or name.startswith(STEERING) or name.upper() == b"HTTP_PROXY":
            continue  # it changes how programs start
        if name.startswith(b"HTTP_"):
            if name in OF_THE_CONNECTION or (name in SECRET and not authorization):
                continue
            if name in (b"HTTP_CONTENT_LENGTH", b"HTTP_CONTENT_TYPE", b"HTTP_"):
                continue  # CONTENT_LENGTH and CONTENT_TYPE say it
            if not FIELD_NAME.issuperset(name):
                continue  # no header field becomes that
            value = value.strip(b" \t")
        if name == b"CONTENT_TYPE":
            value = value.strip(b" \t")
        if name == b"CONTENT_LENGTH" and value:
            value = b"%d" % int(value)
        if value == b"" and name in (b"CONTENT_TYPE", b"CONTENT_LENGTH", b"SERVER_NAME"):
            continue  # "" is none, and SERVER_NAME may not be none
        if value.startswith(b"() {") and name not in FROM_THE_REQUEST:
            continue
        if name == b"PATH_TRANSLATED":
            continue  # of the place that was found
        kept[name] = value
    return kept


OURS_TOO = frozenset(
    b"GATEWAY_INTERFACE SERVER_SOFTWARE SERVER_PROTOCOL SERVER_NAME SERVER_PORT REQUEST_METHOD"
    b" REQUEST_SCHEME REQUEST_URI QUERY_STRING SCRIPT_NAME SCRIPT_FILENAME PATH_INFO"
    b" PATH_TRANSLATED DOCUMENT_ROOT REMOTE_ADDR REDIRECT_STATUS SERVER_ADDR REMOTE_PORT HTTPS"
    b" REQUEST_ID UNIQUE_ID".split()
)
"""What is computed where the front server does not say it."""


def check_identity(params: Params, authorization: bool) -> None:
    env = shown(params, authorization=authorization)
    expected = kept(params, authorization)
    assert {name: env.get(name) for name in expected} == expected
    assert env.keys() - expected.keys() <= OURS_TOO


@pytest.mark.parametrize("authorization", [False, True])
@pytest.mark.parametrize("front", FRONTS)
def test_what_a_trusted_front_sent_comes_back_unchanged(front: str, authorization: bool) -> None:
    check_identity(FRONTS[front], authorization)


def own(alphabet: str, values: st.SearchStrategy[bytes]) -> st.SearchStrategy[Params]:
    names = st.text(alphabet, max_size=12).map(str.encode)
    return st.dictionaries(names, values, max_size=6)


TEXT = st.binary(max_size=16).map(lambda value: value.replace(b"\0", b""))
FIELD = st.text(
    [chr(code) for code in range(256) if code == 9 or (code > 31 and code != 127)], max_size=16
).map(lambda text: text.encode("latin-1"))
VISIBLE = st.text(string.ascii_letters + string.digits + "/?=&%._~-", max_size=16).map(str.encode)
SLASHED = TEXT.map(b"/".__add__)

KNOWN: st.SearchStrategy[Params] = st.fixed_dictionaries(
    {
        b"REQUEST_METHOD": st.sampled_from((b"GET", b"POST", b"PROPFIND", b"x-own")),
        b"SCRIPT_NAME": SLASHED,
    },
    optional={
        b"PATH_INFO": SLASHED | st.just(b""),
        b"QUERY_STRING": FIELD,
        b"REQUEST_URI": VISIBLE.map(b"/".__add__),
        b"CONTENT_TYPE": FIELD,
        b"CONTENT_LENGTH": st.just(b"") | st.integers(0, 10**17).map(lambda n: b"%d" % n),
        b"HTTP_TRANSFER_ENCODING": st.sampled_from((b"chunked", b"gzip, chunked")),
        b"HTTP_AUTHORIZATION": FIELD,
        b"HTTP_HOST": FIELD,
        b"HTTP_USER_AGENT": FIELD | st.just(b"() { :;}; touch x"),
        b"SERVER_PROTOCOL": TEXT | st.sampled_from((b"HTTP/1.0", b"HTTP/2.0", b"HTTP/3.0")),
        b"SERVER_NAME": TEXT | st.just(b"_"),
        b"SERVER_ADDR": TEXT | st.sampled_from((b"192.0.2.1", b"2001:db8::1", b"unix:/run/x")),
        b"SERVER_PORT": TEXT | st.integers(-5, 10**6).map(lambda n: b"%d" % n),
        b"REMOTE_ADDR": TEXT | st.sampled_from((b"192.0.2.7", b"fe80::1%eth0", b"unix:")),
        b"REMOTE_PORT": TEXT | st.integers(-5, 10**6).map(lambda n: b"%d" % n),
        b"REMOTE_USER": TEXT,
        b"AUTH_TYPE": TEXT,
        b"HTTPS": TEXT | st.sampled_from((b"on", b"off", b"")),
        b"REQUEST_SCHEME": TEXT | st.sampled_from((b"http", b"https")),
        b"DOCUMENT_ROOT": TEXT,
        b"DOCUMENT_URI": TEXT,
        b"SCRIPT_FILENAME": TEXT,
        b"PATH_TRANSLATED": TEXT,
        b"SSL_CLIENT_CERT": st.just(b"-----BEGIN CERTIFICATE-----\n\tMIIB\n"),
        b"REQUEST_ID": TEXT,
        b"UNIQUE_ID": TEXT,
        b"SERVER_SOFTWARE": TEXT,
        b"GATEWAY_INTERFACE": TEXT,
        b"REDIRECT_STATUS": TEXT,
        b"FCGI_ROLE": st.sampled_from((b"RESPONDER", b"AUTHORIZER")),
        b"PATH": TEXT,
        b"LD_PRELOAD": TEXT,
    },
)
OWN = own("ABCxyz_019.- ", TEXT).map(lambda d: {name: d[name] for name in d if name})
FIELDS = own("ABCxyz_019-", FIELD).map(lambda d: {b"HTTP_" + name: d[name] for name in d})
SETS = st.builds(lambda a, b, c: {**a, **b, **c}, OWN, FIELDS, KNOWN)


@given(params=SETS, authorization=st.booleans())
@example({b"REQUEST_METHOD": b"GET", b"SCRIPT_NAME": b"/", b"X": b"() {"}, True)
@example({b"REQUEST_METHOD": b"GET", b"SCRIPT_NAME": b"/", b"CONTENT_TYPE": b" "}, False)
def test_any_trusted_variables_come_back_unchanged(params: Params, authorization: bool) -> None:
    check_identity(params, authorization)


BY_ANY_CLIENT = frozenset(
    b"REQUEST_METHOD REQUEST_URI QUERY_STRING SCRIPT_NAME PATH_INFO DOCUMENT_URI CONTENT_LENGTH"
    b" CONTENT_TYPE SERVER_PROTOCOL".split()
)
"""What any HTTP client could have said as well; HTTP_* besides."""


@given(params=SETS)
@example(params=FRONTS["haproxy-fastcgi POST"])
def test_nothing_of_an_untrusted_front_is_believed(params: Params) -> None:
    found = asked(params, trusted=False, peer=PEER, local=LOCAL)
    harmless = {
        name: value
        for name, value in params.items()
        if name in BY_ANY_CLIENT or name.startswith(b"HTTP_")
    }
    assert found == asked(harmless, trusted=False, peer=PEER, local=LOCAL)
    assert (found.remote, found.local, found.scheme) == (PEER, LOCAL, b"http")
    assert found.params == {}


def test_untrusted_variables_do_not_reach_a_program() -> None:
    evil = {
        b"REMOTE_USER": b"evil", b"AUTH_TYPE": b"evil", b"SSL_CLIENT_S_DN": b"evil",
        b"SERVER_NAME": b"evil", b"SERVER_ADDR": b"203.0.113.66", b"SERVER_PORT": b"666",
        b"REMOTE_ADDR": b"203.0.113.66", b"REMOTE_PORT": b"666", b"REMOTE_IDENT": b"evil",
        b"HTTPS": b"evil", b"REQUEST_SCHEME": b"evil", b"SERVER_SOFTWARE": b"evil",
        b"MY_OWN": b"evil", b"FCGI_ROLE": b"evil", b"REQUEST_ID": b"evil", b"UNIQUE_ID": b"evil",
        b"GATEWAY_INTERFACE": b"evil", b"REDIRECT_STATUS": b"evil",
    }  # fmt: skip
    params = {b"REQUEST_METHOD": b"GET", b"SCRIPT_NAME": b"/a.cgi"} | evil
    env = shown(params, trusted=False)
    assert b"evil" not in b" ".join(env.values())
    assert env[b"REMOTE_ADDR"] == b"198.51.100.9"
    assert env[b"REMOTE_PORT"] == b"50000"
    assert env[b"SERVER_ADDR"] == b"198.51.100.1"
    assert env[b"SERVER_PORT"] == b"9000"
    assert env[b"SERVER_NAME"] == b"198.51.100.1"
    assert not {b"REMOTE_USER", b"AUTH_TYPE", b"HTTPS", b"MY_OWN"} & env.keys()
    assert {name: value for name, value in shown(params).items() if name in evil} == evil


# -- the path --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "path"),
    [
        ({b"SCRIPT_NAME": b"/a.cgi", b"PATH_INFO": b"/x"}, b"/a.cgi/x"),
        ({b"SCRIPT_NAME": b"", b"PATH_INFO": b"/x"}, b"/x"),
        ({b"PATH_INFO": b"/x"}, b"/x"),
        ({b"SCRIPT_NAME": b"/a.cgi", b"DOCUMENT_URI": b"/b", b"REQUEST_URI": b"/c"}, b"/a.cgi"),
        ({b"DOCUMENT_URI": b"/a b", b"REQUEST_URI": b"/c"}, b"/a%20b"),
        ({b"SCRIPT_NAME": b"", b"PATH_INFO": b"", b"DOCUMENT_URI": b"/a"}, b"/a"),
        ({b"REQUEST_URI": b"/a%20b%2Fc?d"}, b"/a%20b%2Fc"),
        ({b"REQUEST_URI": b"/\xc3\xbc"}, b"/%C3%BC"),
        ({b"REQUEST_URI": b"http://example.org/a?b"}, b"/a"),
        # decoded once by the front: what looks like an escape is none, a slash stays a slash
        ({b"SCRIPT_NAME": b"/a%2Fb%00"}, b"/a%252Fb%2500"),
        ({b"SCRIPT_NAME": b"/a?b#c;d"}, b"/a%3Fb%23c;d"),
        ({b"SCRIPT_NAME": b"/a\n\xff\x7f"}, b"/a%0A%FF%7F"),
        ({b"SCRIPT_NAME": b"/../x"}, b"/../x"),
        # the whole path twice, as recipes for git-http-backend send it
        ({b"SCRIPT_NAME": b"/g x", b"PATH_INFO": b"/g x", b"REQUEST_URI": b"/g%20x?s"}, b"/g%20x"),
        ({b"SCRIPT_NAME": b"/g", b"PATH_INFO": b"/g", b"REQUEST_URI": b"/g/g"}, b"/g/g"),
    ],
)
def test_path(params: Params, path: bytes) -> None:
    found = asked({b"REQUEST_METHOD": b"GET"} | params, trusted=True, peer=PEER, local=LOCAL)
    assert found.path == path


URL_PATH = (string.ascii_letters + string.digits + "%-._~!$&'()*+,;=:@/").encode()
"""RFC 3986 section 3.3: unreserved, sub-delims, ":", "@", escapes and slashes."""


@given(name=SLASHED, info=SLASHED | st.just(b""))
def test_path_decodes_to_what_the_front_decoded(name: bytes, info: bytes) -> None:
    path = ask({b"SCRIPT_NAME": name, b"PATH_INFO": info}).path
    assert unquote_to_bytes(path) == name + info
    assert b"%2f" not in path.lower()
    assert not path.translate(None, URL_PATH)


def test_options_of_the_server_as_a_whole() -> None:
    params = {b"REQUEST_METHOD": b"OPTIONS", b"REQUEST_URI": b"*"}
    assert asked(params, trusted=True, peer=PEER, local=LOCAL).path == b"*"
    params[b"SCRIPT_NAME"] = b"*"
    assert asked(params, trusted=True, peer=PEER, local=LOCAL).path == b"*"
    params[b"REQUEST_METHOD"] = b"GET"
    with pytest.raises(PeerError, match="REQUEST_URI"):
        asked(params, trusted=True, peer=PEER, local=LOCAL)


@pytest.mark.parametrize(
    ("params", "query", "target"),
    [
        ({b"QUERY_STRING": b"a=1"}, b"a=1", b"/a.cgi?a=1"),
        ({b"QUERY_STRING": b"a=1", b"REQUEST_URI": b"/old?b"}, b"a=1", b"/old?b"),
        ({b"REQUEST_URI": b"/old?b"}, b"", b"/old?b"),
        ({b"QUERY_STRING": b""}, b"", b"/a.cgi"),
        ({}, b"", b"/a.cgi"),
    ],
)
def test_query_and_target(params: Params, query: bytes, target: bytes) -> None:
    found = ask(params)
    assert (found.query, found.target) == (query, target)


def test_query_of_the_request_uri_where_that_is_all_there_is() -> None:
    params = {b"REQUEST_METHOD": b"GET", b"REQUEST_URI": b"/a?b?c"}
    found = asked(params, trusted=False, peer=PEER, local=LOCAL)
    assert (found.path, found.query) == (b"/a", b"b?c")


# -- what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "status", "named"),
    [
        ({b"REQUEST_METHOD": b""}, 400, "REQUEST_METHOD"),
        ({b"REQUEST_METHOD": b"GE T"}, 400, "REQUEST_METHOD"),
        ({b"REQUEST_METHOD": "GÉT".encode()}, 400, "REQUEST_METHOD"),
        ({b"REQUEST_METHOD": b"CONNECT"}, 501, "REQUEST_METHOD"),
        ({b"REQUEST_METHOD": b"X" * 65}, 501, "REQUEST_METHOD"),
        ({b"SCRIPT_NAME": b"a.cgi"}, 400, "SCRIPT_NAME"),
        ({b"SCRIPT_NAME": b"*"}, 400, "SCRIPT_NAME"),
        ({b"SCRIPT_NAME": b""}, 400, "SCRIPT_NAME"),
        ({b"SCRIPT_NAME": b"/" * 8193}, 414, "SCRIPT_NAME"),
        ({b"SCRIPT_NAME": b"", b"REQUEST_URI": b"a"}, 400, "REQUEST_URI"),
        ({b"SCRIPT_NAME": b"", b"REQUEST_URI": b"/a#b"}, 400, "REQUEST_URI"),
        ({b"SCRIPT_NAME": b"", b"REQUEST_URI": b"/" * 24577}, 414, "REQUEST_URI"),
        ({b"REQUEST_URI": b"/a\nb"}, 400, "REQUEST_URI"),
        ({b"REQUEST_URI": b"/a b"}, 400, "REQUEST_URI"),
        ({b"QUERY_STRING": b"a\r\nb"}, 400, "QUERY_STRING"),
        ({b"HTTP_COOKIE": b"a\r\nb"}, 400, "HTTP_"),
        ({b"CONTENT_TYPE": b"a\x1bb"}, 400, "CONTENT_TYPE"),
    ],
)
def test_impossible_variable_is_refused_by_name(params: Params, status: int, named: str) -> None:
    for trusted in (False, True):
        with pytest.raises(PeerError, match=named) as caught:
            ask(params, trusted=trusted)
        assert caught.value.status == status


def test_missing_method_is_refused() -> None:
    with pytest.raises(PeerError, match="REQUEST_METHOD"):
        asked({b"SCRIPT_NAME": b"/"}, trusted=True, peer=PEER, local=LOCAL)


@given(params=st.dictionaries(st.sampled_from(sorted(set().union(*FRONTS.values()))), TEXT))
def test_only_a_peer_error_comes_of_any_variables(params: Params) -> None:
    sayings: list[str] = []
    for trusted in (False, True):
        try:
            found = asked(params, trusted=trusted, peer=PEER, local=LOCAL)
        except PeerError as error:
            sayings.append(error.say)
            continue
        assert found.path.startswith(b"/") or found.path == b"*"
        assert found.remote[0].isascii()
        assert 0 <= found.remote[1] < 65536
    assert not set("".join(sayings)) - set(string.ascii_letters + " _*,-.")


@pytest.mark.parametrize("method", [b"get", b"PROPFIND", b"VERSION-CONTROL", b"M-SEARCH"])
def test_method_is_taken_as_sent(method: bytes) -> None:
    assert ask({b"REQUEST_METHOD": method}).method == method.decode()


@pytest.mark.parametrize(
    ("sent", "taken"),
    [
        (b"HTTP/1.0", b"HTTP/1.0"),
        (b"HTTP/2.0", b"HTTP/2.0"),
        (b"HTTP/3", b"HTTP/3"),
        (b"HTTP/1.1\n", b"HTTP/1.1"),
        (b"INCLUDED", b"HTTP/1.1"),
        (b"", b"HTTP/1.1"),
    ],
)
def test_protocol(sent: bytes, taken: bytes) -> None:
    assert ask({b"SERVER_PROTOCOL": sent}).protocol == taken


# -- FIELD section 3, rows 1, 2, 4, 14 and 22 ------------------------------------------------


@pytest.mark.parametrize("name", [b"HTTP_PROXY", b"Http_Proxy", b"http_proxy", b"HTTP_proxy"])
@pytest.mark.parametrize("trusted", [False, True])
def test_row_1_http_proxy_is_neither_field_nor_variable(name: bytes, trusted: bool) -> None:
    params = {b"REQUEST_METHOD": b"GET", b"SCRIPT_NAME": b"/a", name: b"http://evil.example/"}
    found = asked(params, trusted=trusted, peer=PEER, local=LOCAL)
    assert found.headers == ()
    assert name not in found.params
    env = shown(params, trusted=trusted)
    assert b"evil" not in b" ".join(env.values())
    assert b"HTTP_PROXY" not in {variable.upper() for variable in env}


@pytest.mark.parametrize(
    "name",
    [
        b"HTTP_X.FORWARDED.FOR",
        b"HTTP_X-FORWARDED-FOR",
        b"HTTP_x_forwarded_for",
        b"HTTP_X\xadFORWARDED_FOR",
        b"HTTP_X FORWARDED_FOR",
        b"HTTP_",
        b"HTTP",
    ],
)
@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("trusted", [False, True])
def test_row_2_no_other_name_becomes_the_same_field(
    name: bytes, first: bool, trusted: bool
) -> None:
    honest, odd = {b"HTTP_X_FORWARDED_FOR": b"honest"}, {name: b"evil"}
    found = ask(odd | honest if first else honest | odd, trusted=trusted)
    assert found.headers == ((b"x-forwarded-for", b"honest"),)
    env = shown({b"REQUEST_METHOD": b"GET", b"SCRIPT_NAME": b"/a"} | honest | odd, trusted=trusted)
    assert [key for key in env if key.startswith(b"HTTP_")] == [b"HTTP_X_FORWARDED_FOR"]


def test_row_2_content_length_and_type_have_one_name_each() -> None:
    params = {
        b"REQUEST_METHOD": b"POST", b"SCRIPT_NAME": b"/a",
        b"CONTENT_LENGTH": b"3", b"CONTENT_TYPE": b"text/plain",
        b"HTTP_CONTENT_LENGTH": b"4", b"HTTP_CONTENT_TYPE": b"text/evil",
    }  # fmt: skip
    found = asked(params, trusted=True, peer=PEER, local=LOCAL)
    assert found.length == 3
    assert found.headers == ((b"content-length", b"3"), (b"content-type", b"text/plain"))
    env = shown(params)
    assert (env[b"CONTENT_LENGTH"], env[b"CONTENT_TYPE"]) == (b"3", b"text/plain")
    assert not {b"HTTP_CONTENT_LENGTH", b"HTTP_CONTENT_TYPE"} & env.keys()


@pytest.mark.parametrize("trusted", [False, True])
def test_row_4_no_user_is_made_of_an_authorization_that_nobody_checked(trusted: bool) -> None:
    params = {
        b"REQUEST_METHOD": b"GET", b"SCRIPT_NAME": b"/a",
        b"HTTP_AUTHORIZATION": b"Basic YWxpY2U6c2VjcmV0",
    }  # fmt: skip
    env = shown(params, trusted=trusted)
    assert not {b"REMOTE_USER", b"AUTH_TYPE", b"HTTP_AUTHORIZATION"} & env.keys()
    env = shown(params, trusted=trusted, authorization=True)
    assert env[b"HTTP_AUTHORIZATION"] == b"Basic YWxpY2U6c2VjcmV0"
    assert not {b"REMOTE_USER", b"AUTH_TYPE"} & env.keys()


def test_row_4_user_is_the_word_of_a_trusted_front_only() -> None:
    params = {
        b"REQUEST_METHOD": b"GET", b"SCRIPT_NAME": b"/a",
        b"REMOTE_USER": b"alice", b"AUTH_TYPE": b"Basic",
    }  # fmt: skip
    env = shown(params)
    assert (env[b"REMOTE_USER"], env[b"AUTH_TYPE"]) == (b"alice", b"Basic")
    assert not {b"REMOTE_USER", b"AUTH_TYPE"} & shown(params, trusted=False).keys()


STEERING_ALL = (
    b"LD_PRELOAD LD_LIBRARY_PATH PATH IFS BASH_ENV ENV PYTHONPATH PYTHONSTARTUP PERL5OPT PERL5LIB"
    b" PERLLIB RUBYOPT NODE_OPTIONS BASH_FUNC_x DYLD_INSERT_LIBRARIES GCONV_PATH MALLOC_CHECK_"
    b" TMPDIR"
).split()


@pytest.mark.parametrize(
    "name",
    [*STEERING_ALL, b"a-b", b"a b", b"a.b", b"1A", b"BASH_FUNC_ls%%", b"\xc4", b"A\n"],
)
@pytest.mark.parametrize("trusted", [False, True])
def test_row_14_name_that_no_program_may_get_is_dropped(name: bytes, trusted: bool) -> None:
    params = {b"REQUEST_METHOD": b"GET", b"SCRIPT_NAME": b"/a", name: b"evil", b"A_b1": b"own"}
    assert name not in asked(params, trusted=trusted, peer=PEER, local=LOCAL).params
    env = shown(params, trusted=trusted)
    assert b"evil" not in env.values()
    assert env.get(b"A_b1") == (b"own" if trusted else None)


def test_row_14_computed_variables_stand_over_those_sent() -> None:
    found = ask({b"SCRIPT_FILENAME": b"/bin/sh", b"DOCUMENT_ROOT": b"/", b"PATH_INFO": b"/x"})
    env = variables(
        method="PUT", request_uri=b"/b", query=b"c", protocol=b"HTTP/1.1", headers=(), length=None,
        script_name=b"/d", path_info=b"/e", document_root=b"/srv", script_filename=b"/srv/d",
        scheme=b"http", server_name=b"", server_port=0, server_address="", remote_address="",
        remote_port=0, software=b"", params={**found.params, b"CONTENT_LENGTH": b"9",
        b"CONTENT_TYPE": b"x", b"PATH_TRANSLATED": b"/f", b"HTTP_X": b"y", b"QUERY_STRING": b"z"},
    )  # fmt: skip
    assert env[b"REQUEST_METHOD"] == b"PUT"
    assert (env[b"REQUEST_URI"], env[b"QUERY_STRING"]) == (b"/b", b"c")
    assert (env[b"SCRIPT_NAME"], env[b"PATH_INFO"]) == (b"/d", b"/e")
    assert (env[b"SCRIPT_FILENAME"], env[b"DOCUMENT_ROOT"]) == (b"/srv/d", b"/srv")
    assert env[b"PATH_TRANSLATED"] == b"/srv/e"
    assert not {b"CONTENT_LENGTH", b"CONTENT_TYPE", b"HTTP_X"} & env.keys()


@pytest.mark.parametrize(
    "value",
    [
        b"-1", b"+5", b"1,1", b"1 ", b" 1", b"0x1", b"1_0", b"5\n", b"1" + b"0" * 18,
        b"1" + b"0" * 30, b"%d" % 2**63, "٣".encode(), "１".encode(), b"\xb2", b"NaN",
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", [b"GET", b"POST"])
def test_row_22_content_length_that_is_no_number_is_refused(value: bytes, method: bytes) -> None:
    for trusted in (False, True):
        with pytest.raises(PeerError, match="CONTENT_LENGTH") as caught:
            ask({b"REQUEST_METHOD": method, b"CONTENT_LENGTH": value}, trusted=trusted)
        assert caught.value.status == 400


@pytest.mark.parametrize(
    ("method", "params", "length"),
    [
        (b"GET", {}, 0),
        (b"GET", {b"CONTENT_LENGTH": b""}, 0),
        (b"HEAD", {}, 0),
        (b"DELETE", {}, 0),
        (b"OPTIONS", {}, 0),
        (b"TRACE", {}, 0),
        (b"GET", {b"HTTP_TRANSFER_ENCODING": b"Chunked"}, None),
        (b"GET", {b"CONTENT_LENGTH": b"5"}, 5),
        (b"POST", {}, None),
        (b"POST", {b"CONTENT_LENGTH": b""}, None),
        (b"POST", {b"CONTENT_LENGTH": b"0"}, 0),
        (b"POST", {b"CONTENT_LENGTH": b"007"}, 7),
        (b"PROPFIND", {}, None),
        (b"PUT", {b"CONTENT_LENGTH": b"9" * 18}, 10**18 - 1),
        (b"POST", {b"CONTENT_LENGTH": b"4", b"HTTP_TRANSFER_ENCODING": b"chunked"}, 4),
    ],
)
def test_row_22_length_of_the_body(method: bytes, params: Params, length: int | None) -> None:
    assert ask({b"REQUEST_METHOD": method} | params).length == length


# -- who and where ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "host"),
    [
        ({b"HTTP_HOST": b"WWW.Example.org:80", b"SERVER_NAME": b"b"}, b"www.example.org"),
        ({b"HTTP_HOST": b"[2001:db8::1]:80"}, b"[2001:db8::1]"),
        ({b"HTTP_HOST": b"a/b", b"SERVER_NAME": b"b"}, b"b"),
        ({b"HTTP_HOST": b"", b"SERVER_NAME": b"example.org:8080"}, b"example.org"),
        ({b"SERVER_NAME": b"_"}, b""),
        ({b"SERVER_NAME": b""}, b""),
        ({b"SERVER_NAME": b"~^(www\\.)?(.+)$"}, b""),
        ({b"SERVER_NAME": b"*.example.org"}, b""),
        ({}, b""),
    ],
)
def test_host(params: Params, host: bytes) -> None:
    assert ask(params).host == host


def test_server_name_of_an_untrusted_front_is_no_host() -> None:
    assert ask({b"SERVER_NAME": b"b"}, trusted=False).host == b""
    assert ask({b"HTTP_HOST": b"a"}, trusted=False).host == b"a"


def test_an_empty_server_name_is_not_shown() -> None:
    params = {b"REQUEST_METHOD": b"GET", b"SCRIPT_NAME": b"/a", b"SERVER_NAME": b""}
    assert shown(params | {b"HTTP_HOST": b"a.example"})[b"SERVER_NAME"] == b"a.example"
    assert shown(params)[b"SERVER_NAME"] == b"198.51.100.1"
    assert shown(params | {b"SERVER_NAME": b"_"})[b"SERVER_NAME"] == b"_"


@pytest.mark.parametrize(
    ("params", "scheme"),
    [
        ({b"HTTPS": b"on"}, b"https"),
        ({b"HTTPS": b"1"}, b"https"),
        ({b"HTTPS": b"OFF"}, b"http"),
        ({b"HTTPS": b"0"}, b"http"),
        ({b"HTTPS": b""}, b"http"),
        ({b"REQUEST_SCHEME": b"https"}, b"https"),
        ({b"REQUEST_SCHEME": b"ftp"}, b"http"),
        ({}, b"http"),
    ],
)
def test_scheme(params: Params, scheme: bytes) -> None:
    assert ask(params).scheme == scheme
    assert ask(params, trusted=False).scheme == b"http"


def test_https_and_its_scheme_are_both_shown_where_one_was_sent() -> None:
    params = {b"REQUEST_METHOD": b"GET", b"SCRIPT_NAME": b"/a"}
    assert shown(params | {b"HTTPS": b"on"})[b"REQUEST_SCHEME"] == b"https"
    assert shown(params | {b"REQUEST_SCHEME": b"https"})[b"HTTPS"] == b"on"


@pytest.mark.parametrize(
    ("address", "port", "remote"),
    [
        (b"192.0.2.7", b"40000", ("192.0.2.7", 40000)),
        (b"2001:db8::7", b"1", ("2001:db8::7", 1)),
        (b"[2001:db8::7]", b"1", ("2001:db8::7", 1)),
        (b"fe80::1%eth0", b"1", ("fe80::1", 1)),
        (b"::FFFF:192.0.2.7", b"1", ("192.0.2.7", 1)),
        (b"192.0.2.7", b"", ("192.0.2.7", 0)),
        (b"192.0.2.7", b"65536", ("192.0.2.7", 0)),
        (b"192.0.2.7", b"-1", ("192.0.2.7", 0)),
        (b"192.0.2.7", "٣".encode(), ("192.0.2.7", 0)),
        (b"unix:", b"", ("", 0)),
        (b"", b"7", ("", 0)),
        (b"192.0.2.256", b"7", ("", 0)),
        (b"192.0.2.07", b"7", ("", 0)),
        (b"client.example", b"7", ("", 0)),
        (b"192.0.2.7\n", b"7", ("", 0)),
        ("１.２.３.４".encode(), b"7", ("", 0)),
    ],
)
def test_client_is_an_address_or_none(address: bytes, port: bytes, remote: tuple[str, int]) -> None:
    params = {b"REMOTE_ADDR": address, b"REMOTE_PORT": port}
    assert ask(params).remote == remote
    assert ask(params, trusted=False).remote == PEER
    params = {b"SERVER_ADDR": address, b"SERVER_PORT": port}
    assert ask(params).local == remote
    assert ask(params, trusted=False).local == LOCAL


def test_ends_that_a_front_does_not_name() -> None:
    assert (ask().remote, ask().local) == (PEER, LOCAL)
    assert ask({b"SERVER_PORT": b"443"}).local == ("", 443)
    assert ask({b"REMOTE_PORT": b"7"}).remote == PEER


# -- the table of names ----------------------------------------------------------------------


def test_table_of_names_stays_bounded_and_right() -> None:
    for number in range(5000):
        name = b"HTTP_X_%d" % number
        assert ask({name: b"v", b"HTTP_PROXY": b"e"}).headers == ((b"x-%d" % number, b"v"),)
    assert len(cgi_request._names) <= cgi_request._NAMES_LIMIT
    long = b"HTTP_" + b"X" * 1000
    assert ask({long: b"v"}).headers == ((b"x" * 1000, b"v"),)
    assert long not in cgi_request._names
