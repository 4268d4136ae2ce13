import threading


def fails():
    raise SystemExit(5)


thread = threading.Thread(target=fails)
thread.start()
thread.join()
print("main")
