import sys


class Told(object):
    def __init__(self, name):
        self.name = name

    def __del__(self):
        print("gone: " + self.name)

    def find_spec(self, name, path=None, target=None):
        return None

    def find_module(self, name, path=None):
        return None


sys.meta_path.append(Told("finder"))
kept = Told("object")
