from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire import cgi_env
from gateway.wire.headers import Headers


def variables(**changes: Any) -> dict[bytes, bytes]:
    """The variables of a plain request with these changes."""
    request: dict[str, Any] = {
        "method": "GET",
        "request_uri": b"/cgi-bin/a.cgi/x%20y?q=1&r=%20",
        "query": b"q=1&r=%20",
        "protocol": b"HTTP/1.1",
        "headers": ((b"host", b"example.org:8080"),),
        "length": 0,
        "script_name": b"/cgi-bin/a.cgi",
        "path_info": b"/x y",
        "document_root": b"/srv/www",
        "script_filename": b"/srv/www/cgi-bin/a.cgi",
        "scheme": b"http",
        "server_name": b"example.org",
        "server_port": 8080,
        "server_address": "192.0.2.1",
        "remote_address": "192.0.2.7",
        "remote_port": 40000,
        "software": b"gateway/0.1.0",
        "request_id": "0a1b2c",
    }
    return cgi_env.variables(**(request | changes))


def fields(*headers: tuple[bytes, bytes], **changes: Any) -> dict[bytes, bytes]:
    """The HTTP_* variables of these header fields."""
    env = variables(headers=headers, **changes)
    return {name: value for name, value in env.items() if name.startswith(b"HTTP_")}


def test_every_variable_of_a_plain_request() -> None:
    assert variables() == {
        b"DOCUMENT_ROOT": b"/srv/www",
        b"GATEWAY_INTERFACE": b"CGI/1.1",
        b"HTTP_HOST": b"example.org:8080",
        b"PATH_INFO": b"/x y",
        b"PATH_TRANSLATED": b"/srv/www/x y",
        b"QUERY_STRING": b"q=1&r=%20",
        b"REDIRECT_STATUS": b"200",
        b"REMOTE_ADDR": b"192.0.2.7",
        b"REMOTE_PORT": b"40000",
        b"REQUEST_ID": b"0a1b2c",
        b"REQUEST_METHOD": b"GET",
        b"REQUEST_SCHEME": b"http",
        b"REQUEST_URI": b"/cgi-bin/a.cgi/x%20y?q=1&r=%20",
        b"SCRIPT_FILENAME": b"/srv/www/cgi-bin/a.cgi",
        b"SCRIPT_NAME": b"/cgi-bin/a.cgi",
        b"SERVER_ADDR": b"192.0.2.1",
        b"SERVER_NAME": b"example.org",
        b"SERVER_PORT": b"8080",
        b"SERVER_PROTOCOL": b"HTTP/1.1",
        b"SERVER_SOFTWARE": b"gateway/0.1.0",
        b"UNIQUE_ID": b"0a1b2c",
    }


def test_https_is_on_or_not_there() -> None:
    assert variables(scheme=b"https")[b"HTTPS"] == b"on"
    assert variables(scheme=b"https")[b"REQUEST_SCHEME"] == b"https"
    assert b"HTTPS" not in variables()


def test_request_id_only_when_given() -> None:
    assert not {b"REQUEST_ID", b"UNIQUE_ID"} & variables(request_id="").keys()


def test_query_string_is_set_also_when_empty() -> None:
    assert variables(query=b"")[b"QUERY_STRING"] == b""


@pytest.mark.parametrize(
    ("root", "path_info", "translated"),
    [
        (b"/srv/www", b"", None),
        (b"/srv/www", b"/", b"/srv/www/"),
        (b"/srv/www/", b"/a", b"/srv/www/a"),
        (b"/", b"/a", b"/a"),
        (b"/srv/www", b"/a/../../../etc/passwd", None),
        (b"/srv/www", b"/..", None),
        (b"/srv/www", b"/..a", b"/srv/www/..a"),
        (b"/srv/www", b"/\xff", b"/srv/www/\xff"),
    ],
)
def test_path_translated(root: bytes, path_info: bytes, translated: bytes | None) -> None:
    env = variables(document_root=root, path_info=path_info)
    assert env[b"PATH_INFO"] == path_info
    assert env.get(b"PATH_TRANSLATED") == translated


