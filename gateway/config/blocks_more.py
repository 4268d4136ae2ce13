"""Floor 6: blocks of configuration for lighttpd, Caddy and HAProxy.

Decides every line of them, and says in a comment what it is for. What is ours and where we listen
is `config/share.py`'s. Must not quote or escape: what comes from there holds nothing that would
need it.

lighttpd: mod_fastcgi, mod_scgi, mod_proxy, server.stream-*-body. Caddy: reverse_proxy with its
transport fastcgi. HAProxy: configuration manual, section 10 (FastCGI applications).
"""

from gateway.config.blocks import column, heading
from gateway.config.share import Door, Share

# lighttpd


def lighttpd(door: Door, shares: tuple[Share, ...]) -> list[str]:
    """Write for lighttpd 1.4.61 or newer."""
    module = {"fastcgi": "mod_fastcgi", "scgi": "mod_scgi", "http": "mod_proxy"}[door.protocol]
    where = (
        "Put it into /etc/lighttpd/conf-enabled/90-gateway.conf, then:",
        "lighttpd -tt -f /etc/lighttpd/lighttpd.conf && systemctl reload lighttpd",
    )
    lines = [*heading("lighttpd", door, *where), f'server.modules += ( "{module}" )']
    for share in shares:
        lines.append("")
        # Of several that fit, lighttpd takes the last.
        names = "|".join(map(_host_pattern, share.hosts)) or ".*"
        lines.append(f'$HTTP["host"] =~ "^({names})(:[0-9]+)?$" {{')
        lines += [f"    {line}" if line else line for line in _lighttpd_site(door, share)]
        lines.append("}")
    return lines


def _host_pattern(host: str) -> str:
    name = host.replace(".", "[.]")
    if host.startswith("["):
        name = "." + host[1:-1].replace(".", "[.]") + "."
    return name.replace("*", ".+", 1)


