#!/usr/bin/perl -w
# Modules are there when they are asked for, and say nothing on the way.
use strict;
use CGI qw(:standard);
use POSIX qw(strftime setlocale LC_ALL);
use File::Temp qw(tempfile);
use Data::Dumper; use List::Util qw(sum); use Time::Local; use Storable; use Encode; use FindBin; use IO::File;
use CGI::Carp qw(fatalsToBrowser set_message);
$Data::Dumper::Sortkeys = 1;
print header(-type => 'text/plain'), "Bin=$FindBin::Bin Script=$FindBin::Script\n";
print Dumper({ map { $_ => [multi_param($_)] } param() }) if CGI->can('multi_param');
print "method=", request_method(), " query=", query_string(), " self=", url(-absolute => 1), "\n";
print strftime('%Y', gmtime 0), ' ', setlocale(LC_ALL), ' ', sum(1, 2), "\n";
my ($handle, $name) = tempfile(UNLINK => 1); print $handle 'x'; close $handle; print -s $name, "\n";
print "isa: ", join(' ', @CGI::ISA), " loaded=", join(' ', grep { exists $INC{$_} } qw(CGI.pm CGI/Util.pm POSIX.pm Encode.pm)), "\n";
print encode('UTF-8', "\x{e9}") eq "\xc3\xa9" ? "encoded\n" : "not\n";
die "told to the browser" if $ENV{QUERY_STRING} =~ /die/;
