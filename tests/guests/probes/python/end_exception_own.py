class Odd(Exception):
    def __str__(self):
        return "odd: \xe9"


raise Odd
