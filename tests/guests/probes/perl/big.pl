#!/usr/bin/perl
# Reads all of its input and writes more than a pipe holds.
binmode STDIN; my ($sum, $all) = (0, 0); while (read STDIN, my $part, 4096) { $all += length $part; $sum = ($sum + unpack '%32C*', $part) & 0xffffffff }
print "read $all $sum\n"; print 'x' x 300_000; print STDERR 'y' x 70_000, "\n";
