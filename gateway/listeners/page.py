"""Pages of our own: what a client sees when a handler declined.

Decides their words and looks. Everything from outside is escaped; nothing is shown of paths,
programs or reasons unless the operator asked for explanations (`gateway serve`).
"""

import html

from gateway.exchange import Headers, Refused, Response
from gateway.journal import visible
from gateway.wire.http_response import status_line

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:12vh auto;padding:0 1.5rem;"
    "color:#222;background:#fff}h1{font-size:1.6rem;margin:0 0 .5rem}p{margin:.5rem 0}"
    "pre{background:#f4f4f6;padding:1rem;border-radius:.5rem;overflow:auto;white-space:pre-wrap}"
    "small{color:#777}@media(prefers-color-scheme:dark){body{color:#ddd;background:#16181d}"
    "pre{background:#22252d}small{color:#888}}"
)

_HEADERS: Headers = (
    (b"Content-Type", b"text/html; charset=utf-8"),
    (b"X-Content-Type-Options", b"nosniff"),
    (b"Cache-Control", b"no-store"),
)


def phrase(status: int) -> str:
    """Return the standard reason phrase of `status`."""
    return status_line(status)[13:-2].decode("ascii")


def page(refused: Refused, request_id: str, explain: bool) -> Response:
    """Return the answer to a request that was refused.

    `explain` shows the operator's words (`log`, `detail`) to the client: for developers only.
    """
    status = refused.status
    title = f"{status} {phrase(status)}"
    parts = [f"<h1>{title}</h1>"]
    if refused.say:
        parts.append(f"<p>{html.escape(refused.say)}</p>")
    if explain and refused.log:
        parts.append(f"<p>{html.escape(visible(refused.log))}</p>")
    if explain and refused.detail:
        lines = "\n".join(visible(line) for line in refused.detail.splitlines())
        parts.append(f"<pre>{html.escape(lines)}</pre>")
    if status >= 500:
        parts.append(f"<p><small>request {request_id}</small></p>")
    text = (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{title}</title><style>{_STYLE}</style>{''.join(parts)}</html>\n"
    )
    return Response(status=status, headers=_HEADERS + refused.headers, body=text.encode())
