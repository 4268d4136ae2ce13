#!/usr/bin/perl
# A CGI script in Perl that needs nothing but Perl itself.
use strict;
use warnings;

sub escaped {
    my ($text) = @_;
    my %entity = ('&' => '&amp;', '<' => '&lt;', '>' => '&gt;', '"' => '&quot;', "'" => '&#39;');
    $text =~ s/([&<>"'])/$entity{$1}/g;
    return $text;
}

sub decoded {
    my ($text) = @_;
    $text =~ tr/+/ /;
    $text =~ s/%([0-9A-Fa-f]{2})/chr hex $1/ge;
    return $text;
}

my %query = map { my ($name, $value) = split /=/, $_, 2; (decoded($name), decoded($value // '')) }
    grep { length } split /[&;]/, $ENV{QUERY_STRING} // '';
my $name = escaped($query{name} // 'somebody');
my $version = escaped(sprintf 'v%vd', $^V);

print "Content-Type: text/html; charset=utf-8\r\n\r\n";
print <<"PAGE";
<!DOCTYPE html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Hello from Perl</title><link rel="stylesheet" href="/style.css">
<main class="page">
<h1>Hello from Perl</h1>
<p>You are <b>$name</b>. This is Perl $version, process $$.
<p><a href="?name=Larry">Be Larry</a>, or go <a href="/">back to all examples</a>.
</main>
PAGE
