"""Which account a tenant is: the master's own look, whatever a front says."""

import os
import pwd
from pathlib import Path

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


def test_root_is_no_tenant(tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("only root has files of root's")
    (tmp_path / "root").mkdir()
    (tmp_path / "a.example").mkdir()
    settings = TenantsSettings(userdir=f"{tmp_path}/*", hosts=f"{tmp_path}/{{host}}", min_uid=1)
    for name in ("~root", "@a.example"):
        status, why = refusal(settings, name)
        assert status == 403
        assert "below the minimum" in why


def test_a_number_without_an_account_is_no_tenant(tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("only root can give files away")
    (tmp_path / "a.example").mkdir()
    os.chown(tmp_path / "a.example", 4_000_123, 4_000_123)
    settings = TenantsSettings(hosts=f"{tmp_path}/{{host}}")
    assert "is no account" in refusal(settings, "@a.example")[1]


def test_an_account_is_the_tenant_of_its_own_directory_alone(tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("only root can give files away")
    nobody = pwd.getpwnam("nobody")
    for name in ("nobody", "daemon", "a.example"):
        (tmp_path / name).mkdir()
        os.chown(tmp_path / name, nobody.pw_uid, nobody.pw_gid)
    settings = TenantsSettings(userdir=f"{tmp_path}/*", hosts=f"{tmp_path}/{{host}}")
    assert tenant_account(settings, "~nobody") == "nobody"
    assert tenant_account(settings, "@a.example") == "nobody"
    assert "it belongs to nobody: chown it to daemon" in refusal(settings, "~daemon")[1]
