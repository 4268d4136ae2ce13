import sys
import warnings

warnings.simplefilter("ignore")
try:
    import cgi
except ImportError:
    sys.exit("no cgi")
form = cgi.FieldStorage()
print("Content-Type: text/plain")
print("")
for name in sorted(form):
    print("%s=%s" % (name, form.getlist(name)))
