import gc


def told(phase, details):
    write("%s %s\n" % (phase, details["generation"]))


if hasattr(gc, "callbacks"):
    write = __import__("sys").stdout.write
    gc.callbacks.append(told)
print("end")
