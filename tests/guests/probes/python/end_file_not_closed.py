import os

first = open("unclosed", "w")
first.write("x" * 10)
os.kept = first
print("main")
