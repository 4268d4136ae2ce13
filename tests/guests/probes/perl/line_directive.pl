#!/usr/bin/perl
warn "one";
# line 100 "other.tmpl"
warn "two"; print __FILE__;
