"""conf/gateway.toml is the manual of the settings: it parses, holds every key, tells no lies."""

import re
from dataclasses import MISSING, fields
from pathlib import Path

import pytest

from gateway.backends.pool import PoolSettings
from gateway.config.load import load
from gateway.config.settings import ListenSettings, LogSettings, ServerSettings
from gateway.exchange import Limits
from gateway.listeners.listening import HttpListener, RelayListener
from gateway.site.site import RouteSettings, SiteSettings
from gateway.site.tenants import TenantsSettings

CONF = Path(__file__).resolve().parents[2] / "conf"
FILE = CONF / "gateway.toml"


def test_it_parses() -> None:
    settings = load(str(FILE), look=False)
    assert len(settings.site) == 1
    assert set(settings.pool) == {"app", "php", "elsewhere"}


@pytest.mark.parametrize("file", sorted(CONF.glob("*.toml")), ids=lambda file: file.name)
def test_every_settings_file_parses(file: Path) -> None:
    assert load(str(file), look=False).site


@pytest.mark.parametrize(
    "kind",
    [
        ServerSettings,
        ListenSettings,
        HttpListener,
        RelayListener,
        LogSettings,
        Limits,
        SiteSettings,
        RouteSettings,
        PoolSettings,
        TenantsSettings,
    ],
)
def test_it_holds_every_key(kind: type) -> None:
    text = FILE.read_text(encoding="utf-8")
    named = set(re.findall(r"^\s*(?:# )?\[*([a-z_]+)(?:\.route)?\]*(?: =|$)", text, re.MULTILINE))
    assert {item.name for item in fields(kind)} - named - {"limits", "route"} == set()


def test_sections_have_their_defaults() -> None:
    settings = load(str(FILE), look=False)
    assert settings.server == ServerSettings()
    assert settings.listen == ListenSettings()
    assert settings.log == LogSettings()
    assert settings.limits == Limits()


def test_tenants_have_their_defaults(tmp_path: Path) -> None:
    text = FILE.read_text(encoding="utf-8").partition("# [tenants]\n")[2]
    table = re.sub(r"^# ", "", text, flags=re.MULTILINE)
    file = tmp_path / "tenants.toml"
    file.write_text(f'[server]\nuser = "nobody"\n[tenants]\n{table}')
    found = load(str(file)).tenants
    assert found == TenantsSettings(userdir="/home/*/public_html", hosts="/srv/www/{host}/htdocs")


def test_first_of_each_table_has_its_defaults_but_for_what_it_must_say() -> None:
    settings = load(str(FILE), look=False)
    site, pool = settings.site[0], settings.pool["app"]
    assert differing(site) == {"hosts", "root", "route"}
    assert differing(site.route[0]) == {"path", "cgi", "limits"}
    assert differing(pool) == {"wsgi", "directory"}


def differing(value: SiteSettings | RouteSettings | PoolSettings) -> set[str]:
    """Return the names of the fields that do not have their default."""
    found = set()
    for item in fields(value):
        made = item.default if item.default_factory is MISSING else item.default_factory()
        if getattr(value, item.name) != made:
            found.add(item.name)
    return found
