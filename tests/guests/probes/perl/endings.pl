#!/usr/bin/perl -w
# By its query it ends in each of the ways there are.
use strict;
my $way = $ENV{QUERY_STRING};
END { print "END of $way with $?\n"; $? = 9 if $way eq 'changed' }
package Told { use overload '""' => sub { "an object that says this\n" }; sub new { bless {} } }
package Thing { sub new { bless [$_[1]] } sub DESTROY { print "DESTROY $_[0][0] in ${^GLOBAL_PHASE}\n" } }
our $global = Thing->new('global');
my $lexical = Thing->new('lexical');
BEGIN { if ($ENV{QUERY_STRING} eq 'begin-exit') { print "in begin\n"; exit 3 } }
BEGIN { if ($ENV{QUERY_STRING} eq 'begin-die') { die "in begin\n" } }
INIT { print "INIT\n" } CHECK { print "CHECK\n" } UNITCHECK { print "UNITCHECK\n" }
print "unflushed, no newline at the end";
exit 0 if $way eq 'exit-0';
exit 7 if $way eq 'exit-7';
exit 256 if $way eq 'exit-256';
if ($way eq 'die') { $! = 0; $? = 0; die "dead\n" }
if ($way eq 'die-line') { die "dead" }
if ($way eq 'die-errno') { open(my $handle, '<', '/nonexistent') or die "open: $!" }
if ($way eq 'cycle') { my $first = Thing->new('first'); push @$first, $first; undef $global }
if ($way eq 'die-object') { die Told->new }
if ($way eq 'die-status') { $! = 0; $? = 5 << 8; die "status\n" }
if ($way eq 'die-eval') { eval { die "inner\n" }; print "caught $@"; die }
if ($way eq 'die-handler') { local $SIG{__DIE__} = sub { print "handler: $_[0]" }; die "handled\n" }
if ($way eq 'warn-handler') { local $SIG{__WARN__} = sub { print "handler: $_[0]" }; warn "handled" }
if ($way eq 'kill') { kill KILL => $$ }
if ($way eq 'term') { kill TERM => $$; sleep 5 }
if ($way eq 'abrt') { kill ABRT => $$; sleep 5 }
if ($way eq 'pipe') { kill PIPE => $$; sleep 5 }
if ($way eq 'exec') { exec '/bin/sh', '-c', 'echo executed; exit 6' }
if ($way eq 'exec-fail') { no warnings; exec '/nonexistent/program' or print "exec: $!\n" }
if ($way eq 'fork') {
    $| = 1; my $pid = fork; if (!$pid) { print "child\n"; exit 2 }
    waitpid $pid, 0; print "child ended with $?\n";
}
if ($way eq '_exit') { require POSIX; POSIX::_exit(4) }
if ($way eq 'closed') { close STDOUT; close STDERR; exit 1 }
if ($way eq 'undef') { my $u; my $x = "a" . $u; my @a = (1); $x = $a[5] . 'b'; $x = 'q' + 1 }
if ($way eq 'sub') { sub deep { die "deep" } sub deeper { deep() } deeper() }
if ($way eq 'confess') { require Carp; sub one { Carp::confess('told') } sub two { one(1, 'b') } two([]) if 0; two('x') }
if ($way eq 'croak') { require Carp; Carp::croak('croaked') }
if ($way eq 'string-eval') { eval 'die "here"'; print $@; eval "1 +* 2"; print $@; eval "\n\ndie"; print $@ }
if ($way eq 'goto') { goto NOWHERE }
if ($way eq 'method') { Thing->missing }
if ($way eq 'require') { require Not::There }
if ($way eq 'do') { my $x = do './not-there.pl'; print defined $x ? 'x' : "do: $!\n" }
if ($way eq 'alarm') { $SIG{ALRM} = sub { die "alarm\n" }; alarm 1; sleep 5 }
if ($way eq 'dump') { die "line\n\nlines\n" }
