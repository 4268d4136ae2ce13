#!/usr/bin/perl
use Config; if (!$Config{useithreads}) { print "no threads\n"; exit }
require threads; my $thread = threads->create(sub { return "from a thread " . threads->tid . ' ' . __FILE__ });
print $thread->join, "\n"; print scalar(threads->list), "\n"; END { print "END ", threads->tid, "\n" }