def _lighttpd_site(door: Door, share: Share) -> list[str]:
    lines = []
    if share.root:
        names = ", ".join(f'"{name}"' for name in share.index)
        lines += [
            column(f'server.document-root = "{share.root}"', "files that are not Gateway's"),
            f"index-file.names = ( {names} )",
        ]
        if share.symlinks != "any":
            lines += [
                f'# symlinks = "{share.symlinks}": lighttpd cannot compare owners, so none',
                'server.follow-symlink = "disable"',
            ]
    kib = max(1, -(-share.body // 1024))
    lines += [
        column(f"server.max-request-size = {kib}", "KiB: limits.request_body; 413 beyond it"),
        "# 0: lighttpd takes a whole body first. With 1 or 2 a program reads while the client",
        "# sends, but a body of unknown length, as of a large git push, is answered 411.",
        "server.stream-request-body = 0",
        column("server.stream-response-body = 2", "what it writes is sent at once"),
        "",
        *(f"# {area.why}" for area in share.areas),
        f'$HTTP["url"] =~ "(?i){share.pattern}" {{',
        *(f"    {line}" for line in _lighttpd_backend(door, share)),
        "}",
    ]
    return lines


def _lighttpd_backend(door: Door, share: Share) -> list[str]:
    where = [f'"host" => "{door.host}",', f'"port" => {door.port},']
    if door.path and door.protocol == "http":
        where = [f'"host" => "{door.path}",', '"port" => 0,']
    elif door.path:
        where = [f'"socket" => "{door.path}",']
    prefix = "proxy" if door.protocol == "http" else door.protocol
    key = "" if door.protocol == "http" else "/"
    lines = [f'{prefix}.server = ( "{key}" => ((', *(f"    {line}" for line in where)]
    if door.protocol != "http":
        what = "Gateway finds the program, not lighttpd"
        lines.append(column('    "check-local" => "disable",', what))
    lines += [
        column('    "tcp-fin-propagate" => "enable",', "a client that leaves ends its program"),
        column(f'    "read-timeout" => {share.patience},', "longer than Gateway's limits, which"),
        column(f'    "write-timeout" => {share.patience},', "say in its log what took so long"),
        ")) )",
    ]
    return lines


# Caddy


def caddy(door: Door, shares: tuple[Share, ...]) -> list[str]:
    """Write for Caddy 2.6 or newer."""
    where = (
        "Put it into /etc/caddy/Caddyfile, then: systemctl reload caddy",
        "Caddy gets a certificate for each of the names; http://NAME is one without.",
    )
    lines = heading("Caddy", door, *where)
    for number, share in enumerate(shares):
        lines += [""] * bool(number)
        lines += [*_caddy_site(door, share)]
    return lines


def _caddy_site(door: Door, share: Share) -> list[str]:
    address = f"unix/{door.path}" if door.path else door.authority
    lines = [f"{', '.join(share.hosts) or ':80'} {{"]
    if share.root:
        lines += [
            "\t# What is not Gateway's is sent by Caddy, also through symbolic links. Where others",
            "\t# may make such links, take out this line and file_server, and the @gateway twice.",
            f'\troot * "{share.root}"',
            "",
            *(f"\t# {area.why}" for area in share.areas),
            f'\t@gateway path_regexp "(?i){share.pattern}"',
        ]
    lines.append(f"\treverse_proxy {'@gateway ' if share.root else ''}{address} {{")
    if door.protocol == "fastcgi":
        lines += [
            "\t\t# Nothing is split: Gateway finds the program, and what is PATH_INFO.",
            "\t\ttransport fastcgi {",
            "\t\t\t# Longer than Gateway's limits, which say in its log what took so long.",
            f"\t\t\tread_timeout {share.patience}s",
            f"\t\t\twrite_timeout {share.patience}s",
            "\t\t}",
        ]
    lines += [
        "\t\t# What a program writes is sent at once. With -1 it would also run on for a client",
        "\t\t# that has left.",
        "\t\tflush_interval 1ms",
        "\t}",
    ]
    if share.root:
        names = " ".join(f'"{name}"' for name in share.index)
        lines += ["\tfile_server {", f"\t\tindex {names}", "\t}"]
    return [*lines, "}"]


# HAProxy


_HAPROXY_APPLICATION = (
    "fcgi-app gateway",
    column("    docroot /", "HAProxy wants one; Gateway has its own"),
    column("    option keep-conn", "connections are used again"),
    column("    option get-values", "HAProxy asks what it may do; it is"),
    column("    option mpxs-conns", "told: one request at a time"),
    column("    set-param SERVER_NAME %[req.hdr(host),host_only]", "without the port"),
)


def haproxy(door: Door, shares: tuple[Share, ...]) -> list[str]:
    """Write for HAProxy 2.6 or newer. It sends no files, so all of a site is ours."""
    where = (
        "Add it to /etc/haproxy/haproxy.cfg, then:",
        "haproxy -c -f /etc/haproxy/haproxy.cfg && systemctl reload haproxy",
    )
    lines = heading("HAProxy", door, *where)
    if door.path:
        lines[-1:] = [
            "# With a chroot in its global section, as Debian has it, HAProxy looks for the socket",
            "# below that directory: let Gateway listen there, or on 127.0.0.1; or take it out.",
            "",
        ]
    patience = max(share.patience for share in shares)
    lines += [
        "defaults gateway",
        "    mode http",
        "    log global",
        "    # A client that leaves ends its program. It must hold for the frontend too, which",
        "    # takes it from here only.",
        "    option abortonclose",
        "    timeout http-request 10s",
        "    timeout connect 5s",
        column(f"    timeout client {patience}s", "longer than Gateway's limits, which"),
        column(f"    timeout server {patience}s", "say in its log what took so long"),
        "",
        "frontend gateway_web from gateway",
        column("    bind :80", "for TLS: bind :443 ssl crt FILE"),
        *_haproxy_choice(shares),
        "",
        "backend gateway from gateway",
    ]
    server = f"unix@{door.path}" if door.path else door.authority
    if door.protocol == "http":
        return [
            *lines,
            "    option forwardfor",
            "    http-request set-header X-Forwarded-Proto %[ssl_fc,iif(https,http)]",
            f"    server gateway {server}",
        ]
    asked = any(share.authorization for share in shares)
    lines.append("    # Else HAProxy would make REMOTE_USER of what the client says it is.")
    if asked:
        lines.append("    http-request set-var(txn.gateway) req.hdr(authorization)")
    lines += [
        "    http-request del-header authorization",
        "    use-fcgi-app gateway",
        f"    server gateway {server} proto fcgi",
        "",
        *_HAPROXY_APPLICATION,
    ]
    if asked:
        what = "authorization = true"
        lines.append(column("    set-param HTTP_AUTHORIZATION %[var(txn.gateway)]", what))
    return lines


def _haproxy_choice(shares: tuple[Share, ...]) -> list[str]:
    if any(not share.hosts for share in shares):
        return ["    default_backend gateway"]
    lines = []
    for host in (host for share in shares for host in share.hosts):
        how = f"-m end {host[1:]}" if host.startswith("*") else f"-m str {host}"
        lines.append(f"    acl for_gateway req.hdr(host),host_only,lower {how}")
    return [*lines, "    use_backend gateway if for_gateway"]
