"""Contradictions in the settings of a site."""

import pytest

from gateway.site.site import RouteSettings, SiteSettings


@pytest.mark.parametrize(
    "keys",
    [
        {"path": "/cgi-bin/", "cgi": "cgi-bin"},
        {"match": "*.cgi", "cgi": True},
        {"match": "*.fcgi", "fastcgi": True},
        {"path": "/app/", "pool": "app"},
        {"match": "*.php", "pool": "php"},
        {"path": "/files/", "root": "/srv/files"},
        {"path": "/tools/", "match": "*.py", "cgi": True},
        {"path": "/cgi-bin/", "cgi": True, "root": "cgi-bin"},
    ],
)
def test_a_route_that_makes_sense(keys: dict[str, str | bool]) -> None:
    RouteSettings(**keys)  # type: ignore[arg-type]  # as the reader calls it


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({"cgi": True}, '"path" or "match"'),
        ({"path": "cgi-bin/", "cgi": "cgi-bin"}, "start with"),
        ({"match": "a/*.cgi", "cgi": True}, "file name"),
        ({"path": "/a/", "cgi": "a", "pool": "b"}, "one of"),
        ({"path": "/a/"}, "needs"),
        ({"match": "*.cgi", "cgi": "cgi-bin"}, "path"),
        ({"path": "/a/", "cgi": "a", "root": "b"}, "one too many"),
        ({"path": "/a/", "match": "*.x", "root": "a"}, "match"),
        ({"path": "/a/", "fastcgi": True}, "match"),
    ],
)
def test_a_route_that_contradicts_itself(keys: dict[str, str | bool], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        RouteSettings(**keys)  # type: ignore[arg-type]


@pytest.mark.parametrize("index", ["a/b", "..", "."])
def test_an_index_is_a_file_name(index: str) -> None:
    with pytest.raises(ValueError, match="file name"):
        SiteSettings(index=(index,))


@pytest.mark.parametrize("host", ["", "Example.org", "a.*.org", "*"])
def test_a_host_is_a_name_in_lower_case(host: str) -> None:
    with pytest.raises(ValueError, match="lower case"):
        SiteSettings(hosts=(host,))


def test_defaults() -> None:
    site = SiteSettings()
    assert (site.index, site.listing, site.symlinks) == (("index.html",), False, "owner-match")
