"""A page of about 10 KiB from Flask and Jinja: what a small real application does."""

from flask import Flask, render_template_string

application = Flask(__name__)

PAGE = """<!DOCTYPE html>
<title>{{ title }}</title>
<table>
{% for row in rows %}
<tr><td>{{ row.number }}</td><td>{{ row.name }}</td><td>{{ row.note }}</td></tr>
{% endfor %}
</table>
"""

ROWS = [
    {"number": number, "name": f"Name & <number> {number}", "note": "A note of some length. " * 2}
    for number in range(80)
]


@application.get("/app/")
@application.get("/")
def page() -> str:
    return render_template_string(PAGE, title="Eighty rows", rows=ROWS)
