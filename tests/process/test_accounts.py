"""Accounts that may be tenants: each rule refuses by name, with the system's own lists."""

import os
import time
from pathlib import Path
from typing import Any

import pytest

from gateway.process import accounts
from gateway.process.accounts import (
    ACCOUNT_RULES,
    Account,
    Candidate,
    NotATenant,
    account,
    expiry,
    judge,
    login_shells,
    our_account,
    tenant_account,
)


def candidate(**changes: Any) -> Candidate:
    return Candidate(**{"uid": 1000, "gid": 1000, "min_uid": 1000, "min_gid": 1000} | changes)


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({}, ""),
        ({"uid": 4_294_967_294, "gid": 4_294_967_294}, ""),
        ({"uid": 0}, "root"),
        ({"gid": 0}, "root"),
        ({"groups": frozenset({1000, 0})}, "root"),
        ({"uid": 0, "min_uid": 0}, "root"),
        ({"uid": 65534}, "nobody"),
        ({"gid": 65534}, "nobody"),
        ({"uid": 999}, "min-uid"),
        ({"uid": 1, "min_uid": 1}, ""),
        ({"gid": 999}, "min-gid"),
        ({"uid": 999, "gid": 999}, "min-uid"),  # the first that is broken
        ({"login": True}, ""),
        ({"login": True, "shell": "/usr/sbin/nologin"}, "no-shell"),
        ({"login": True, "shell": "/bin/sh", "shells": frozenset()}, "no-shell"),
        ({"login": False, "shell": "/usr/sbin/nologin"}, ""),
        ({"login": True, "expires": 20000, "today": 19999}, ""),
        ({"login": True, "expires": 20000, "today": 20000}, "expired"),
        ({"login": True, "expires": 0, "today": 20000}, "expired"),
        ({"login": False, "expires": 0, "today": 20000}, ""),
    ],
)
def test_first_rule_that_is_broken_is_named(changes: dict[str, Any], rule: str) -> None:
    if not rule:
        judge(candidate(**changes))
        return
    with pytest.raises(NotATenant, match=f'^rule "{rule}": ') as caught:
        judge(candidate(**changes))
    assert caught.value.rule == rule


def test_rules_have_names_of_their_own() -> None:
    names = {rule.name for rule in ACCOUNT_RULES}
    assert len(names) == len(ACCOUNT_RULES)
    assert accounts.UNKNOWN not in names


SHADOW = b"""\
root:*:19000:0:99999:7:::
alice:$y$j9T$x:19000:0:99999:7::20000:
alice2:!:19000:0:99999:7::1:
bob:!:19000:0:99999:7:::
carol:!:19000:0:99999:7::0:
dave:!:19000:0:99999:7::-1:
"""


@pytest.mark.parametrize(
    ("name", "day"),
    [
        ("alice", 20000),
        ("alice2", 1),
        ("bob", None),
        ("carol", 0),
        ("dave", None),
        ("alic", None),
        ("erin", None),
    ],
)
def test_day_on_which_an_account_ends_is_read(tmp_path: Path, name: str, day: int | None) -> None:
    shadow = tmp_path / "shadow"
    shadow.write_bytes(SHADOW)
    assert expiry(name, shadow) == day
    shadow.write_bytes(SHADOW.rstrip(b"\n"))
    assert expiry(name, shadow) == day


@pytest.mark.parametrize(
    "line",
    [
        b"alice:!:19000:0:99999:7::soon:\n",
        b"alice:!:19000:0:99999:7::+5:\n",
        b"alice:!:19000:0:99999:7:: 5:\n",
        "alice:!:19000:0:99999:7::٣:\n".encode(),
        b"alice:!:19000:0:99999:7::9999999999:\n",
        b"alice:!:19000\n",
        b"alice:!:19000:0:99999:7::20000::\n",
        b"alice:" + b"x" * 5000 + b":19000:0:99999:7:::\n",
    ],
)
def test_line_that_is_no_entry_is_an_error_and_not_no_end(tmp_path: Path, line: bytes) -> None:
    shadow = tmp_path / "shadow"
    shadow.write_bytes(b"root:*:19000:0:99999:7:::\n" + line)
    with pytest.raises(ValueError, match="of alice in"):
        expiry("alice", shadow)