@pytest.mark.parametrize(
    ("length", "headers", "value"),
    [
        (0, (), None),
        (0, ((b"content-length", b"0"),), b"0"),
        (0, ((b"transfer-encoding", b"chunked"),), b"0"),  # spooled, and found empty
        (5, ((b"content-length", b"5"),), b"5"),
        (5, ((b"transfer-encoding", b"chunked"),), b"5"),  # spooled
        (None, ((b"transfer-encoding", b"chunked"),), None),  # streamed until its end
        (1 << 40, ((b"content-length", b"1099511627776"),), b"1099511627776"),
    ],
)
def test_content_length(length: int | None, headers: Headers, value: bytes | None) -> None:
    env = variables(method="POST", length=length, headers=headers)
    assert env.get(b"CONTENT_LENGTH") == value
    assert not {b"HTTP_CONTENT_LENGTH", b"HTTP_TRANSFER_ENCODING"} & env.keys()


def test_content_type_is_not_repeated_as_a_header() -> None:
    env = variables(headers=((b"content-type", b"text/a"), (b"Content-Type", b"text/b")))
    assert env[b"CONTENT_TYPE"] == b"text/a"
    assert b"HTTP_CONTENT_TYPE" not in env


def test_unix_socket_and_no_host() -> None:
    env = variables(
        server_name=b"", server_port=0, server_address="", remote_address="", remote_port=0
    )
    assert env[b"SERVER_NAME"] == b"localhost"
    assert env[b"SERVER_PORT"] == b"80"
    assert env[b"REMOTE_ADDR"] == b""
    assert not {b"REMOTE_PORT", b"SERVER_ADDR"} & env.keys()
    assert variables(server_port=0, scheme=b"https")[b"SERVER_PORT"] == b"443"


def test_server_name_without_a_host_is_the_address() -> None:
    assert variables(server_name=b"")[b"SERVER_NAME"] == b"192.0.2.1"
    assert variables(server_name=b"", server_address="::1")[b"SERVER_NAME"] == b"[::1]"


def test_headers_become_variables() -> None:
    env = fields((b"user-agent", b"x"), (b"x-a-1", b""), (b"Accept-Language", b"en"))
    assert env == {b"HTTP_USER_AGENT": b"x", b"HTTP_X_A_1": b"", b"HTTP_ACCEPT_LANGUAGE": b"en"}


@pytest.mark.parametrize("name", [b"proxy", b"Proxy", b"PROXY", b"pRoXy"])
def test_proxy_header_never_becomes_http_proxy(name: bytes) -> None:
    assert fields((name, b"http://evil.example/")) == {}


