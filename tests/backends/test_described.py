"""A request as variables: every attribute in its place."""

import pytest

from gateway.backends.described import described
from gateway.exchange import NO_BODY, NO_PARAMS, Limits, Notes, Place, Refused, Request
from gateway.wire.cgi_env import variables

REQUEST = Request(
    id="0a1b2c",
    method="POST",
    target=b"/cgi-bin/a.cgi/x?y",
    path=b"/cgi-bin/a.cgi/x",
    query=b"y",
    protocol=b"HTTP/1.0",
    headers=((b"content-type", b"text/plain"), (b"authorization", b"secret")),
    host=b"example.org",
    scheme=b"https",
    remote=("192.0.2.7", 40000),
    local=("192.0.2.1", 443),
    body=NO_BODY,
    length=3,
    notes=Notes(Limits()),
)
PLACE = Place(root=b"/srv", file=b"/srv/c/a.cgi", script_name=b"/cgi-bin/a.cgi", path_info=b"/x")


@pytest.mark.parametrize("params", [NO_PARAMS, {b"REMOTE_USER": b"alice", b"HTTP_X": b"evil"}])
@pytest.mark.parametrize("authorization", [False, True])
def test_every_attribute_is_in_its_place(params: dict[bytes, bytes], authorization: bool) -> None:
    request = REQUEST._replace(params=params, notes=Notes(Limits()))
    request.notes.place = PLACE
    env = described(request, 3, software=b"gateway", authorization=authorization)
    assert env == variables(
        method="POST",
        request_uri=b"/cgi-bin/a.cgi/x?y",
        query=b"y",
        protocol=b"HTTP/1.0",
        headers=REQUEST.headers,
        length=3,
        script_name=b"/cgi-bin/a.cgi",
        path_info=b"/x",
        document_root=b"/srv",
        script_filename=b"/srv/c/a.cgi",
        scheme=b"https",
        server_name=b"example.org",
        server_port=443,
        server_address="192.0.2.1",
        remote_address="192.0.2.7",
        remote_port=40000,
        software=b"gateway",
        authorization=authorization,
        request_id="0a1b2c",
        params=params,
    )
    assert env.get(b"REMOTE_USER") == params.get(b"REMOTE_USER")


def test_nul_byte_is_the_clients_fault() -> None:
    with pytest.raises(Refused) as caught:
        described(REQUEST._replace(query=b"a\0b"), 3, software=b"gateway", authorization=False)
    assert caught.value.status == 400
