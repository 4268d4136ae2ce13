#!/usr/bin/perl
use utf8;
use open qw(:std :encoding(UTF-8));
use feature qw(say state);
my $été = "é…\x{1F600}";
say length $été, " $été ", join ' ', PerlIO::get_layers(STDOUT);
warn "é at";
format STDOUT_TOP =
name  value
-----------
.
our ($name, $value);
format STDOUT =
@<<<< @>>>>
$name, $value
.
($name, $value) = ('a', 1); write; ($name, $value) = ('bb', 22); write;
print "page $% left $- of $=\n";
package Counter { sub TIESCALAR { my $n = 0; bless \$n } sub FETCH { ${ $_[0] }++ } }
tie my $count, 'Counter'; print "$count$count$count\n";
package Out { sub TIEHANDLE { bless [] } sub PRINT { shift; print STDERR 'tied: ', @_ } }
tie *OUT, 'Out'; print OUT "x\n";
local $, = '-'; local $\ = "!\n"; print 1, 2, 3;
{ local $| = 1; print 'flushed'; }
local $SIG{__WARN__} = sub { print 'warned', @_ };
warn 'w'; my @sorted = sort { $b <=> $a } 3, 10, 2; print @sorted;
printf "%s %.3f %s\n", 1e21, 1/3, 0.1 + 0.2;
print "\$0 is $0"; my $old = $0; $0 = 'renamed'; print $0, do { open my $c, '<', '/proc/self/comm'; <$c> };
print sprintf('%vd', $^V), ref(\$^V), lc 'ÀÉ', ucfirst 'éa', 'straße' =~ /ß/i ? 1 : 0;
