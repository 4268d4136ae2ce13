"""Tenants' scripts: each of suEXEC's rules refuses by name, and what keeps them all runs as the
tenant. The keepers are real, and so are the accounts."""

import os
import signal
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.process import identity
from gateway.process.channel import (
    Exited,
    Failed,
    PoolAt,
    WantPool,
)
from gateway.process.identity import Case, Rule
from gateway.process.spec import KeeperSpec, ScriptRoot

Keep = Callable[..., Any]
Content = Callable[[int], bytes]

HELLO = "#!/bin/sh\necho hello\n"
WHO = """\
import os
print(os.getresuid(), os.getresgid(), sorted(os.getgroups()), os.getppid())
try:
    os.setuid(0)
except PermissionError:
    print("no way back")
"""

TABLES: dict[str, tuple[Rule[Case], ...]] = {
    "above": identity.ABOVE_RULES,
    "directory": identity.DIRECTORY_RULES,
    "holder": identity.HOLDER_RULES,
    "file": identity.TENANT_RULES,
}
US, OURS, ELSE = 1000, 1001, 1002
DIR, REG, LNK = stat.S_IFDIR, stat.S_IFREG, stat.S_IFLNK


def info(mode: int, uid: int = US, gid: int = OURS) -> os.stat_result:
    return os.stat_result((mode, 1, 1, 1, uid, gid, 0, 0, 0, 0))


@pytest.mark.parametrize(
    ("table", "found", "rule"),
    [
        ("file", info(REG | 0o755), ""),
        ("file", info(REG | 0o500), ""),
        ("file", info(DIR | 0o755), "not-regular"),
        ("file", info(stat.S_IFIFO | 0o755), "not-regular"),
        ("file", info(REG | 0o4755), "set-id"),
        ("file", info(REG | 0o2755), "set-id"),
        ("file", info(REG | 0o755, 0), "owner"),
        ("file", info(REG | 0o755, ELSE), "owner"),
        ("file", info(REG | 0o755, US, 0), "group"),
        ("file", info(REG | 0o755, US, ELSE), "group"),
        ("file", info(REG | 0o775), "group-writable"),
        ("file", info(REG | 0o757), "world-writable"),
        ("file", info(REG | 0o4777, ELSE, ELSE), "set-id"),  # the first that is broken
        ("directory", info(DIR | 0o755), ""),
        ("directory", info(DIR | 0o755, US, ELSE), ""),
        ("directory", info(LNK | 0o777), ""),
        ("directory", info(DIR | 0o755, 0), "directory-owner"),
        ("directory", info(DIR | 0o755, ELSE), "directory-owner"),
        ("directory", info(LNK | 0o777, ELSE), "directory-owner"),
        ("directory", info(DIR | 0o775), "directory-writable"),
        ("directory", info(DIR | 0o757), "directory-writable"),
        ("directory", info(DIR | 0o1777), "directory-writable"),
        ("holder", info(DIR | 0o755), ""),
        ("holder", info(DIR | 0o755, US, ELSE), "directory-group"),
        ("above", info(DIR | 0o755), ""),
        ("above", info(DIR | 0o755, 0, 0), ""),
        ("above", info(DIR | 0o775, 0, 0), ""),
        ("above", info(DIR | 0o1777, 0, 0), ""),
        ("above", info(LNK | 0o777, 0, 0), ""),
        ("above", info(DIR | 0o755, ELSE), "above-owner"),
        ("above", info(DIR | 0o1777, ELSE), "above-owner"),
        ("above", info(LNK | 0o777, ELSE), "above-owner"),
        ("above", info(DIR | 0o777, 0, 0), "above-writable"),
        ("above", info(DIR | 0o775, 0, OURS), "above-writable"),
    ],
)
def test_first_rule_that_is_broken_is_named(table: str, found: os.stat_result, rule: str) -> None:
    case = Case(found, info(DIR | 0o755), US, OURS)
    broken = [each.name for each in TABLES[table] if each.broken(case)]
    assert broken[:1] == ([rule] if rule else [])


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        (b"x.cgi", ""),
        (b"sub/..x/x..cgi", ""),
        (b"", "name"),
        (b"x\0.cgi", "name"),
        (b"/etc/x.cgi", "absolute"),
        (b"..", "traversal"),
        (b"../x.cgi", "traversal"),
        (b"sub/../x.cgi", "traversal"),
        (b"sub/..", "traversal"),
    ],
)
def test_names_that_cannot_be_a_script_are_refused_by_rule(name: bytes, rule: str) -> None:
    broken = [each.name for each in identity.NAME_RULES if each.broken(name)]
    assert broken[:1] == ([rule] if rule else [])


