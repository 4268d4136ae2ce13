#!/usr/bin/perl
# Not compared with what is executed: all of it is to differ from one order to the next.
print rand(), "\n", int(rand 1e9), "\n", $$, "\n";
