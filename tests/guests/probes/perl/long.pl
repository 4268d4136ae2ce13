#!/usr/bin/perl
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
# a comment that fills several of the buffers that perl reads its program by
print 'line ', __LINE__, ' ', tell(DATA), <DATA>; warn 'far';
=pod

x

=cut

=pod

x

=cut

=pod

x

=cut

=pod

x

=cut

=pod

x

=cut

=pod

x

=cut

=pod

x

=cut

=pod

x

=cut

=pod

x

=cut

=pod

x

=cut

=pod

x

=cut

=pod

x

=cut

=pod

x

=cut

=pod

x

=cut

=pod

x

=cut

=pod

x

=cut

=pod

x

=cut

=pod

x

=cut

=pod

x

=cut

=pod

x

=cut

=pod

x

=cut

=pod

x

=cut

=pod

x

=cut

=pod

x

=cut

=pod

x

=cut

=pod

x

=cut

=pod

x

=cut

=pod

x

=cut

=pod

x

=cut

=pod

x

=cut

=pod

x

=cut

=pod

x

=cut

=pod

x

=cut

=pod

x

=cut

=pod

x

=cut

=pod

x

=cut

=pod

x

=cut

=pod

x

=cut

=pod

x

=cut

=pod

x

=cut

=pod

x

=cut

=pod

x

=cut

=pod

x

=cut

=pod

x

=cut

=pod

x

=cut

=pod

x

=cut

=pod

x

=cut

=pod

x

=cut

=pod

x

=cut

=pod

x

=cut

print __LINE__;
__DATA__
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
line of data