def test_rules_have_names_of_their_own() -> None:
    names = [rule.name for table in TABLES.values() for rule in table]
    names += [rule.name for rule in identity.NAME_RULES]
    assert len(set(names)) == len(names)


# In a keeper that became the tenant


class Site:
    """A tenant's root, its keeper, and a channel to that."""

    def __init__(self, tenant: Any, root: Path, kept: Any, channel: Any, content: Content) -> None:
        self.tenant = tenant
        self.root = root
        self.kept = kept
        self.channel = channel
        self._content = content

    def script(self, name: str, text: str = HELLO, mode: int = 0o755) -> Path:
        directory = (self.root / name).parent
        self.tenant.directory(str(directory.relative_to(self.tenant.home)))
        path: Path = self.tenant.script(
            str((self.root / name).relative_to(self.tenant.home)), text, mode
        )
        return path

    def refused(self, name: str) -> tuple[int, str, str]:
        """Order a script that must not run; return status, step and reason."""
        self.channel.order(7, name)
        reply = self.channel.reply()
        assert isinstance(reply, Failed), reply
        return reply.status, reply.step, reply.why

    def rule(self, name: str, thing: Path) -> str:
        """Order a script that a rule forbids; return the rule's name. It is told of `thing`."""
        status, step, why = self.refused(name)
        assert (status, step) == (403, "identity"), why
        assert why.startswith(f'{thing}: rule "'), why
        return why.split('"')[1]

    def runs(self, name: str) -> bytes:
        out, _ = self.channel.order(8, name)
        answer = self._content(out)
        reply = self.channel.reply()
        assert isinstance(reply, Exited), reply
        assert reply.status == 0
        return answer


@pytest.fixture
def become(spec: KeeperSpec, tenant: Any, keep: Keep) -> Callable[..., Any]:
    """Start a keeper that becomes the tenant."""

    def start(root: Path, **changes: object) -> Any:
        tenants = ScriptRoot(root=os.fsencode(root), tenant=True)
        return keep(
            user=tenant.name,
            uid=tenant.uid,
            gid=tenant.gid,
            groups=(tenant.gid, 4242),
            switch=True,
            sockets=os.fsencode(tenant.home / "sockets"),
            scripts={"r": replace(tenants, **changes)},  # type: ignore[arg-type]
        )

    return start


@pytest.fixture
def open_site(tenant: Any, become: Any, open_channel: Any, content: Content) -> Callable[..., Site]:
    def open_(**changes: object) -> Site:
        root = tenant.directory("public_html")
        kept = become(root, **changes)
        return Site(tenant, root, kept, open_channel(kept), content)

    return open_


@pytest.fixture
def site(open_site: Callable[..., Site]) -> Site:
    return open_site()


def test_script_that_keeps_all_rules_runs(site: Site) -> None:
    site.script("sub/deep/x.cgi")
    assert site.runs("sub/deep/x.cgi") == b"hello\n"


def test_script_that_only_its_owner_may_reach_runs(site: Site) -> None:
    """No rule asks for a bit that others would need: nobody else looks."""
    site.script("sub/x.cgi", mode=0o700)
    for each in (site.root / "sub", site.root, site.tenant.home):
        each.chmod(0o700)
    assert site.runs("sub/x.cgi") == b"hello\n"


def test_not_regular(site: Site) -> None:
    os.mkfifo(site.root / "pipe.cgi", 0o755)
    site.tenant.own(site.root / "pipe.cgi")
    assert site.rule("pipe.cgi", site.root / "pipe.cgi") == "not-regular"
    site.script("sub/x.cgi")
    assert site.rule("sub", site.root / "sub") == "not-regular"


@pytest.mark.parametrize("bit", [stat.S_ISUID, stat.S_ISGID])
def test_set_id(site: Site, bit: int) -> None:
    script = site.script("x.cgi", mode=0o755 | bit)
    assert site.rule("x.cgi", script) == "set-id"


@pytest.mark.parametrize("owner", ["root", "other"])
def test_owner(site: Site, other: Any, owner: str) -> None:
    script = site.script("x.cgi")
    os.chown(script, 0 if owner == "root" else other.uid, site.tenant.gid)
    assert site.rule("x.cgi", script) == "owner"


@pytest.mark.parametrize("gid", [0, 4242])
def test_group(site: Site, gid: int) -> None:
    """Not even one that the tenant is a member of: only its own."""
    script = site.script("x.cgi")
    os.chown(script, site.tenant.uid, gid)
    assert site.rule("x.cgi", script) == "group"


def test_group_writable(site: Site) -> None:
    assert site.rule("x.cgi", site.script("x.cgi", mode=0o775)) == "group-writable"


def test_world_writable(site: Site) -> None:
    assert site.rule("x.cgi", site.script("x.cgi", mode=0o757)) == "world-writable"


