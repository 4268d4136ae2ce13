import atexit


def fails():
    1 / 0


atexit.register(fails)
print("main")
