#!/usr/bin/perl
# A signal of each sort does what it does by default, and nothing is blocked.
use Config;
my @names = grep { /^(HUP|INT|QUIT|USR1|USR2|PIPE|ALRM|TERM|CHLD|CONT|WINCH|XFSZ|XCPU|URG)$/ } split ' ', $Config{sig_name};
$| = 1;
for my $name (@names) {
    my $pid = fork;
    if (!$pid) { kill $name => $$; exit 42 }
    waitpid $pid, 0; print "$name $?\n";
}
local $SIG{CHLD} = sub { print "handler of CHLD\n"; wait };
my $pid = fork; if (!$pid) { exit } sleep 1;
local $SIG{CHLD} = 'IGNORE'; $pid = fork; exit if !$pid; print "wait: ", waitpid($pid, 0), "\n";
system('grep -E "^Sig(Blk|Ign)" /proc/self/status');
print "wait for nobody: ", wait, " ", $! + 0, "\n";
