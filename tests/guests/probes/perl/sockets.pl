#!/usr/bin/perl
use IO::Socket::INET; use IO::Select; use strict; use warnings;
my $server = IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1') or die "listen: $@";
print 'descriptor ', fileno $server, "\n"; my $pid = fork;
if (!$pid) { my $peer = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $server->sockport); print $peer "over a socket\n"; close $peer; exit }
my ($ready) = IO::Select->new($server)->can_read(5); my $peer = $ready->accept; print <$peer>; waitpid $pid, 0; print "$?\n";
socketpair(my $left, my $right, 1, 1, 0) or die; syswrite $left, 'pair'; sysread $right, my $got, 9; print "$got\n";
