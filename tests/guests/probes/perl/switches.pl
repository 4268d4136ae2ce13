#!/usr/bin/perl -w -T
# -w and -T of the #! line.
print "W=$^W taint=${^TAINT} search path: @INC\n";
my $u; print "x" . $u . "\n";
use Scalar::Util 'tainted';
print "$_: ", tainted($ENV{$_}) ? 'tainted' : 'clean', "\n" for grep { !/^PATH$/ } sort keys %ENV;
print "0: ", tainted($0) ? 'tainted' : 'clean', " X: ", tainted($^X) ? 'tainted' : 'clean', "\n";
my $line = <STDIN>; print "input: ", defined $line && tainted($line) ? 'tainted' : 'clean', "\n";
print "data: ", tainted(scalar <DATA>) ? 'tainted' : 'clean', "\n";
print "literal: ", tainted("x") ? 'tainted' : 'clean', " number: ", tainted($$) ? 'tainted' : 'clean', "\n";
eval { system("echo $ENV{QUERY_STRING}") }; print "system: $@";
eval { open(my $out, '>', $ENV{QUERY_STRING}) }; print "open: $@";
$ENV{PATH} = '/usr/bin:/bin'; delete @ENV{qw(IFS CDPATH ENV BASH_ENV)};
eval { $| = 1; system('echo', 'clean path') }; print "system: $@\n";
eval { require "$ENV{QUERY_STRING}.pl" }; print "require: $@";
__DATA__
of the script
