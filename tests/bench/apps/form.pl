#!/usr/bin/perl
use strict;
use warnings;
use CGI;

my $q = CGI->new;
my $name = $q->escapeHTML(scalar($q->param('name')) // 'nobody');
print $q->header('text/html'), $q->start_html('Form'), $q->p("Hello, $name."), $q->end_html;
