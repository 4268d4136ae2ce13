#!/bin/sh
# Saved with Windows line ends: the system looks for an interpreter called "/bin/sh\r".
printf "Content-Type: text/plain\n\nThis is never sent.\n"
