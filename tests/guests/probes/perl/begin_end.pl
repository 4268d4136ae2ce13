=pod

This script begins with documentation.

=cut

print "line ", __LINE__, "\n"; warn "x";
