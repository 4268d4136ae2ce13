#!/usr/bin/perl
use strict;
$undeclared0 = 1;
$undeclared1 = 1;
$undeclared2 = 1;
$undeclared3 = 1;
$undeclared4 = 1;
$undeclared5 = 1;
$undeclared6 = 1;
$undeclared7 = 1;
$undeclared8 = 1;
$undeclared9 = 1;
$undeclared10 = 1;
$undeclared11 = 1;
$undeclared12 = 1;
$undeclared13 = 1;
