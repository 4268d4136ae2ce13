"""CGI.pm, the library of a generation of scripts."""

import hashlib
import os

import pytest

pytestmark = [pytest.mark.peer("perl"), pytest.mark.peer("perl:CGI")]

UPLOAD = """#!/usr/bin/perl
use strict;
use warnings;
use CGI;
use Digest::SHA;

$CGI::POST_MAX = 64 << 20;
my $query = CGI->new;
if (my $error = $query->cgi_error) {
    print $query->header(-status => $error, -type => 'text/plain'), "$error\\n";
    exit;
}
my $handle = $query->upload('file') or die 'no file';
binmode $handle;
my $digest = Digest::SHA->new(256);
$digest->addfile($handle);
print $query->header('text/plain');
printf "%s|%s|%d|%s\\n", scalar $query->param('name'), scalar $query->param('file'), -s $handle,
    $digest->hexdigest;
"""

FORM = """#!/usr/bin/perl
use strict;
use warnings;
use CGI;
my $query = CGI->new;
$query->charset('utf-8');
print $query->header(-type => 'text/html', -cookie => $query->cookie('seen', 'yes')),
    $query->start_html('A form'),
    $query->p('Hello ' . $query->escapeHTML(scalar $query->param('name'))),
    $query->p('At ' . $query->self_url),
    $query->end_html;
"""


@pytest.fixture(params=["exec", "warm"])
def start(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_upload_of_20_megabytes(gateway, script, site):
    script("upload.cgi", UPLOAD)
    daemon = gateway(site)
    data = os.urandom(20 << 20)
    answer = daemon.request(
        "POST", "/upload.cgi", data={"name": "large"}, files={"file": ("random.bin", data)}
    )
    assert answer.status_code == 200, daemon.log
    digest = hashlib.sha256(data).hexdigest()
    assert answer.text == f"large|random.bin|{len(data)}|{digest}\n"


def test_form_with_a_cookie_and_its_own_address(gateway, script, site):
    script("form.cgi", FORM)
    daemon = gateway(site)
    answer = daemon.request("POST", "/form.cgi/more?x=1", data={"name": "<Wall>"})
    assert answer.status_code == 200, daemon.log
    assert "Hello &lt;Wall&gt;" in answer.text
    assert f"{daemon.url}/form.cgi/more?" in answer.text
    assert answer.cookies["seen"] == "yes"


def test_redirect_made_by_the_library(gateway, script, site):
    script(
        "go.cgi",
        "#!/usr/bin/perl\nuse CGI;\nprint CGI->new->redirect('http://example.org/there');\n",
    )
    answer = gateway(site).get("/go.cgi", allow_redirects=False)
    assert (answer.status_code, answer.headers["Location"]) == (302, "http://example.org/there")
