import gc


class Told(object):
    def __init__(self, name):
        self.name = name
        self.itself = self

    def __del__(self):
        print("gone: " + self.name)


old = Told("old")
gc.collect()
many = [[number] for number in range(20000)]
middle = Told("middle")
more = [[number] for number in range(1000)]
young = Told("young")
if hasattr(gc, "callbacks"):
    old.stats = [each["collections"] > 0 for each in gc.get_stats()[2:]]
    print(old.stats)
