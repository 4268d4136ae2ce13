#!/usr/bin/python3
"""What a script of some use imports and does: a form, a database, JSON, a date, HTML."""

import cgi
import datetime
import html
import json
import sqlite3

form = cgi.FieldStorage()
name = html.escape(form.getfirst("name", "nobody"))
database = sqlite3.connect(":memory:")
database.execute("create table visits (name text, day text)")
database.execute("insert into visits values (?, ?)", (name, str(datetime.date(2026, 1, 1))))
rows = database.execute("select name, day from visits").fetchall()
print("Content-Type: text/html\n")
print(f"<p>Hello, {name}.<pre>{html.escape(json.dumps(rows))}</pre>")
