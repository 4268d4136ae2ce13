use utf8;
print 'with a mark: ', length('é'), ' ', __LINE__, qq{\n}; warn 'x';
