import json
import os
import string


class Noisy(object):
    def __del__(self, write=os.write):
        write(1, b"gone\n")


string.kept = Noisy()
json.kept = [Noisy()]
print("main")
