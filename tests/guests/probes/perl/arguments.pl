#!/usr/bin/perl
use strict;
use warnings;
print "0=$0 file=", __FILE__, " line=", __LINE__, " package=", __PACKAGE__, "\n";
print "arguments=", scalar(@ARGV), " <@ARGV>\n";
print "X=$^X W=$^W version=$] taint=${^TAINT} O=$^O unicode=${^UNICODE} utf8locale=${^UTF8LOCALE}\n";
print "caller=", defined caller() ? 'some' : 'none', "\n";
sub frames { my @all; my $n = 0; while (my @frame = caller $n++) { push @all, "@frame[0..3]" } return join '; ', @all }
print "frames=", frames(), "\n";
print "search path=@INC\n";
print "phase=${^GLOBAL_PHASE} S=", defined $^S ? $^S : 'undef', " D=$^D P=$^P F=$^F\n";
BEGIN { print "hints=$^H in begin, S=", defined $^S ? $^S : 'undef', " phase=${^GLOBAL_PHASE}\n" }
print "errno=", $! + 0, " error=<", defined $@ ? $@ : 'undef', "> child=$? line=", defined $. ? $. : 'undef', "\n";
print "variables=", join('|', map { defined $_ ? $_ : 'undef' } $/, $\, $,, $", $;, $|, $_, $1, $&, $^A, $^E + 0, $^L, $:, $^, $~), "\n";
print "basetime is now: ", abs(time - $^T) <= 1 ? 'yes' : 'no', "\n";
print "ids=$< $> $( $)\n";
print "signals=", join(' ', map { "$_=$SIG{$_}" } grep { defined $SIG{$_} } sort keys %SIG), "\n";
print "own file: ", -e $INC{'strict.pm'} ? 'ok' : 'gone', "\n";
print "zygote module: ", exists $INC{'zygote.pm'} ? 'seen' : 'not seen', "\n";
