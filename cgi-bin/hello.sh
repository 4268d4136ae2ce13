#!/bin/sh
# A CGI script in plain POSIX shell. It takes nothing from the request into a command.
printf 'Content-Type: text/html; charset=utf-8\r\n\r\n'
cat <<PAGE
<!DOCTYPE html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Hello from the shell</title><link rel="stylesheet" href="/style.css">
<main class="page">
<h1>Hello from the shell</h1>
<p>This is <code>/bin/sh</code>, process $$, on $(uname -sm). It is $(date -u '+%H:%M:%S') UTC.
<p><a href="/">Back to all examples</a>
</main>
PAGE
