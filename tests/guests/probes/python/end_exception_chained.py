try:
    {}["missing"]
except KeyError:
    raise ValueError("while dealing with it")
