"""php-cgi as a pool, for every *.php below the root."""

import hashlib
import os

import pytest

pytestmark = pytest.mark.peer("php-cgi")

FORM = """<?php
header('Content-Type: text/plain; charset=utf-8');
echo $_SERVER['REQUEST_METHOD'], ' ', $_POST['name'] ?? '-', ' ', $_GET['q'] ?? '-', "\\n";
echo $_SERVER['SCRIPT_NAME'], ' ', $_SERVER['PATH_INFO'] ?? '', ' ', basename(__FILE__), "\\n";
echo getcwd() === __DIR__ ? 'own directory' : getcwd(), "\\n";
"""

UPLOAD = """<?php
header('Content-Type: text/plain');
$file = $_FILES['file'];
echo $file['name'], ' ', $file['size'], ' ', hash_file('sha256', $file['tmp_name']), "\\n";
"""


@pytest.fixture
def served(gateway, root, program):
    command = [program("php-cgi"), "-d", "upload_max_filesize=32M", "-d", "post_max_size=40M"]
    quoted = ", ".join(f'"{word}"' for word in command)
    return gateway(
        f'[[site]]\nhosts = ["localhost"]\nroot = "{root}"\nindex = ["index.html", "index.php"]\n'
        '[[site.route]]\nmatch = "*.php"\npool = "php"\n'
        f"[pool.php]\ncommand = [{quoted}]\nprocesses = 2\n"
    )


def test_phpinfo(served, script, root):
    script("info.php", "<?php phpinfo();\n", 0o644)
    answer = served.get("/info.php")
    assert answer.status_code == 200, served.log
    assert "PHP Version" in answer.text
    assert "CGI/FastCGI" in answer.text
    assert str(root / "info.php") in answer.text
    assert answer.text.rstrip().endswith("</html>")


def test_form_with_path_info_and_query(served, script):
    script("form.php", FORM, 0o644)
    answer = served.request("POST", "/form.php/a/b?q=ask", data={"name": "Rasmus & co"})
    assert answer.status_code == 200, served.log
    assert answer.text == "POST Rasmus & co ask\n/form.php /a/b form.php\nown directory\n"


def test_upload(served, script):
    script("upload.php", UPLOAD, 0o644)
    data = os.urandom(9 << 20)
    answer = served.request("POST", "/upload.php", files={"file": ("a.bin", data)})
    assert answer.status_code == 200, served.log
    assert answer.text == f"a.bin {len(data)} {hashlib.sha256(data).hexdigest()}\n"


def test_index_file_of_a_directory(served, script):
    script("shop/index.php", "<?php echo 'the shop';\n", 0o644)
    assert served.get("/shop/").text == "the shop"


def test_status_and_cookies_that_a_page_sets(served, script):
    script("away.php", "<?php setcookie('a', '1'); http_response_code(418); echo 'no';", 0o644)
    answer = served.get("/away.php")
    assert (answer.status_code, answer.text, answer.cookies["a"]) == (418, "no", "1")


def test_missing_file_is_not_found_without_asking_php(served):
    answer = served.get("/none.php")
    assert answer.status_code == 404
    assert "No input file" not in answer.text


def test_a_picture_is_not_run_because_of_what_follows_it(served, script):
    script("photo.jpg", "<?php echo 'ran';\n", 0o644)
    for path in ("/photo.jpg/x.php", "/photo.jpg%00.php", "/photo.jpg/.php"):
        answer = served.get(path)
        assert answer.status_code in (400, 404), path
        assert "ran" not in answer.text


def test_what_php_complains_about_is_in_the_log(served, script):
    script("warn.php", "<?php error_log('a word from php'); echo 'done';", 0o644)
    assert served.get("/warn.php").text == "done"
    assert "a word from php" in served.log


def test_fatal_error_has_a_status(served, script):
    script("fatal.php", "<?php ini_set('display_errors', '0'); nowhere();", 0o644)
    assert served.get("/fatal.php").status_code == 500
    assert "nowhere()" in served.log
