#!/usr/bin/perl
# Files that it makes, loads and asks about.
use strict; use warnings;
my $name = "made.$$"; open(my $out, '>', $name) or die "$name: $!"; print $out "1;\n"; close $out;
printf "mode %o age %s\n", (stat $name)[2], -M $name <= 0 ? 'not before the start' : 'before';
open(my $module, '>', "Own$$.pm"); print $module "package Own$$; sub hi { 'hi from ' . __FILE__ } print join('|', map { defined \$_ ? \$_ : 'undef' } (caller(0))[0,1,2,3,7]), qq{\\n}; 1;\n"; close $module;
s/\d+/N/g, print for do { my $made = require "./Own$$.pm"; "required $made " . "Own$$"->hi . "\n" };
print map { "$_\n" } grep { /Own/ } map { s/\d+/N/r } keys %INC;
print do { my $pid = $$; my $text = do "./$name"; "do $text\n" };
unlink $name, "Own$$.pm";
my @all = glob '*'; print "glob: @all\n";
print "self: ", -x $0 ? 'executable' : 'not', "\n";
open(my $pipe, '-|', 'echo piped; exit 3'); print <$pipe>; close $pipe; print "status ", $? >> 8, "\n";
my $text = `echo quoted; kill -9 \$\$`; print $text, $? & 127, "\n";
my $pid = open(my $kid, '-|'); if (!$pid) { print 'from a fork'; exit 4 } print <$kid>; close $kid; print ' ', $? >> 8, "\n";
