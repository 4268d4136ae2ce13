"""What is believed of Forwarded, X-Forwarded-* and X-Real-IP."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.forwarded import ELEMENTS_MAX, VALUE_MAX, Believed, Origin, client, read_node

PROXY = "10.0.0.1"
CLIENT = "192.0.2.7"


def inside(address: str) -> bool:
    """Trust 10.0.0.0/8, fd00::/8 and Unix sockets."""
    return address in ("", "::1") or address.startswith(("10.", "fd00:"))


def headers(**fields: str) -> tuple[tuple[bytes, bytes], ...]:
    """Make fields of names with "_" for "-"; a value may hold several fields, one a line."""
    return (
        (b"host", b"a"),
        *(
            (name.replace("_", "-").encode(), line.encode("latin-1"))
            for name, value in fields.items()
            for line in value.split("\n")
        ),
        (b"accept", b"*/*"),
    )


def origin(
    address: str = "", port: int = 0, scheme: str = "", host: str = "", server_port: int = 0
) -> Origin:
    return Origin(address, port, scheme.encode(), host.encode(), server_port)


def behind(believed: Believed = "x-forwarded", peer: str = PROXY, **fields: str) -> Origin | None:
    return client(headers(**fields), peer, inside, believed)


EVERYTHING = {
    "forwarded": "for=192.0.2.1;proto=https;host=evil.example",
    "x_forwarded_for": "192.0.2.1",
    "x_forwarded_proto": "https",
    "x_forwarded_host": "evil.example",
    "x_forwarded_port": "443",
    "x_real_ip": "192.0.2.1",
}


@pytest.mark.parametrize("believed", ["x-forwarded", "forwarded", "x-real-ip"])
@pytest.mark.parametrize("peer", [CLIENT, "2001:db8::1", "110.0.0.1"])
def test_nothing_is_believed_of_a_peer_that_is_not_trusted(believed: Believed, peer: str) -> None:
    assert behind(believed, peer, **EVERYTHING) is None


@pytest.mark.parametrize("believed", ["x-forwarded", "forwarded", "x-real-ip"])
def test_nothing_said_is_nothing_believed(believed: Believed) -> None:
    assert behind(believed) is None


def test_only_the_family_that_is_named_is_believed() -> None:
    one = {name: value for name, value in EVERYTHING.items() if name != "forwarded"}
    assert behind("forwarded", **one) is None
    assert behind("x-forwarded", forwarded=EVERYTHING["forwarded"], x_real_ip=CLIENT) is None
    assert behind("x-real-ip", forwarded=EVERYTHING["forwarded"], x_forwarded_for=CLIENT) is None


@pytest.mark.parametrize("name", [b"x_forwarded_for", b"x.forwarded.for", b"x-forwarded_for"])
def test_look_alike_names_are_not_believed(name: bytes) -> None:
    assert client(((name, b"192.0.2.7"),), PROXY, inside) is None


@pytest.mark.parametrize(
    ("chain", "found"),
    [
        ("192.0.2.7", origin(CLIENT)),
        ("192.0.2.7:5678", origin(CLIENT, 5678)),
        ("[2001:db8::7]:5678", origin("2001:db8::7", 5678)),
        ("[2001:db8::7]", origin("2001:db8::7")),
        ("2001:DB8:0::7", origin("2001:db8::7")),
        ("::ffff:192.0.2.7", origin(CLIENT)),
        ("1.1.1.1, 192.0.2.7", origin(CLIENT)),
        ("10.0.0.9, 192.0.2.7", origin(CLIENT)),
        ("1.1.1.1,\t192.0.2.7 , 10.0.0.3,10.0.0.2", origin(CLIENT)),
        ("1.1.1.1\n192.0.2.7\n10.0.0.2", origin(CLIENT)),
        ("192.0.2.7, fd00::5, ::ffff:10.0.0.2", origin(CLIENT)),
        ("10.0.0.4, 10.0.0.3, 10.0.0.2", origin("10.0.0.4")),
        ("10.0.0.4", origin("10.0.0.4")),
        ("junk, 192.0.2.7", origin(CLIENT)),
        ("192.0.2.7, junk, 10.0.0.2", origin("10.0.0.2")),
        ("192.0.2.7, unknown, 10.0.0.2", origin("10.0.0.2")),
        (", 192.0.2.7,,", origin(CLIENT)),
        ("192.0.2.7, unknown", None),
        ("192.0.2.7, junk", None),
        ("192.0.2.7, _hidden", None),
        ("192.0.2.7, 192.0.2.8:", None),
        (" ", None),
        (",,,", None),
    ],
)
def test_first_address_from_the_right_that_is_not_trusted_is_the_client(
    chain: str, found: Origin | None
) -> None:
    assert behind(x_forwarded_for=chain) == found


@pytest.mark.parametrize(
    "element",
    [
        b"", b"junk", b"unknown", b"_hidden", b"1.2.3", b"1.2.3.4.5", b"1.2.3.256", b"01.2.3.4",
        b"1.2.3.4:", b"1.2.3.4:65536", b"1.2.3.4:123456", b"1.2.3.4:-1", b"1.2.3.4:8o",
        b"1.2.3.4:80:80", b"1.2.3.4 5.6.7.8", b"1.2.3.4\x0b", b"1.2.3.4\n", b"1.2.3.4%eth0",
        b"[1.2.3.4]", b"[::1", b"::1]", b"[]", b"[::1]80", b"[::1]:", b"[fe80::1%eth0]",
        b"fe80::1%eth0", b"1::2::3", b"g::", b":80", b"localhost", "\u0661.2.3.4".encode(),
        b"1.2.3.\xb2", b"0x7f.0.0.1", b"2130706433", b"'; DROP TABLE", b"<script>",
    ],
)  # fmt: skip
def test_what_is_no_address_is_none(element: bytes) -> None:
    assert read_node(element) is None
    assert client(((b"x-forwarded-for", b"1.1.1.1, " + element),), PROXY, inside) in (
        None,
        origin("1.1.1.1"),  # an empty element does not count
    )


def test_a_chain_is_walked_for_a_bounded_number_of_elements() -> None:
    asked: list[str] = []

    def everybody(address: str) -> bool:
        asked.append(address)
        return True

    chain = ",".join(f"10.0.{n >> 8}.{n & 255}" for n in range(2000))
    found = client(headers(x_forwarded_for=chain), PROXY, everybody)
    assert found == origin("10.0.7.176")
    assert len(asked) == 1 + ELEMENTS_MAX
    asked.clear()
    chain = ",".join(f"for=10.0.{n >> 8}.{n & 255}" for n in range(2000))
    found = client(headers(forwarded=chain), PROXY, everybody, "forwarded")
    assert found == origin("10.0.7.176")
    assert len(asked) == 1 + ELEMENTS_MAX


def test_forwarded_is_looked_at_for_a_bounded_length() -> None:
    def value(size: int) -> str:
        return "for=192.0.2.7" + "," * size + "for=10.0.0.2"

    assert behind("forwarded", forwarded=value(VALUE_MAX - 100)) == origin(CLIENT)
    assert behind("forwarded", forwarded=value(VALUE_MAX)) == origin("10.0.0.2")
    # An element that is cut in two is not read as a shorter one.
    kept = f"for={CLIENT};x=,for=10.0.0.2"
    kept = kept.replace("x=", "x=" + "y" * (VALUE_MAX - len(kept)))
    assert behind("forwarded", forwarded=kept) == origin(CLIENT)
    assert behind("forwarded", forwarded=f"not-{kept}") == origin("10.0.0.2")


@pytest.mark.parametrize(
    "piece", [b'"', b"\\", b'\\"', b",", b", ", b";", b"a=", b'a="', b"for=1.2.3.4;", b"\\,", b":"]
)
@pytest.mark.parametrize("name", [b"x-forwarded-for", b"forwarded"])
def test_hostile_values_do_not_hang(piece: bytes, name: bytes) -> None:
    # Long enough that whatever grows with the square of it would outlast the test's time.
    value = piece * (4_000_000 // len(piece)) + b",for=1.2.3.4"
    believed: Believed = "forwarded" if name == b"forwarded" else "x-forwarded"
    client(((name, value),), PROXY, lambda address: True, believed)


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"x_forwarded_proto": "https"}, origin(scheme="https")),
        ({"x_forwarded_proto": "HTTPS"}, origin(scheme="https")),
        ({"x_forwarded_proto": "http, https"}, origin(scheme="https")),
        ({"x_forwarded_proto": "https\nhttp"}, origin(scheme="http")),
        ({"x_forwarded_proto": "on"}, None),
        ({"x_forwarded_proto": "javascript"}, None),
        ({"x_forwarded_host": "Example.org"}, origin(host="example.org")),
        ({"x_forwarded_host": "example.org:8443"}, origin(host="example.org", server_port=8443)),
        ({"x_forwarded_host": "[::1]:8443"}, origin(host="[::1]", server_port=8443)),
        ({"x_forwarded_host": "[::1]"}, origin(host="[::1]")),
        ({"x_forwarded_host": "evil.example, example.org"}, origin(host="example.org")),
        ({"x_forwarded_host": "example.org, ../etc"}, None),
        ({"x_forwarded_host": "a b"}, None),
        ({"x_forwarded_host": "a:99999"}, None),
        ({"x_forwarded_host": "a/b"}, None),
        ({"x_forwarded_host": "a@b"}, None),
        ({"x_forwarded_port": "8443"}, origin(server_port=8443)),
        ({"x_forwarded_port": "80, 8443"}, origin(server_port=8443)),
        ({"x_forwarded_port": "0"}, None),
        ({"x_forwarded_port": "65536"}, None),
        ({"x_forwarded_port": "+80"}, None),
        ({"x_forwarded_port": "\xb2"}, None),
        (
            {"x_forwarded_host": "example.org:1", "x_forwarded_port": "2"},
            origin(host="example.org", server_port=2),
        ),
    ],
)
def test_scheme_host_and_port_are_the_word_of_our_peer(
    fields: dict[str, str], found: Origin | None
) -> None:
    assert behind("x-forwarded", PROXY, **fields) == found
    # The same with an address beside them, as long as their numbers differ.
    fields = {**fields, "x_forwarded_for": "1.1.1.1, 192.0.2.7, 10.0.0.2"}
    assert behind("x-forwarded", PROXY, **fields) == (found or origin())._replace(address=CLIENT)


def test_words_as_many_as_addresses_are_taken_beside_the_client() -> None:
    found = behind(
        x_forwarded_for="1.1.1.1, 192.0.2.7, 10.0.0.2",
        x_forwarded_proto="ftp, https, http",
        x_forwarded_host="evil.example, example.org, inner",
        x_forwarded_port="1, 443, 80",
    )
    assert found == origin(CLIENT, 0, "https", "example.org", 443)


def test_words_in_front_of_the_client_do_not_count() -> None:
    found = behind(
        x_forwarded_for="10.9.9.9, 192.0.2.7",
        x_forwarded_proto="https, http",
        x_forwarded_host="evil.example, example.org",
    )
    assert found == origin(CLIENT, 0, "http", "example.org")


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("192.0.2.7", origin(CLIENT)),
        ("192.0.2.7:1234", origin(CLIENT, 1234)),
        ("10.0.0.5", origin("10.0.0.5")),
        ("1.1.1.1\n192.0.2.7", origin(CLIENT)),
        ("1.1.1.1, 192.0.2.7", origin(CLIENT)),
        ("junk", None),
    ],
)
def test_real_ip_is_one_address(value: str, found: Origin | None) -> None:
    assert behind("x-real-ip", x_real_ip=value) == found
    assert behind("x-real-ip", x_real_ip=value, x_forwarded_proto="https") == (
        (found or origin())._replace(scheme=b"https")
    )


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("for=192.0.2.7", origin(CLIENT)),
        ("For=192.0.2.7;Proto=HTTPS;Host=Example.org", origin(CLIENT, 0, "https", "example.org")),
        ('for="192.0.2.7:5678"', origin(CLIENT, 5678)),
        ("for=192.0.2.7:5678", origin(CLIENT, 5678)),
        ('for="[2001:db8::7]"', origin("2001:db8::7")),
        ('for="[2001:db8::7]:5678"', origin("2001:db8::7", 5678)),
        ("for=[2001:db8::7]:5678", origin("2001:db8::7", 5678)),
        ('for="192.0.2.7:_port"', origin(CLIENT)),
        (r'for="\1\9\2.0.2.7"', origin(CLIENT)),
        ('for=192.0.2.7;host="example.org:8443"', origin(CLIENT, 0, "", "example.org", 8443)),
        ("for=1.1.1.1, for=192.0.2.7", origin(CLIENT)),
        ("for=1.1.1.1\nfor=192.0.2.7\nfor=10.0.0.2", origin(CLIENT)),
        ("for=192.0.2.7 ;\tproto=https; by=10.0.0.1;", origin(CLIENT, 0, "https")),
        (";for=192.0.2.7; ;proto=https;;", origin(CLIENT, 0, "https")),
        ('for=192.0.2.7;ext="a,b;c=\\"d\\\\";proto=https', origin(CLIENT, 0, "https")),
        ('for=1.1.1.1, for=192.0.2.7;ext=","', origin(CLIENT)),
        ("for=10.0.0.4, for=10.0.0.3", origin("10.0.0.4")),
        ("for=192.0.2.7, proto=https", origin(scheme="https")),
        ("for=192.0.2.7, for=_hidden;proto=https", origin(scheme="https")),
        ("for=192.0.2.7, for=unknown", None),
        ("for=192.0.2.7, for=_x, for=10.0.0.2", origin("10.0.0.2")),
        ("for=192.0.2.7, junk", None),
        ("for=192.0.2.7, for=", None),
        ('for=192.0.2.7, for=""', None),
        ("for=192.0.2.7, for 10.0.0.2", None),
        ("for=192.0.2.7, for=1.1.1.1 proto=https", None),
        ("for=192.0.2.7;for=1.1.1.1", None),
        ("for=192.0.2.7;FOR=1.1.1.1", None),
        ('for=192.0.2.7;proto="https', None),
        ('for="192.0.2.7', None),
        ('for=192.0.2.7"', None),
        ("for=192.0.2.7;host=a/b", None),
        ('for=192.0.2.7;host="a/b"', origin(CLIENT)),
        ("for=192.0.2.7;proto=gopher", origin(CLIENT)),
        ("for=192.0.2.7;x=\xfc", None),
        ("", None),
        (", ,", None),
    ],
)
def test_forwarded_is_read_from_its_end(value: str, found: Origin | None) -> None:
    assert behind("forwarded", forwarded=value) == found


def test_scheme_and_host_of_forwarded_are_those_nearest_to_the_client() -> None:
    value = (
        "for=1.1.1.1;proto=http;host=evil.example, for=192.0.2.7;proto=https,"
        " for=10.0.0.3;proto=http;host=example.org:444, for=10.0.0.2;host=inner"
    )
    found = behind("forwarded", forwarded=value)
    assert found == origin(CLIENT, 0, "https", "example.org", 444)


MADE_UP = [
    "", "for=10.0.0.9", 'for="', 'for="\\', '"', 'x="a, for=1.1.1.1', 'for="1.1.1.1"', '"",', '\\"',
    "for=10.0.0.9;proto=", "for=10.0.0.9;", ";", ",", "=", 'for=10.0.0.9;x="\\"', 'a="b\\\\"',
    "a=b",
]  # fmt: skip
ADDED = [
    "for=192.0.2.7;proto=https;host=example.org",
    'for="192.0.2.7";proto=https;host="example.org"',
    'host=example.org;for=192.0.2.7;proto="https"',
    'proto=https;ext="a,\\"b\\\\";host=example.org;for="192.0.2.7"',
]


@pytest.mark.parametrize("added", ADDED)
@pytest.mark.parametrize("made_up", MADE_UP)
@pytest.mark.parametrize("joint", [", ", ",", "\n"])
def test_what_a_client_makes_up_never_hides_what_the_front_added(
    made_up: str, added: str, joint: str
) -> None:
    expected = origin(CLIENT, 0, "https", "example.org")
    assert behind("forwarded", forwarded=made_up + joint + added) == expected


@given(st.text(st.sampled_from('",;=\\ \tfor:proto10.[]_a'), max_size=60), st.sampled_from(ADDED))
def test_no_forgery_of_forwarded_gets_past_the_front(made_up: str, added: str) -> None:
    expected = origin(CLIENT, 0, "https", "example.org")
    assert behind("forwarded", forwarded=f"{made_up}, {added}") == expected


@given(st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=60))
def test_no_forgery_of_x_forwarded_for_gets_past_the_front(made_up: str) -> None:
    assert behind(x_forwarded_for=f"{made_up}, {CLIENT}") == origin(CLIENT)


@given(st.ip_addresses(), st.integers(0, 65535))
def test_every_address_is_read_in_every_form(address: object, port: int) -> None:
    text = str(address).encode()
    bracketed = b"[%b]" % text if b":" in text else text
    plain = read_node(text)
    assert plain is not None
    assert plain[1] == 0
    assert read_node(bracketed) == plain
    assert read_node(bracketed + b":%d" % port) == (plain[0], port)
    assert read_node(bracketed + b":_hidden") == plain


def test_front_behind_a_unix_socket_may_be_trusted() -> None:
    assert behind(peer="", x_forwarded_for=CLIENT) == origin(CLIENT)
    never: Callable[[str], bool] = lambda address: False  # noqa: E731
    assert client(headers(x_forwarded_for=CLIENT), "", never) is None
