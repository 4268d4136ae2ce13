#!/bin/sh
# "nph" means non-parsed header (RFC 3875 section 5): the script writes the whole HTTP answer itself.
printf 'HTTP/1.1 200 Counted\r\n'
printf 'Content-Type: text/plain; charset=utf-8\r\n'
printf 'Connection: close\r\n\r\n'
for number in one two three; do
    printf '%s\n' "$number"
done
