def deep(count):
    return deep(count - 1) if count else 1 / 0


print("before")
deep(3)
