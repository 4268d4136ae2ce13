import datetime
import json
import sqlite3

database = sqlite3.connect(":memory:")
database.execute("create table t (a, b)")
database.execute("insert into t values (?, ?)", (1, "b"))
print(json.dumps(database.execute("select * from t").fetchall()))
print(datetime.date(2020, 1, 2).isoformat())
