#!/bin/sh
# Server-sent events: one line a second, each sent to the browser at once. When the browser leaves,
# Gateway ends this script; nothing in here has to look for that.
printf 'Content-Type: text/event-stream\r\nCache-Control: no-cache\r\n\r\n'
tick=0
while [ "$tick" -lt 600 ]; do
    tick=$((tick + 1))
    printf 'id: %s\ndata: %s\n\n' "$tick" "$(date -u '+%H:%M:%S')"
    sleep 1
done
