import sys


def endless():
    endless()


try:
    endless()
except RuntimeError as error:
    print(type(error).__name__)
sys.setrecursionlimit(100)
endless()
