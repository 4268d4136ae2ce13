import sys
import threading
import time


def work(number):
    time.sleep(0.1 * (number + 1))
    sys.stdout.write("thread %d\n" % number)


for number in range(3):
    threading.Thread(target=work, args=(number,)).start()
print("main")
