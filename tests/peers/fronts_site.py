"""The site that is served through every web server in test_fronts.py, and some unusual ones.

`{base}` stands for the directory that holds it all.
"""

import shutil
from pathlib import Path

SCRIPTS = {
    "show": """#!/bin/sh
printf 'Content-Type: text/plain\\n\\n'
for name in REQUEST_METHOD SCRIPT_NAME PATH_INFO QUERY_STRING SERVER_NAME SERVER_PORT \\
    REMOTE_ADDR REMOTE_USER HTTPS HTTP_PROXY HTTP_AUTHORIZATION; do
    eval "value=\\${$name-(unset)}"
    printf '%s=%s\\n' "$name" "$value"
done
""",
    "hash": "#!/bin/sh\nsum=$(sha256sum)\nprintf 'Content-Type: text/plain\\n\\n%s' \"$sum\"\n",
    "early": "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n'\nexec sha256sum\n",
    "refuse": "#!/bin/sh\nprintf 'Status: 403 No\\nContent-Type: text/plain\\n\\nnot here\\n'\n",
    "same": """#!/bin/sh
if [ "$HTTP_IF_NONE_MATCH" = '"one"' ]; then
    printf 'Status: 304 Not Modified\\nETag: "one"\\n\\n'
else
    printf 'Content-Type: text/plain\\nETag: "one"\\n\\nthe text\\n'
fi
""",
    "local": "#!/bin/sh\nprintf 'Location: /cgi-bin/show/there?from=local\\n\\n'\n",
    "external": "#!/bin/sh\nprintf 'Location: http://elsewhere.example/x?y=1\\n\\n'\n",
    "cookies": """#!/bin/sh
printf 'Content-Type: text/plain\\n'
for n in 1 2 3 4 5 6 7 8; do printf 'Set-Cookie: c%s=%01000d\\n' $n 0; done
printf '\\n%s' "$HTTP_COOKIE"
""",
    "pieces": """#!/bin/sh
printf 'Content-Type: text/event-stream\\n\\n'
for n in 1 2 3; do
    printf 'data: %s\\n\\n' $n
    until [ -e "{base}/go/$QUERY_STRING-$n" ]; do sleep 0.02; done
done
printf 'data: end\\n\\n'
""",
    "silent": """#!/bin/sh
echo $$ >"{base}/go/$QUERY_STRING"
printf 'Content-Type: text/plain\\n\\nhere\\n'
exec sleep 1000
""",
    "writing": """#!/bin/sh
echo $$ >"{base}/go/$QUERY_STRING"
printf 'Content-Type: text/plain\\n\\nhere\\n'
while :; do echo more; sleep 0.02; done
""",
    "fails": "#!/bin/sh\necho 'the cause of it' >&2\nexit 3\n",
    "git": "#!/bin/sh\nexec {git}\n",
}


SECRET = ("page.cgi~", "page.cgi.bak", ".page.cgi.swp", "Page.CGI", ".htpasswd")
"""Files among the pages that hold what nobody may read."""

SETTINGS = """
[[site]]
hosts = ["localhost"]
root = "{base}/htdocs"
environment = { GIT_PROJECT_ROOT = "{base}/store", GIT_HTTP_EXPORT_ALL = "1" }
[[site.route]]
path = "/cgi-bin/"
cgi = "{base}/cgi-bin"
[[site.route]]
path = "/asking/"
cgi = "{base}/cgi-bin"
authorization = true
[[site.route]]
path = "/files/"
root = "{base}/files"
[[site.route]]
match = "*.cgi"
cgi = true
"""

UNUSUAL = """
[[site]]
root = "{base}/first root"
index = ["index.html", "a b.html"]
listing = true
symlinks = "none"
[[site.route]]
path = "/a b;{c}#'$d/"
cgi = "{base}/first root/cgi"
authorization = true
[[site.route]]
match = "[!a-c]?*.p[lm]"
cgi = true
[[site]]
hosts = ["*.example.org", "example.org", "[::1]"]
root = "{base}"
symlinks = "any"
request_body = "0 B"
[[site]]
hosts = ["third.example"]
[[site.route]]
path = "/"
pool = "app"
[pool.app]
command = ["/bin/true"]
"""
"""For blocks that are only looked at: names that need care, a site for any host, one without files.
"""


def lay_out(base: Path) -> None:
    """Make the directories, the scripts and the files."""
    base.chmod(0o755)
    for name in ("htdocs", "files", "cgi-bin", "sockets", "go", "store"):
        (base / name).mkdir()
    git = shutil.which("git-http-backend") or "/usr/lib/git-core/git-http-backend"
    for name, text in SCRIPTS.items():
        script = base / "cgi-bin" / name
        script.write_text(text.replace("{base}", str(base)).replace("{git}", git))
        script.chmod(0o755)
    shutil.copy(base / "cgi-bin" / "show", base / "htdocs" / "page.cgi")
    for name in SECRET:
        (base / "htdocs" / name).write_text("the text of a program")
    (base / "htdocs" / "plain.txt").write_text("a plain file\n")
    (base / "files" / "a.txt").write_text("a file\n")
    for path in base.rglob("*"):  # whatever the umask: another account looks at them
        path.chmod(0o644 if path.is_file() and path.suffix not in ("", ".cgi") else 0o755)
