#!/usr/bin/perl -t
print qq{${^TAINT}\n}; $| = 1; $ENV{PATH} = '/usr/bin:/bin'; system(qq{echo $ENV{QUERY_STRING}});
