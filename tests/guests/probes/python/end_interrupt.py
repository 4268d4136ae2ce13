import atexit


def bye():
    print("bye")


atexit.register(bye)
raise KeyboardInterrupt
