"""A script that imports much: requests and jinja2."""

import jinja2
import requests

page = jinja2.Template(
    "<p>requests {{ version }}, {{ count }} lines</p>{% for n in range(20) %}{{ n }} {% endfor %}"
)
print("Content-Type: text/html\n")
print(page.render(version=requests.__version__, count=20))
