#!/usr/bin/perl
# Which descriptors are open, in the script and in what it starts, and what they are.
sub list {
    my ($when) = @_;
    opendir(my $handle, '/proc/self/fd') or die;
    my $own = fileno $handle;
    for my $fd (sort { $a <=> $b } grep { /\d/ } readdir $handle) {
        my $link = readlink "/proc/self/fd/$fd";
        next if $link =~ m{^/proc/\d+/fd$};
        $link =~ s/\d+/N/ if $link =~ /^(pipe|socket|anon)/;
        open(my $info, '<', "/proc/self/fdinfo/$fd");
        my ($flags) = map { /^flags:\s*(\S+)/ ? $1 : () } <$info>;
        print "$when $fd $link $flags\n";
    }
}
BEGIN { list('begin') }
list('run');
$| = 1;
system('ls', '-l', '/proc/self/fd/3') == 0 and print "3 is inherited\n";
system('readlink /proc/self/fd/4');
print "layers: @{[PerlIO::get_layers(STDIN)]} / @{[PerlIO::get_layers(STDOUT)]} / @{[PerlIO::get_layers(STDERR)]}\n";
for my $handle (*STDIN, *STDOUT, *STDERR) {
    my @found = stat $handle;
    printf "%s mode=%o pipe=%d file=%d tty=%d size=%d tell=%d eof=%s\n", $handle, $found[2], -p $handle, -f _, -t $handle,
        -f _ ? $found[7] : -1, tell($handle), $handle eq '*main::STDIN' ? (eof($handle) ? 1 : 0) : '-';
}
open(my $again, '>', '/dev/stdout') or die "stdout: $!";
print $again "through /dev/stdout\n";
close $again;
print "tell of STDIN=", tell(STDIN), " read <", join('|', <STDIN>), ">\n";
close STDIN; open(STDIN, '<', '/dev/null'); print "reopened as ", fileno(STDIN), "\n";
close STDOUT;
print STDERR "closed STDOUT, next descriptor is ", do { open(my $next, '<', '/dev/null'); fileno $next }, "\n";
__DATA__
so that descriptor 3 stays open
