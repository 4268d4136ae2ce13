#!/usr/bin/perl
# What the kernel knows of this process.
sub text { my ($path) = @_; open(my $handle, '<', $path) or return "$path: $!"; local $/; return <$handle> }
my $status = text('/proc/self/status');
print "$_\n" for grep { /^(Name|Umask|Uid|Gid|Groups|Threads|Sig(Blk|Ign|Cgt|Pnd)|ShdPnd|Cap\w+|NoNewPrivs|Seccomp):/ } split /\n/, $status;
print 'limits ', text('/proc/self/limits');
my @stat = split ' ', (text('/proc/self/stat') =~ /\) (.*)/s)[0];
print 'group leader: ', $stat[2] == $$ ? 'yes' : 'no', "\n";
print 'session: ', $stat[3], "\n";
print 'tty: ', $stat[4], " nice: $stat[16]\n";
print "comm: ", text('/proc/self/comm');
print "oom: ", text('/proc/self/oom_score_adj');
print "getpgrp: ", getpgrp() == $$ ? 'own' : 'other', "\n";
require Cwd;
print 'cwd: ', Cwd::getcwd(), ' link: ', readlink('/proc/self/cwd'), ' root: ', readlink('/proc/self/root'), "\n";
printf "umask: %o\n", umask;
print 'priority: ', getpriority(0, 0), "\n";
print 'exe: ', readlink('/proc/self/exe'), "\n";
print 'child times: ', join(' ', map { $_ < 0.5 ? 'small' : $_ } times), "\n";
