"""Floor 6: blocks of configuration for nginx and Apache.

Decides every line of them, and says in a comment what it is for. What is ours and where we listen
is `config/share.py`'s. Must not quote or escape: what comes from there holds nothing that would
need it.

nginx: ngx_http_fastcgi_module, ngx_http_scgi_module, ngx_http_upstream_module.
Apache: mod_proxy, mod_proxy_fcgi, mod_proxy_scgi, core (AllowEncodedSlashes, CGIPassAuth).
"""

from gateway.config.share import Door, Share

KEPT = 16
"""Idle connections that each worker process of nginx keeps to us."""

_NAMES = {"fastcgi": "FastCGI", "scgi": "SCGI", "http": "HTTP"}

_NGINX_PARAMETERS = (
    ("REQUEST_METHOD", "$request_method", ""),
    ("REQUEST_URI", "$request_uri", ""),
    ("SCRIPT_NAME", "$uri", "the whole path: Gateway finds the program in it"),
    ("QUERY_STRING", "$query_string", ""),
    ("CONTENT_TYPE", "$content_type", ""),
    ("CONTENT_LENGTH", "$content_length", ""),
    ("SERVER_PROTOCOL", "$server_protocol", ""),
    ("REQUEST_SCHEME", "$scheme", ""),
    ("HTTPS", "$https if_not_empty", ""),
    ("SERVER_NAME", "$host", "$server_name may be a pattern"),
    ("SERVER_ADDR", "$server_addr", ""),
    ("SERVER_PORT", "$server_port", ""),
    ("SERVER_SOFTWARE", "nginx/$nginx_version", "Gateway heeds what nginx cannot"),
    ("REMOTE_ADDR", "$remote_addr", ""),
    ("REMOTE_PORT", "$remote_port", ""),
)


def heading(server: str, door: Door, *where: str) -> list[str]:
    """Return the comment that opens a block."""
    lines = [
        f"# Gateway behind {server}, by {_NAMES[door.protocol]}. Printed by `gateway snippet`.",
        *(f"# {line}" for line in where),
    ]
    if door.path and not door.group:
        lines.append(f"# To let {server} open the socket, give the listener in gateway.toml")
        lines.append('# a group = "..." that it is in, such as www-data.')
    if not door.trusted:
        lines.append("# Give the listener in gateway.toml a trust = [...] with its address;")
        lines.append(f"# until then every client seems to be {server} itself.")
    return [*lines, ""]


def column(text: str, comment: str, width: int = 48) -> str:
    """Return a line with its comment."""
    return f"{text:<{width}} # {comment}" if comment else text


# nginx


def nginx(door: Door, shares: tuple[Share, ...]) -> list[str]:
    """Write for nginx 1.15.3 or newer."""
    where = (
        "Put it into /etc/nginx/conf.d/gateway.conf, which is read inside http { }; then:",
        "nginx -t && nginx -s reload",
    )
    lines = heading("nginx", door, *where)
    server = f"unix:{door.path}" if door.path else door.authority
    lines += ["upstream gateway {", f"    server {server};"]
    if door.protocol != "scgi":  # each SCGI connection carries one request
        lines.append(column(f"    keepalive {KEPT};", "idle connections of each nginx process"))
        what = "shorter than limits.keepalive: nginx closes first"
        lines.append(column(f"    keepalive_timeout {door.keep}s;", what))
    lines.append("}")
    for share in shares:
        lines += ["", *_nginx_server(door, share)]
    return lines


def _nginx_server(door: Door, share: Share) -> list[str]:
    lines = ["server {", column("    listen 80;", "for TLS: listen 443 ssl; and the certificate")]
    if share.hosts:
        lines.append(f"    server_name {' '.join(share.hosts)};")
    else:
        lines.append(column("    server_name _;", "any host that no other server { } names"))
    if share.root:
        lines.append(column(f'    root "{share.root}";', "files that are not Gateway's"))
        lines.append(f"    index {' '.join(_quoted(name) for name in share.index)};")
        if share.symlinks != "any":
            how = "on" if share.symlinks == "none" else "if_not_owner"
            links = f"    disable_symlinks {how} from=$document_root;"
            lines.append(column(links, f'symlinks = "{share.symlinks}"'))
    lines += ["", *_nginx_ways(door, share), ""]
    prefix = "proxy" if door.protocol == "http" else door.protocol
    address = "http://gateway" if door.protocol == "http" else "gateway"
    if not share.root:
        return [*lines, f"    location / {{ {prefix}_pass {address}; }}", "}"]
    for area in share.areas:
        lines.append(f"    # {area.why}")
        lines.append(f'    location ~* "{area.pattern}" {{ {prefix}_pass {address}; }}')
    return [*lines, "}"]


