"""FastCGI programs in C (libfcgi) and Perl (FCGI.pm), as pools by `command` and by `connect`."""

import os
import signal
import socket
import subprocess

import pytest
import requests

C = r"""
#include <fcgi_stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern char **environ;

int main(void)
{
    int count = 0;
    while (FCGI_Accept() >= 0) {
        const char *path = getenv("PATH_INFO");
        unsigned long sum = 0, size = 0;
        int byte;
        if (!path) path = "";
        count++;
        if (!strcmp(path, "/die-before")) _exit(3);
        if (!strcmp(path, "/complain")) fprintf(stderr, "a word from C\n");
        while ((byte = getchar()) != EOF) { sum = (sum * 31 + byte) % 1000003; size++; }
        if (!strcmp(path, "/large")) {
            int line;
            printf("Content-Type: text/plain\r\n\r\n");
            for (line = 0; line < 20000; line++) printf("line %09d\n", line);
            continue;
        }
        if (!strcmp(path, "/die-within")) {
            printf("Content-Type: text/plain\r\nContent-Length: 1000000\r\n\r\n");
            for (byte = 0; byte < 10000; byte++) printf("0123456789");
            fflush(stdout);
            _exit(3);
        }
        printf("Content-Type: text/plain\r\n\r\n%s %s %s\n%lu %lu\n%ld %d\n",
               getenv("REQUEST_METHOD"), getenv("SCRIPT_NAME"), path, size, sum,
               (long)getpid(), count);
    }
    return 0;
}
"""

PERL = r"""#!/usr/bin/perl
use strict;
use warnings;
use FCGI;

my $count = 0;
my $request = FCGI::Request();
while ($request->Accept() >= 0) {
    $count++;
    my $path = $ENV{PATH_INFO} // '';
    POSIX::_exit(3) if $path eq '/die-before';
    print STDERR "a word from Perl\n" if $path eq '/complain';
    my ($sum, $size, $data) = (0, 0, '');
    while (read STDIN, $data, 65536) {
        $size += length $data;
        $sum = ($sum * 31 + $_) % 1000003 for unpack 'C*', $data;
    }
    if ($path eq '/large') {
        print "Content-Type: text/plain\r\n\r\n", map { sprintf "line %09d\n", $_ } 0 .. 19999;
        next;
    }
    if ($path eq '/die-within') {
        print "Content-Type: text/plain\r\nContent-Length: 1000000\r\n\r\n", '0' x 100000;
        $request->Flush();
        POSIX::_exit(3);
    }
    print "Content-Type: text/plain\r\n\r\n",
        "$ENV{REQUEST_METHOD} $ENV{SCRIPT_NAME} $path\n$size $sum\n$$ $count\n";
}
"""


def checksum(data: bytes) -> int:
    total = 0
    for byte in data:
        total = (total * 31 + byte) % 1000003
    return total


@pytest.fixture(
    params=[
        pytest.param("c", marks=[pytest.mark.peer("cc"), pytest.mark.peer("header:fcgi_stdio.h")]),
        pytest.param("perl", marks=pytest.mark.peer("perl:FCGI")),
    ]
)
def binary(request, tmp_path):
    """A FastCGI program that waits on descriptor 0."""
    path = tmp_path / "program"
    if request.param == "perl":
        path.write_text(PERL.replace("use FCGI;", "use FCGI;\nuse POSIX ();"))
        path.chmod(0o755)
    else:
        (tmp_path / "program.c").write_text(C)
        command = ["cc", "-o", str(path), str(tmp_path / "program.c"), "-lfcgi"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return path


def settings(root, how: str) -> str:
    return (
        f'[[site]]\nhosts = ["localhost"]\nroot = "{root}"\n'
        f'[[site.route]]\npath = "/app/"\npool = "app"\n[pool.app]\n{how}\n'
    )


@pytest.fixture
def served(gateway, root, binary):
    return gateway(settings(root, f'command = ["{binary}"]\nprocesses = 1'))


def test_the_same_process_answers_again(served):
    first, second = served.get("/app/x"), served.get("/app/x")
    assert first.status_code == 200, served.log
    assert first.text.startswith("GET /app /x\n0 0\n")
    (pid, count), (again, next_count) = (text.text.split()[-2:] for text in (first, second))
    assert (again, int(next_count)) == (pid, int(count) + 1)


@pytest.mark.parametrize("size", [1, 65_535, 65_536, 65_537, 500_000])
def test_request_body(served, size):
    data = os.urandom(size)
    answer = served.request("POST", "/app/", data=data)
    assert answer.status_code == 200, answer.text
    assert answer.text.split("\n")[1] == f"{size} {checksum(data)}"


def test_parameters_that_fill_more_than_one_record(served):
    # As large as a request's head may be; the query is sent in two of the parameters.
    many = {f"X-Field-{n}": "v" * 700 for n in range(84)}
    answer = served.get("/app/y?" + "q" * 3800, headers=many)
    assert answer.text.startswith("GET /app /y\n"), answer.status_code


def test_large_answer(served):
    lines = "".join(f"line {n:09}\n" for n in range(20_000))
    assert served.get("/app/large").text == lines


def test_stderr_records_are_in_the_log(served):
    assert served.get("/app/complain").status_code == 200
    assert "a word from" in served.log


def test_death_before_the_head_is_502_and_the_worker_comes_back(served, poll):
    assert served.get("/app/die-before").status_code == 502
    poll(lambda: served.get("/app/").status_code == 200, "a new worker answers")


def test_death_within_the_answer_shows_as_truncation(served, poll):
    with pytest.raises(requests.exceptions.RequestException):
        _ = served.get("/app/die-within").content
    poll(lambda: served.get("/app/").status_code == 200, "a new worker answers")


def test_killed_while_idle_is_replaced(served, poll):
    pid = int(served.get("/app/").text.split()[-2])
    os.kill(pid, signal.SIGKILL)

    def replaced() -> bool:
        answer = served.get("/app/")
        return answer.status_code == 200 and int(answer.text.split()[-2]) != pid

    poll(replaced, "another worker answers")


def test_workers_that_somebody_else_runs(gateway, root, binary, tmp_path):
    path = os.path.relpath(tmp_path / "s")  # short: a socket's name holds 107 bytes
    with socket.socket(socket.AF_UNIX) as unix, socket.create_server(("127.0.0.1", 0)) as tcp:
        unix.bind(path)
        unix.listen()
        port = tcp.getsockname()[1]
        workers = [subprocess.Popen([str(binary)], stdin=listener) for listener in (unix, tcp)]
        try:
            how = f'connect = ["unix:{tmp_path / "s"}", "127.0.0.1:{port}"]'
            daemon = gateway(settings(root, how))
            answers = [daemon.request("POST", "/app/", data=b"x" * 70_000) for _ in range(20)]
            assert {answer.status_code for answer in answers} == {200}, daemon.log
            pids = {int(answer.text.split()[-2]) for answer in answers}
            assert pids <= {worker.pid for worker in workers}
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()
