#!/bin/sh
# Not executable, on purpose: Gateway refuses it, says why, and never sends these lines instead.
printf 'Content-Type: text/plain\n\nThis is never sent.\n'
