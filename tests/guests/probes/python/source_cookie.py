# -*- coding: latin-1 -*-
import sys
print(repr(u"\xe9é"))
