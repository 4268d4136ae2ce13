#!/usr/bin/perl -W
no warnings; my $u; print 'a' . $u, " $^W\n";
