#!/bin/sh
# A script that lies among the pages, found by its name (`match = "*.cgi"`). What follows its name
# in the address is its PATH_INFO (RFC 3875 section 4.1.5).
escaped() {
    printf '%s' "$1" | sed -e 's/&/\&amp;/g' -e 's/</\&lt;/g' -e 's/>/\&gt;/g' -e 's/"/\&quot;/g'
}
printf 'Content-Type: text/html; charset=utf-8\r\n\r\n'
cat <<PAGE
<!DOCTYPE html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>How an address is taken apart</title><link rel="stylesheet" href="/style.css">
<main class="page">
<h1>How an address is taken apart</h1>
<table>
<tr><th>REQUEST_URI<td><code>$(escaped "$REQUEST_URI")</code>
<tr><th>SCRIPT_NAME<td><code>$(escaped "$SCRIPT_NAME")</code>
<tr><th>PATH_INFO<td><code>$(escaped "$PATH_INFO")</code>
<tr><th>QUERY_STRING<td><code>$(escaped "$QUERY_STRING")</code>
<tr><th>PATH_TRANSLATED<td><code>$(escaped "$PATH_TRANSLATED")</code>
</table>
<p><a href="/">Back to all examples</a>
</main>
PAGE