@pytest.mark.parametrize("where", [".", "sub", "sub/deep"])
def test_directory_owner(site: Site, other: Any, where: str) -> None:
    site.script("sub/deep/x.cgi")
    directory = site.root / where
    os.chown(directory, other.uid, site.tenant.gid)
    assert site.rule("sub/deep/x.cgi", directory) == "directory-owner"


@pytest.mark.parametrize("where", [".", "sub", "sub/deep"])
@pytest.mark.parametrize("mode", [0o775, 0o757, 0o1777])
def test_directory_writable(site: Site, where: str, mode: int) -> None:
    site.script("sub/deep/x.cgi")
    directory = site.root / where
    directory.chmod(mode)
    assert site.rule("sub/deep/x.cgi", directory) == "directory-writable"


def test_directory_group(site: Site) -> None:
    site.script("sub/x.cgi")
    os.chown(site.root, site.tenant.uid, 4242)  # that of a front server, which may read there
    assert site.runs("sub/x.cgi") == b"hello\n"
    os.chown(site.root / "sub", site.tenant.uid, 4242)
    assert site.rule("sub/x.cgi", site.root / "sub") == "directory-group"


def test_above_owner(site: Site, other: Any) -> None:
    site.script("x.cgi")
    os.chown(site.tenant.home, other.uid, site.tenant.gid)
    assert site.rule("x.cgi", site.tenant.home) == "above-owner"


@pytest.mark.parametrize("mode", [0o775, 0o777])
def test_above_writable(site: Site, mode: int) -> None:
    site.script("x.cgi")
    site.tenant.home.chmod(mode)
    assert site.rule("x.cgi", site.tenant.home) == "above-writable"


def test_link_of_somebody_else_on_the_way_to_the_root_is_above_owner(
    tenant: Any, other: Any, become: Any, open_channel: Any, content: Content
) -> None:
    there, link = tenant.directory("there"), tenant.home / "link"
    link.symlink_to(there)
    kept = become(link)
    site = Site(tenant, there, kept, open_channel(kept), content)
    site.script("x.cgi")
    for owner in (0, tenant.uid):
        os.chown(link, owner, tenant.gid, follow_symlinks=False)
        assert site.runs("x.cgi") == b"hello\n"
    other.own(link)
    assert site.rule("x.cgi", link) == "above-owner"


@pytest.mark.parametrize(
    ("name", "rule"),
    [("/x.cgi", "absolute"), ("../x.cgi", "traversal"), ("sub/../x.cgi", "traversal")],
)
def test_name_that_goes_elsewhere(site: Site, name: str, rule: str) -> None:
    site.script("x.cgi")
    site.script("sub/y.cgi")
    status, step, why = site.refused(name)
    assert (status, step) == (403, "identity")
    assert f'rule "{rule}"' in why


@pytest.mark.parametrize("absolute", [True, False])
def test_outside(site: Site, absolute: bool) -> None:
    site.tenant.script("secret.cgi", HELLO)
    link = site.root / "x.cgi"
    link.symlink_to(site.tenant.home / "secret.cgi" if absolute else "../secret.cgi")
    site.tenant.own(link)
    assert site.rule("x.cgi", link) == "outside"


def test_link(site: Site, other: Any, open_site: Callable[..., Site]) -> None:
    site.script("real/y.cgi")
    link = site.root / "x.cgi"
    link.symlink_to("real/y.cgi")
    site.tenant.own(link)
    assert site.runs("x.cgi") == b"hello\n"
    other.own(link)
    assert site.rule("x.cgi", link) == "link"
    site.tenant.own(link)
    assert open_site(symlinks="none").rule("x.cgi", link) == "link"


def test_directories_behind_a_link_are_looked_at_too(site: Site) -> None:
    site.script("open/deep/y.cgi")
    for name, target in (("x.cgi", "open/deep/y.cgi"), ("short", "open/deep")):
        (site.root / name).symlink_to(target)
        site.tenant.own(site.root / name)
    assert site.runs("short/y.cgi") == b"hello\n"
    (site.root / "open").chmod(0o777)
    assert site.rule("x.cgi", site.root / "open") == "directory-writable"
    assert site.rule("short/y.cgi", site.root / "open") == "directory-writable"


def test_hard_link_to_the_script_of_another_tenant_is_not_the_owners(
    site: Site, other: Any
) -> None:
    os.link(other.script("theirs.cgi", HELLO), site.root / "x.cgi")
    assert site.rule("x.cgi", site.root / "x.cgi") == "owner"


def test_what_is_not_there_is_not_found(site: Site) -> None:
    assert site.refused("missing.cgi")[0] == 404


