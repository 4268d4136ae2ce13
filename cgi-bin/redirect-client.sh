#!/bin/sh
# A client redirect (RFC 3875 section 6.2.3): an absolute address, and the browser goes there.
printf 'Location: http://%s/cgi-bin/env.py?redirected=by-the-client\r\n\r\n' "$HTTP_HOST"
