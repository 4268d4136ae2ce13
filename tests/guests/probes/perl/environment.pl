#!/usr/bin/perl
# The environment of the script, of the C library, and of what the script starts.
print map { "$_=$ENV{$_}\n" } sort keys %ENV;
$| = 1;
print "--- order in a child\n";
system('/usr/bin/env', '-0') == 0 or print "env: $?\n";
print "\n--- changed\n";
$ENV{ADDED} = "a\tb";
delete $ENV{QUERY_STRING};
{ local $ENV{LOCALLY} = 'yes'; system('/usr/bin/env'); }
system('/usr/bin/env');
{ local %ENV = (ONLY => 'this'); system('/usr/bin/env'); }
print "exists: ", (exists $ENV{EMPTY} ? 1 : 0), " defined: ", (defined $ENV{EMPTY} ? 1 : 0), " length: ", length $ENV{EMPTY}, "\n";
print "utf8: ", join(' ', map { utf8::is_utf8($ENV{$_}) ? 1 : 0 } sort keys %ENV), "\n";
print "time: ", scalar(localtime 86400 * 200), "\n";
$ENV{TZ} = 'Asia/Tokyo';
print "time: ", scalar(localtime 86400 * 200), "\n";
