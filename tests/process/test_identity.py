"""Scripts that a front server names: each rule refuses by name, and what keeps them all runs."""

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.process.channel import (
    Exited,
    Failed,
    WantPool,
)
from gateway.process.examine import Root
from gateway.process.identity import RULES, Case, judge
from gateway.process.spec import ScriptRoot, SpawnFailed

Keep = Callable[..., Any]
Content = Callable[[int], bytes]

HELLO = "#!/bin/sh\necho hello\n"
US = 1000

only_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")


def info(mode: int, uid: int) -> os.stat_result:
    return os.stat_result((mode, 1, 1, 1, uid, 0, 0, 0, 0, 0))


DIRECTORY = info(stat.S_IFDIR | 0o755, 2000)


@pytest.mark.parametrize(
    ("mode", "uid", "rule"),
    [
        (stat.S_IFREG | 0o755, US, ""),
        (stat.S_IFREG | 0o755, 0, ""),
        (stat.S_IFREG | 0o755, 2000, ""),  # the owner of the root
        (stat.S_IFREG | 0o775, US, ""),  # its group may write it: that is for suEXEC's rules
        (stat.S_IFREG | 0o000, US, ""),
        (stat.S_IFREG | stat.S_ISVTX | 0o755, US, ""),
        (stat.S_IFDIR | 0o755, US, "not-regular"),
        (stat.S_IFIFO | 0o755, US, "not-regular"),
        (stat.S_IFSOCK | 0o755, US, "not-regular"),
        (stat.S_IFCHR | 0o666, 0, "not-regular"),
        (stat.S_IFREG | stat.S_ISUID | 0o755, US, "set-id"),
        (stat.S_IFREG | stat.S_ISGID | 0o755, US, "set-id"),
        (stat.S_IFREG | stat.S_ISUID | 0o755, 0, "set-id"),
        (stat.S_IFREG | 0o755, 3000, "someone-else's"),
        (stat.S_IFREG | 0o755, 65534, "someone-else's"),
        (stat.S_IFREG | 0o757, US, "world-writable"),
        (stat.S_IFREG | 0o777, 0, "world-writable"),
        (stat.S_IFREG | stat.S_ISUID | 0o777, 3000, "set-id"),  # the first that is broken
    ],
)
def test_first_rule_that_is_broken_is_named(mode: int, uid: int, rule: str) -> None:
    case = Case(info(mode, uid), DIRECTORY, US)
    if not rule:
        judge(b"/srv/x.cgi", case)
        return
    with pytest.raises(SpawnFailed) as caught:
        judge(b"/srv/x.cgi", case)
    assert caught.value.why.startswith(f'/srv/x.cgi: rule "{rule}": ')
    assert (caught.value.status, caught.value.step, caught.value.errno) == (403, "identity", 0)


def test_rules_have_names_of_their_own() -> None:
    assert len({rule.name for rule in RULES}) == len(RULES)


# In a real keeper


@pytest.fixture
def given(spec: Any, keep: Keep, open_channel: Any) -> tuple[Any, Any]:
    """A keeper whose scripts a front server names, and a channel to it."""
    kept = keep(scripts={"r": replace(spec.scripts["r"], given=True)})
    return kept, open_channel(kept)


def refusal(channel: Any, script: str) -> Failed:
    channel.order(7, script)
    reply = channel.reply()
    assert isinstance(reply, Failed), reply
    return reply


def runs(channel: Any, content: Content, script: str) -> bool:
    out, _ = channel.order(8, script)
    answer = content(out)
    assert isinstance(channel.reply(), Exited)
    return answer == b"hello\n"


def test_script_that_keeps_all_rules_runs(given: Any, content: Content) -> None:
    kept, channel = given
    kept.script("sub/hello.cgi", HELLO)
    assert runs(channel, content, "sub/hello.cgi")


def test_not_regular(given: Any) -> None:
    kept, channel = given
    (kept.root / "directory.cgi").mkdir()
    os.mkfifo(kept.root / "pipe.cgi", 0o755)
    for name in ("directory.cgi", "pipe.cgi"):
        failed = refusal(channel, name)
        assert failed.status == 403
        assert failed.why.startswith(f'{kept.root / name}: rule "not-regular": ')


@pytest.mark.parametrize("bit", [stat.S_ISUID, stat.S_ISGID])
def test_set_id(given: Any, bit: int) -> None:
    kept, channel = given
    kept.script("set.cgi", HELLO, 0o755 | bit)
    failed = refusal(channel, "set.cgi")
    assert failed.status == 403
    assert 'rule "set-id"' in failed.why


