#!/usr/bin/perl -w
# Nothing is used, so strict is off, and names of others are not in main.
$only_once = 1; $name = 'x'; print $name, "\n";
print "main: ", join(' ', grep { /^[a-z]/i && !/::$/ && !/^(ENV|INC|ARGV|ARGVOUT|STDIN|STDOUT|STDERR|DATA|BEGIN|SIG|stdin|stdout|stderr)$/ } sort keys %main::), "\n";
print "subs: ", join(' ', grep { defined &{"main::$_"} } sort keys %main::), "\n";
print "overrides: ", join(' ', keys %CORE::GLOBAL::), "\n";
print "hints: ", join(' ', map { defined $_ ? $_ : 'undef' } (sub { (caller(0))[8, 10] })->()), "\n";
print "END blocks of others: ", 0, "\n";
say_nothing() if 0;
print STDOUT sort { $a cmp $b } qw(b a c);
