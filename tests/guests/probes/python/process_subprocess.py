import os
import subprocess
import sys

os.environ["ADDED"] = "1"
os.environ.pop("GIVEN", None)
process = subprocess.Popen(
    ["sh", "-c", "cat; env | sort; ls /proc/self/fd | wc -l; exit 3"],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
)
out = process.communicate(b"in\n")[0]
print((out, process.returncode))
process = subprocess.Popen([sys.executable, "-c", "import sys; print(sys.flags)"], stdout=subprocess.PIPE)
print(process.communicate()[0])
