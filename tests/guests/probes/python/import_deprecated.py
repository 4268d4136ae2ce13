import sys

try:
    import cgi
except ImportError:
    print("no cgi")
else:
    print((cgi.__name__, cgi.__spec__.name if sys.version_info[0] > 2 else ""))
    print(cgi.__spec__ and type(cgi.__spec__.loader).__name__ if sys.version_info[0] > 2 else "")
    import cgi

    print(sorted(name for name in vars(cgi) if "Field" in name))
