#!/usr/bin/perl
# DATA is the script's own file, at its place.
print "tell ", tell(DATA), " descriptor ", fileno(DATA), " size ", -s DATA, "\n";
print "name: ", readlink('/proc/self/fd/' . fileno DATA), "\n";
while (<DATA>) { print "$.: $_" }
print "eof at ", tell(DATA), "\n";
seek DATA, 0, 0; my $first = <DATA>; print "first: $first"; print "then: ", scalar(<DATA>);
warn "with the handle";
open(my $self, '<', $0) or die; my @lines = <$self>; print scalar(@lines), " lines\n";
print "age: ", (-M $0 > 0 ? 'before' : 'after'), ' ', -M DATA == -M $0 ? 'same' : 'other', "\n";
__DATA__
one
two
three
