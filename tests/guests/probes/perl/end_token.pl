#!/usr/bin/perl
print 'data: ', (defined fileno(main::DATA) ? join('', <main::DATA>) : 'none'), "\n"; print __FILE__, __LINE__;
__END__
after the end
