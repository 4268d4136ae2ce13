"""A request as CGI variables: `wire/cgi_env.py` with what `exchange.Request` has.

Decides nothing but which attribute goes where.
"""

from gateway.exchange import Refused, Request
from gateway.wire.cgi_env import variables


def described(
    request: Request, length: int | None, *, software: bytes, authorization: bool
) -> dict[bytes, bytes]:
    """Return the variables of `request`, whose body has `length` bytes (None: until its end).

    Raises Refused(400) for a request that has a NUL byte.
    """
    place = request.notes.place
    try:
        return variables(
            method=request.method,
            request_uri=request.target,
            query=request.query,
            protocol=request.protocol,
            headers=request.headers,
            length=length,
            script_name=place.script_name,
            path_info=place.path_info,
            document_root=place.root,
            script_filename=place.file,
            scheme=request.scheme,
            server_name=request.host,
            server_port=request.local[1],
            server_address=request.local[0],
            remote_address=request.remote[0],
            remote_port=request.remote[1],
            software=software,
            authorization=authorization,
            request_id=request.id,
            params=request.params,
        )
    except ValueError:
        raise Refused(400, "The request has a NUL byte.") from None
