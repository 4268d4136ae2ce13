#!/bin/sh
# A local redirect (RFC 3875 section 6.2.2): the server answers with the other resource at once,
# and the browser never learns of it.
printf 'Location: /cgi-bin/env.py?redirected=locally\r\n\r\n'
