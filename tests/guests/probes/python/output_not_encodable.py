import sys
print("a")
print(u"\u20ac \udcff" if sys.version_info[0] > 2 else u"\u20ac")