def test_rest_of_a_line_that_is_too_long_is_no_entry(tmp_path: Path) -> None:
    shadow = tmp_path / "shadow"
    rest = b"alice:!:19000:0:99999:7::1:\n"
    shadow.write_bytes(b"x" * accounts.SHADOW_LINE_MAX + rest + b"alice:!:1:0:9:7::20000:\n")
    assert expiry("alice", shadow) == 20000


def test_system_without_a_shadow_file_has_no_ends(tmp_path: Path) -> None:
    assert expiry("alice", tmp_path / "missing") is None


def test_shells_are_those_that_are_listed(tmp_path: Path) -> None:
    file = tmp_path / "shells"
    file.write_text("# shells\n/bin/sh\n /bin/bash \n/bin/zsh # the best\n\n#/bin/false\n")
    assert login_shells(file) == {"/bin/sh", "/bin/bash", "/bin/zsh"}
    assert login_shells(tmp_path / "missing") == {"/bin/sh", "/bin/csh"}
    assert login_shells(tmp_path) == frozenset()  # it cannot be read


def test_our_own_account_is_the_one_that_we_run_under() -> None:
    us = our_account()
    assert (us.uid, us.gid) == (os.geteuid(), os.getegid())


# With accounts of the system


def asked(uid: int, **changes: Any) -> Account:
    return tenant_account(uid, **{"min_uid": 1000, "min_gid": 1000, "login": False} | changes)


def refused(uid: int, **changes: Any) -> str:
    with pytest.raises(NotATenant) as caught:
        asked(uid, **changes)
    return caught.value.rule


def test_root_is_never_a_tenant() -> None:
    assert refused(0) == "root"
    assert refused(0, min_uid=0, min_gid=0) == "root"


def test_number_without_an_account_is_no_tenant() -> None:
    assert refused(3_999_999_999) == "unknown-uid"


def test_account_is_found_by_its_number(tenant: Any) -> None:
    found = asked(tenant.uid, login=True)
    assert found == Account(tenant.name, tenant.uid, tenant.gid, (tenant.gid,))
    assert found == account(tenant.name)


def test_bounds_are_those_that_are_set(tenant: Any) -> None:
    assert asked(tenant.uid, min_uid=tenant.uid, min_gid=tenant.gid).uid == tenant.uid
    assert refused(tenant.uid, min_uid=tenant.uid + 1) == "min-uid"
    assert refused(tenant.uid, min_gid=tenant.gid + 1) == "min-gid"


def test_member_of_the_group_of_root_is_no_tenant(make_account: Any) -> None:
    one = make_account()
    one.change("-G", "root")
    assert refused(one.uid) == "root"


def test_account_that_may_not_log_in_is_a_tenant_unless_that_is_asked_for(
    make_account: Any,
) -> None:
    one = make_account()
    one.change("-s", "/usr/sbin/nologin")
    assert asked(one.uid).uid == one.uid
    assert refused(one.uid, login=True) == "no-shell"


@pytest.mark.parametrize(("days", "rule"), [(-1, "expired"), (0, "expired"), (2, "")])
def test_account_that_has_expired_is_a_tenant_unless_that_is_asked_for(
    make_account: Any, days: int, rule: str
) -> None:
    one = make_account()
    day = time.strftime("%Y-%m-%d", time.gmtime(time.time() + days * 86400))
    one.change("-e", day)
    assert asked(one.uid).uid == one.uid
    if rule:
        assert refused(one.uid, login=True) == rule
    else:
        assert asked(one.uid, login=True).uid == one.uid
