#!/usr/bin/perl -X
use warnings; my $u; print 'a' . $u, " $^W\n"; warn 'told';
