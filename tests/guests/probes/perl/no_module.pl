#!/usr/bin/perl
print 'never';
use Not::There::At::All;
