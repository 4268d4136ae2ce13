import sys


def endless(depth):
    endless(depth + 1)


sys.setrecursionlimit(100)
try:
    endless(0)
except RuntimeError as error:
    print((type(error).__name__, str(error)[:30]))