@pytest.mark.parametrize(
    ("mode", "rule"), [(0o4755, "set-id"), (0o757, "world-writable"), (0o755, "")]
)
def test_mode_that_changes_tells_at_once(
    given: Any, content: Content, mode: int, rule: str
) -> None:
    """What was found a moment ago is not believed: see `examine.Root.recent`."""
    kept, channel = given
    script = kept.script("hello.cgi", HELLO)
    assert runs(channel, content, "hello.cgi")
    script.chmod(mode)
    if rule:
        assert f'rule "{rule}"' in refusal(channel, "hello.cgi").why
        script.chmod(0o755)
    assert runs(channel, content, "hello.cgi")


def test_world_writable(given: Any) -> None:
    kept, channel = given
    kept.script("open.cgi", HELLO, 0o757)
    failed = refusal(channel, "open.cgi")
    assert failed.status == 403
    assert 'rule "world-writable"' in failed.why


@only_root
def test_script_of_somebody_else_does_not_run(given: Any, content: Content) -> None:
    kept, channel = given
    script = kept.script("alien.cgi", HELLO)
    os.chown(script, 4242, 4242)
    failed = refusal(channel, "alien.cgi")
    assert failed.status == 403
    assert 'rule "someone-else\'s"' in failed.why
    os.chown(kept.root, 4242, 4242)  # the owner of the root vouches for what is below it
    assert runs(channel, content, "alien.cgi")


@pytest.mark.parametrize("target", ["../secret.cgi", "sub/../../secret.cgi", "/bin/sh"])
@pytest.mark.parametrize("way", ["path", "link"])
def test_way_out_of_the_root_is_refused_by_name(given: Any, target: str, way: str) -> None:
    kept, channel = given
    kept.script("sub/here.cgi", HELLO)
    kept.script("../secret.cgi", HELLO)
    if way == "link":
        (kept.root / "link.cgi").symlink_to(target)
    failed = refusal(channel, target if way == "path" else "link.cgi")
    assert failed.status == 403
    assert failed.step == "identity"
    assert 'rule "outside"' in failed.why
    assert "leads out of the root" in failed.why


def test_link_below_the_root_is_followed(given: Any, content: Content) -> None:
    kept, channel = given
    kept.script("real.cgi", HELLO)
    (kept.root / "link.cgi").symlink_to("real.cgi")
    assert runs(channel, content, "link.cgi")


@only_root
def test_link_of_somebody_else_is_refused_by_name(given: Any) -> None:
    kept, channel = given
    kept.script("real.cgi", HELLO)
    (kept.root / "link.cgi").symlink_to("real.cgi")
    os.chown(kept.root / "link.cgi", 4242, 4242, follow_symlinks=False)
    failed = refusal(channel, "link.cgi")
    assert failed.status == 403
    assert 'rule "link"' in failed.why


def test_what_is_not_there_is_not_found(given: Any) -> None:
    _, channel = given
    assert refusal(channel, "missing.cgi").status == 404


def test_rules_hold_for_workers_too(given: Any) -> None:
    kept, channel = given
    kept.script("app.fcgi", HELLO, 0o757)
    channel.send(WantPool(3, "r", b"app.fcgi"))
    reply = channel.reply()
    assert isinstance(reply, Failed)
    assert (reply.status, reply.step) == (403, "identity")


def test_rules_are_not_those_of_sites(kept: Any, channel: Any, content: Content) -> None:
    """What a site's own settings name is run as it was: only set-id is refused there."""
    kept.script("open.cgi", HELLO, 0o757)
    assert runs(channel, content, "open.cgi")
    assert refusal(channel, "../secret.cgi").step == "open"


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Root]:
    made = Root(ScriptRoot(root=os.fsencode(tmp_path), given=True))
    yield made
    made.close()


def test_refused_file_leaves_nothing_open(root: Root, tmp_path: Path) -> None:
    path = tmp_path / "x.cgi"
    path.write_text(HELLO)
    path.chmod(0o757)
    with pytest.raises(SpawnFailed):
        root.recent(b"x.cgi")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        with pytest.raises(SpawnFailed):
            root.recent(b"x.cgi")
    assert len(os.listdir("/proc/self/fd")) == before


def test_order_for_an_absolute_path_is_outside(given: Any) -> None:
    kept, channel = given
    script = kept.script("hello.cgi", HELLO)
    failed = refusal(channel, str(script))
    assert failed.status == 403
    assert 'rule "outside"' in failed.why