def _nginx_ways(door: Door, share: Share) -> list[str]:
    prefix = "proxy" if door.protocol == "http" else door.protocol
    early, why = "off", "a program reads while the client still sends"
    if door.protocol == "scgi":  # seen with 1.22: the length of what it has read so far
        early, why = "on", "nginx sends a wrong CONTENT_LENGTH with off"
    ways = [
        (f"client_max_body_size {max(1, share.body)};", "limits.request_body; 413 beyond it"),
        (f"{prefix}_request_buffering {early};", why),
        (f"{prefix}_buffering off;", "what a program writes is sent at once"),
        (f"{prefix}_buffer_size 32k;", "its header may be large: cookies"),
        (f"{prefix}_buffers 4 32k;", "nginx wants these no smaller"),
        (f"{prefix}_read_timeout {share.patience}s;", "longer than Gateway's limits, which"),
        (f"{prefix}_send_timeout {share.patience}s;", "say in its log what took so long"),
        (f"{prefix}_intercept_errors off;", "error pages are the program's own"),
    ]
    if door.protocol == "fastcgi":
        ways.append(("fastcgi_keep_conn on;", "uses the kept connections"))
    lines = [column(f"    {text}", comment) for text, comment in ways]
    lines.append("")
    if door.protocol == "http":
        pairs = (
            ("Host", "$http_host"),
            ("Connection", '""'),
            ("X-Forwarded-For", "$proxy_add_x_forwarded_for"),
            ("X-Forwarded-Proto", "$scheme"),
            ("X-Forwarded-Host", "$http_host"),
        )
        lines.append(column("    proxy_http_version 1.1;", "for the kept connections"))
        return lines + [f"    proxy_set_header {name} {value};" for name, value in pairs]
    lines.append(
        "    # REMOTE_USER is missing on purpose: $remote_user is what the client says it is."
    )
    lines.append(f"    # With auth_basic, add: {prefix}_param REMOTE_USER $remote_user;")
    for name, value, comment in _NGINX_PARAMETERS:
        if (name, door.protocol) != ("CONTENT_LENGTH", "scgi"):  # nginx itself sends it, first
            lines.append(column(f"    {prefix}_param {name} {value};", comment))
    if door.protocol == "scgi":
        lines.append(column("    scgi_param SCGI 1;", "the protocol wants it"))
    return lines


def _quoted(name: str) -> str:
    return name if name.replace(".", "").isalnum() else f'"{name}"'


# Apache


def apache(door: Door, shares: tuple[Share, ...]) -> list[str]:
    """Write for Apache 2.4.26 or newer."""
    modules = {"fastcgi": "proxy_fcgi", "scgi": "proxy_scgi", "http": "proxy_http headers"}
    where = (
        "Put it into /etc/apache2/sites-available/gateway.conf, then:",
        f"a2enmod {modules[door.protocol]} && a2ensite gateway && apachectl graceful",
    )
    lines = heading("Apache", door, *where)
    scheme = {"fastcgi": "fcgi", "scgi": "scgi", "http": "http"}[door.protocol]
    backend = f"{scheme}://{door.authority}"
    if door.path:
        backend = f"unix:{door.path}|{scheme}://gateway"
    patience = max(share.patience for share in shares)
    flags = f"enablereuse=off timeout={patience}"
    if door.protocol != "scgi":
        flags += " flushpackets=on"
    lines += [
        "# enablereuse=off: no idle connection is kept. flushpackets=on: what a program writes is",
        "# sent at once. timeout: longer than Gateway's limits, which say what took so long.",
        f'<Proxy "{backend}">',
        f"    ProxySet {flags}",
        "</Proxy>",
    ]
    for share in shares:
        lines += ["", *_apache_host(door, share, backend)]
    return lines


def _apache_host(door: Door, share: Share, backend: str) -> list[str]:
    # Apache takes a comment on a line of its own only.
    lines = ["# for TLS: *:443, SSLEngine on and the certificate", "<VirtualHost *:80>"]
    for number, host in enumerate(share.hosts):
        # A ServerName that is a pattern would stand in redirects.
        plain = number == 0 and not host.startswith("*")
        lines.append(f"    {'ServerName' if plain else 'ServerAlias'} {host}")
    if share.root:
        link = {"none": "None", "owner-match": "SymLinksIfOwnerMatch", "any": "FollowSymLinks"}
        lines += [
            "    # files that are not Gateway's",
            f'    DocumentRoot "{share.root}"',
            f"    DirectoryIndex {' '.join(_quoted(name) for name in share.index)}",
            f'    <Directory "{share.root}">',
            f'        # symlinks = "{share.symlinks}"',
            f"        Options {link[share.symlinks]}",
            "        AllowOverride None",
            "        Require all granted",
            "    </Directory>",
        ]
    lines += [
        "",
        "    # limits.request_body; 413 beyond it",
        f"    LimitRequestBody {max(1, share.body)}",
        "    # %2F reaches a program as it is, encoded; else Apache answers 404",
        "    AllowEncodedSlashes NoDecode",
    ]
    if door.protocol == "fastcgi":
        lines += ["    # variables as CGI has them", "    ProxyFCGIBackendType GENERIC"]
    if door.protocol == "http":
        lines += [
            "    ProxyPreserveHost On",
            '    RequestHeader set X-Forwarded-Proto "expr=%{REQUEST_SCHEME}"',
        ]
    lines.append("")
    # Without nocanon, Apache encodes a path anew, and answers 400 to some that have a %25.
    for area in share.areas:
        lines += [
            f"    # {area.why}",
            f'    ProxyPassMatch "(?i){area.pattern}" "{backend}" nocanon',
        ]
        if area.authorization and door.protocol != "http":
            lines += [
                "    # authorization = true",
                f'    <LocationMatch "(?i){area.pattern}">',
                "        CGIPassAuth On",
                "    </LocationMatch>",
            ]
    return [*lines, "</VirtualHost>"]
