import os
import signal
import time


def handler(number, frame):
    print("%d in %s" % (number, frame.f_code.co_name))


signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.02)
deadline = time.time() + 10
while signal.getitimer(signal.ITIMER_REAL)[0] and time.time() < deadline:
    time.sleep(0.01)
signal.signal(signal.SIGCHLD, handler)
os.system("true")
pid = os.fork()
if not pid:
    os._exit(0)
while True:
    try:
        os.waitpid(pid, 0)
        break
    except OSError:
        break
print(signal.set_wakeup_fd(-1))
