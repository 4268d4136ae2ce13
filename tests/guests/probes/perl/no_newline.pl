#!/usr/bin/perl
print 'the file ends here';die 'x'