#!/bin/sh
# Install from the system's packages the programs that tests/peers drives. Does nothing where all are
# there. Never fails: what cannot be had is listed, and its tests skip by name.
set -u

PACKAGES="git gitweb perl libcgi-pm-perl libfcgi-perl libfcgi-dev libfcgi-bin php-cgi curl gcc
nginx-light lighttpd apache2 caddy haproxy fcgiwrap spawn-fcgi uwsgi-core uwsgi-plugin-python3 wrk
iproute2"

installed() {
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

absent() {
    for package in $PACKAGES; do
        # Any of the nginx packages will do, and any C compiler.
        case $package in
        nginx-light) command -v nginx >/dev/null 2>&1 || [ -x /usr/sbin/nginx ] && continue ;;
        gcc) command -v cc >/dev/null 2>&1 && continue ;;
        esac
        installed "$package" || printf '%s ' "$package"
    done
}

say() {
    printf 'peers: %s\n' "$*"
}

if ! command -v dpkg-query >/dev/null 2>&1 || ! command -v apt-get >/dev/null 2>&1; then
    say "no apt-get on this system; the tests use what is there and skip the rest by name"
    exit 0
fi

missing=$(absent)
[ -z "$missing" ] && exit 0

if [ "$(id -u)" != 0 ]; then
    say "not root, so not installed: $missing"
    exit 0
fi

# Debian starts a service when it installs one, unless this file says no (exit status 101).
policy=/usr/sbin/policy-rc.d
made=
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy" && made=yes
fi
tidy() {
    [ -n "$made" ] && rm -f "$policy"
}
trap tidy EXIT
trap 'exit 0' INT TERM

export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
get() {
    apt-get install -y -q --no-install-recommends "$@" >/dev/null 2>&1 </dev/null
}

say "installing $missing"
# The lists of a fresh image are empty; old ones may name files that are gone.
# shellcheck disable=SC2086
if ! get $missing; then
    apt-get update -q >/dev/null 2>&1 || say "apt-get update failed"
    # One unknown package must not keep the others away.
    # shellcheck disable=SC2086
    get $missing || for package in $missing; do get "$package" || true; done
fi

missing=$(absent)
[ -z "$missing" ] || say "could not be installed, their tests will skip by name: $missing"
exit 0