@pytest.mark.parametrize(
    "name",
    [
        b"x_forwarded-for",
        b"x.forwarded.for",
        b"x-forwarded_for",
        b"remote_user",
        b"content_length",
        b"x!forwarded!for",
        b"x\xadforwarded-for",
        "x-forwarded‐for".encode(),
        b"",
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_odd_header_cannot_shadow_a_dashed_one(name: bytes, first: bool) -> None:
    honest = (b"x-forwarded-for", b"honest")
    odd = (name, b"evil")
    headers = (odd, honest) if first else (honest, odd)
    assert fields(*headers) == {b"HTTP_X_FORWARDED_FOR": b"honest"}
    assert b"evil" not in b" ".join(variables(headers=headers).values())


def test_authorization_is_hidden_unless_asked_for() -> None:
    headers = ((b"authorization", b"Basic YTpi"), (b"proxy-authorization", b"Basic YTpi"))
    env = variables(headers=headers)
    assert b"YTpi" not in b" ".join(env.values())
    env = variables(headers=headers, authorization=True)
    assert env[b"HTTP_AUTHORIZATION"] == env[b"HTTP_PROXY_AUTHORIZATION"] == b"Basic YTpi"
    assert not {b"AUTH_TYPE", b"REMOTE_USER", b"REMOTE_IDENT"} & env.keys()


@pytest.mark.parametrize(
    "name",
    [
        b"connection",
        b"keep-alive",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"expect",
        b"Proxy-Connection",
    ],
)
def test_fields_of_the_connection_are_dropped(name: bytes) -> None:
    assert fields((name, b"x")) == {}


def test_client_cannot_take_a_field_away_by_naming_it_in_connection() -> None:
    env = fields((b"connection", b"x-real-ip, close"), (b"x-real-ip", b"192.0.2.9"))
    assert env == {b"HTTP_X_REAL_IP": b"192.0.2.9"}


def test_repeated_fields_are_joined_each_name_once() -> None:
    env = fields(
        (b"accept", b"a"), (b"cookie", b"a=1"), (b"Accept", b"b"), (b"cookie", b"b=2"), (b"x", b"")
    )
    assert env == {b"HTTP_ACCEPT": b"a, b", b"HTTP_COOKIE": b"a=1; b=2", b"HTTP_X": b""}


def test_shell_function_values_are_dropped() -> None:
    evil = b"() { :;}; touch /tmp/x"
    env = variables(headers=((b"user-agent", evil), (b"content-type", evil), (b"x", b" () {")))
    assert b"touch" not in b" ".join(env.values())
    assert env[b"HTTP_X"] == b" () {", "bash asks for the very first byte"
    assert fields((b"a", evil), (b"a", b"b")) == {b"HTTP_A": b"b"}


@pytest.mark.parametrize("key", ["path_info", "query", "script_filename", "server_name"])
def test_nul_byte_is_our_fault(key: str) -> None:
    with pytest.raises(ValueError, match="NUL"):
        variables(**{key: b"/a\0b"})


def test_table_of_names_stays_bounded_and_right() -> None:
    for number in range(5000):
        name = b"x-%d" % number
        assert fields((name, b"v"), (b"proxy", b"e")) == {b"HTTP_X_%d" % number: b"v"}
    assert len(cgi_env._names) <= cgi_env._NAMES_LIMIT
    long = b"x" * 1000
    assert fields((long, b"v")) == {b"HTTP_" + long.upper(): b"v"}
    assert long not in cgi_env._names


@given(
    headers=st.lists(
        st.tuples(
            st.binary(max_size=12), st.binary(max_size=12).map(lambda v: v.replace(b"\0", b""))
        ),
        max_size=10,
    )
)
def test_no_header_can_change_another_variable(headers: list[tuple[bytes, bytes]]) -> None:
    plain = variables(headers=())
    env = variables(headers=tuple(headers))
    for name, value in plain.items():
        assert env[name] == value
    added = env.keys() - plain.keys() - {b"CONTENT_TYPE", b"CONTENT_LENGTH"}
    assert all(name.startswith(b"HTTP_") and name != b"HTTP_PROXY" for name in added)


def test_trusted_parameters_stand_over_what_is_computed() -> None:
    sent = {
        b"REMOTE_USER": b"alice", b"AUTH_TYPE": b"Basic", b"SSL_CLIENT_VERIFY": b"SUCCESS",
        b"SERVER_NAME": b"_", b"SERVER_PORT": b"443", b"REMOTE_ADDR": b"unix:", b"HTTPS": b"",
        b"SERVER_SOFTWARE": b"nginx", b"REDIRECT_STATUS": b"", b"FCGI_ROLE": b"AUTHORIZER",
        b"DOCUMENT_URI": b"/d",
    }  # fmt: skip
    assert variables(params=sent) == variables() | sent


def test_id_of_the_front_server_is_kept() -> None:
    env = variables(params={b"REQUEST_ID": b"theirs"})
    assert (env[b"REQUEST_ID"], env[b"UNIQUE_ID"]) == (b"theirs", b"0a1b2c")


def test_parameters_do_not_stand_over_the_request() -> None:
    names = (
        b"REQUEST_METHOD REQUEST_URI QUERY_STRING SCRIPT_NAME SCRIPT_FILENAME PATH_INFO"
        b" PATH_TRANSLATED DOCUMENT_ROOT CONTENT_LENGTH CONTENT_TYPE HTTP_HOST HTTP_COOKIE"
        b" HTTP_AUTHORIZATION HTTP_PROXY HTTP_CONNECTION"
    ).split()
    assert variables(params=dict.fromkeys(names, b"evil")) == variables()


def test_parameters_that_are_shell_functions_or_no_server_name_are_dropped() -> None:
    sent = {b"X": b"() { :;}; touch /tmp/x", b"SERVER_NAME": b""}
    assert variables(params=sent) == variables()


def test_parameter_with_a_nul_byte_is_our_fault() -> None:
    with pytest.raises(ValueError, match="NUL"):
        variables(params={b"X": b"a\0b"})


@pytest.mark.parametrize("name", [b"HTTP_PROXY", b"http_proxy", b"LD_X", b"PYTHONHOME", b"PATH"])
def test_refused_name(name: bytes) -> None:
    assert cgi_env.refused(name)


@pytest.mark.parametrize("name", [b"HTTP_PROX", b"PATH_INFO", b"LDX", b"HOME", b"REMOTE_USER", b""])
def test_name_that_is_not_refused(name: bytes) -> None:
    assert not cgi_env.refused(name)