def test_access_list_shows_in_the_groups_bits(site: Site, other: Any) -> None:
    """A named user who may write, by acl(5), in the form that the kernel keeps it in."""
    script = site.script("x.cgi")
    undefined = 0xFFFFFFFF
    entries = [
        (0x01, 7, undefined),  # the owner
        (0x02, 6, other.uid),  # a named user
        (0x04, 5, undefined),  # the group
        (0x10, 7, undefined),  # the mask
        (0x20, 5, undefined),  # everybody
    ]
    value = (2).to_bytes(4, "little")
    for tag, rights, who in entries:
        value += tag.to_bytes(2, "little") + rights.to_bytes(2, "little")
        value += who.to_bytes(4, "little")
    try:
        os.setxattr(script, "system.posix_acl_access", value)
    except OSError as error:
        pytest.skip(f"this file system keeps no access control lists: {error.strerror}")
    assert site.rule("x.cgi", script) == "group-writable"


@pytest.mark.parametrize("start", ["exec", "auto", "warm"])
def test_change_tells_at_the_next_look(
    open_site: Callable[..., Site], start: str, open_python: str
) -> None:
    """What was found a moment ago is not believed, nor is what a zygote has compiled."""
    site = open_site(start=start)
    script = site.script("sub/x.cgi", f"#!{open_python}\nprint('hello')\n")
    changes = [
        (script, 0o757, "world-writable"),
        (script, 0o775, "group-writable"),
        (site.root / "sub", 0o775, "directory-writable"),
        (site.root, 0o757, "directory-writable"),
        (site.tenant.home, 0o777, "above-writable"),
    ]
    for thing, mode, rule in changes:
        assert site.runs("sub/x.cgi") == b"hello\n"
        before = stat.S_IMODE(thing.stat().st_mode)
        thing.chmod(mode)
        assert site.rule("sub/x.cgi", thing) == rule
        thing.chmod(before)
    os.chown(script, 0, site.tenant.gid)
    assert site.rule("sub/x.cgi", script) == "owner"


def test_rules_hold_for_workers_too(site: Site) -> None:
    script = site.script("app.fcgi", mode=0o757)
    site.channel.send(WantPool(3, "r", b"app.fcgi"))
    reply = site.channel.reply()
    assert isinstance(reply, Failed)
    assert (reply.status, reply.step) == (403, "identity")
    assert reply.why.startswith(f'{script}: rule "world-writable": ')


def test_worker_that_starts_again_is_looked_at_again(
    site: Site, until: Callable[[Callable[[], object], str], None]
) -> None:
    started = site.tenant.home / "started"
    script = site.script("app.fcgi", f"#!/bin/sh\necho $$ >> {started}\nexec sleep 1000\n")
    site.channel.send(WantPool(3, "r", b"app.fcgi"))
    assert isinstance(site.channel.reply(), PoolAt)
    until(lambda: started.exists() and started.read_text().endswith("\n"), "no worker starts")
    pid = int(started.read_text())
    status = Path(f"/proc/{pid}/status").read_text()
    assert "\t".join(["Uid:", *[str(site.tenant.uid)] * 4]) + "\n" in status
    script.chmod(0o757)
    os.kill(pid, signal.SIGKILL)  # a worker that this test's keeper started
    until(lambda: 'rule "world-writable"' in site.kept.log(), "it is not looked at again")
    assert len(started.read_text().splitlines()) == 1


# As whom it runs


@pytest.mark.parametrize("start", ["exec", "warm"])
def test_script_has_the_tenants_user_and_groups_and_no_way_back(
    open_site: Callable[..., Site], start: str, open_python: str
) -> None:
    site = open_site(start=start)
    site.script("x.cgi", f"#!{open_python}\n{WHO}")
    uid, gid = site.tenant.uid, site.tenant.gid
    groups = sorted({gid, 4242})
    for _ in range(3):
        first, second = site.runs("x.cgi").decode().splitlines()
        who, _, parent = first.rpartition(" ")
        assert (who, second) == (f"{(uid,) * 3} {(gid,) * 3} {groups}", "no way back")
        assert (int(parent) == site.kept.pid) is (start == "exec")  # else it is a zygote's child


def test_refused_script_leaves_nothing_open(site: Site) -> None:
    site.script("open.cgi", mode=0o757)
    link = site.root / "out.cgi"
    link.symlink_to("../..")
    assert site.rule("open.cgi", site.root / "open.cgi") == "world-writable"
    site.channel.sync()  # the pipes of an order are closed after it is answered
    before = site.kept.descriptors()
    for _ in range(20):
        for name in ("open.cgi", "out.cgi", "missing.cgi", "../x"):
            site.refused(name)
    site.channel.sync()
    assert site.kept.descriptors() == before
