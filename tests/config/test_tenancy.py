"""Which account a tenant is: the master's own look, whatever a front says."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.config.tenancy import tenant_account
from gateway.process.spec import SpawnFailed
from gateway.site.tenants import TenantsSettings


def refusal(settings: TenantsSettings | None, name: str) -> tuple[int, str]:
    with pytest.raises(SpawnFailed) as caught:
        tenant_account(settings, name)
    return caught.value.status, caught.value.why


@pytest.mark.parametrize(
    "name", ["root", "alice", "", "~", "@", "~../etc", "@../etc", "~x/../..", "@a/b", "~alice/0"]
)
def test_what_is_no_name_is_no_tenant(tmp_path: Path, name: str) -> None:
    settings = TenantsSettings(userdir=f"{tmp_path}/*", hosts=f"{tmp_path}/{{host}}")
    assert refusal(settings, name)[0] == 404
    assert refusal(None, name)[0] == 404


def test_without_a_directory_there_is_no_tenant(tmp_path: Path) -> None:
    settings = TenantsSettings(userdir=f"{tmp_path}/*/public_html")
    status, why = refusal(settings, "~nobody")
    assert status == 404
    assert f"{tmp_path}/nobody/public_html: No such file" in why


@pytest.mark.parametrize("min_uid", [1, 1000])
def test_root_is_no_tenant(tmp_path: Path, min_uid: int) -> None:
    if os.geteuid():
        pytest.skip("only root has files of root's")
    (tmp_path / "root").mkdir()
    (tmp_path / "a.example").mkdir()
    settings = TenantsSettings(
        userdir=f"{tmp_path}/*", hosts=f"{tmp_path}/{{host}}", min_uid=min_uid
    )
    for name in ("~root", "@a.example"):
        status, why = refusal(settings, name)
        assert status == 403
        assert 'rule "root"' in why


def test_a_number_without_an_account_is_no_tenant(tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("only root can give files away")
    (tmp_path / "a.example").mkdir()
    os.chown(tmp_path / "a.example", 4_000_123, 4_000_123)
    settings = TenantsSettings(hosts=f"{tmp_path}/{{host}}")
    assert 'rule "unknown-uid"' in refusal(settings, "@a.example")[1]


def test_an_account_is_the_tenant_of_its_own_directory_alone(
    tmp_path: Path, tenant: Any, other: Any
) -> None:
    for name in (tenant.name, other.name, "a.example"):
        (tmp_path / name).mkdir()
        tenant.own(tmp_path / name)
    settings = TenantsSettings(
        userdir=f"{tmp_path}/*", hosts=f"{tmp_path}/{{host}}", min_uid=100, min_gid=100
    )
    assert tenant_account(settings, f"~{tenant.name}") == tenant.name
    assert tenant_account(settings, "@a.example") == tenant.name
    status, why = refusal(settings, f"~{other.name}")
    assert status == 403
    assert f"it belongs to {tenant.name}: chown it to {other.name}" in why
    below = replace(settings, min_uid=tenant.uid + 1)
    assert 'rule "min-uid"' in refusal(below, "@a.example")[1]
