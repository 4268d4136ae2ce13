value = "\d"
print(value is "x")
assert (value, "always true")
print("\d")
