import threading
import time

thread = threading.Thread(target=time.sleep, args=(60,))
thread.daemon = True
thread.start()
print("main")
