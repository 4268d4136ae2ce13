#!/usr/bin/perl -w
use strict;
END { print "END was compiled\n" }
print "never\n";
my $x = ;
$undeclared = 1;
sub {
