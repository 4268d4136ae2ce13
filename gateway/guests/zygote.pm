package zygote;

# Above all pragmas and variables of this file: what is evaluated here knows none of them.
sub evaluate { eval $_[0] }

# A warm Perl: forks a process per order, and the process becomes the script.
#
# Runs under Perl 5.16 and later with core modules only, on Linux. Imports nothing of ours.
#
# HOW
#
# It is started as
#
#     perl FLAGS -I DIRECTORY-OF-THIS-FILE -Mzygote=CONTROL /dev/./././null
#
# with 500 "./" (see `find_main`; a plain /dev/null does as well, but for one message). So `import`
# runs when perl has opened its main program, /dev/null, as descriptor 3, and has not read from it.
# The loop below runs inside of `import`. In a child, descriptor 3 becomes the script, a source
# filter puts `#line 1 "/the/script"` before its first line, and `import` returns: perl reads,
# compiles and runs the script as its main program. Exit codes, END, DATA, die, BEGIN, $^S, caller,
# the switches on the #! line are perl's own. The script's compiled code is not kept.
#
# FLAGS: as the #! line has them, of -w -W -X -t -T -U -C -s -l -n -p -a -F -0 -M -m. Not -x -d -D
# -i -u -v, and none that takes the next word. CONTROL: a SOCK_SEQPACKET socket, above 3.
# Descriptor 3 is not open, so that perl opens its main program there. 0 is /dev/null, 1 and 2 go to
# the log.
#
# MESSAGES, little-endian, one in a datagram
#
#   taken  "R" u32 id, u16 length of script, u16 length of cwd, script, cwd, "NAME=value" joined by
#              NUL; with three descriptors: stdin, stdout, stderr of the script; a fourth is a
#              socket for more orders: see "A child that stays"
#          "P" names of modules joined by NUL, "CGI::Util" or "CGI/Util.pm": load them now
#          "Q" leave when no child is left. At the end of the socket: leave at once
#   given  "H" u32 pid: ready
#          "S" u32 id, u32 pid: the order runs as this process. That says so itself, before
#              anything of the script runs; if it cannot, it runs nothing
#          "F" u32 id, text: it was not started, nothing of it has run
#          "X" u32 pid, i32 wait status, u64 user us, u64 system us, u64 maximal resident KiB,
#              u32 id: a child ended. If "S" was not said of its order, nothing of that has run
#          "L" keys of %INC joined by NUL that a script had loaded at its end and we had not, of the
#              system's directories only
#          "W" text, a line for the log. About a module it is "NAME: why"
#          "C" a loaded module's file has changed: replace this zygote. The order at hand gets "F"
#   Exit status 75: loading the module of the last "W" did what cannot be undone. Start another
#   zygote without it. 1: this perl or system will not do, a "W" or standard error says why.
#
# WHAT A SCRIPT CAN SEE
#
#   - %INC and the symbol table have Filter::Util::Call, what that needs, and what was preloaded.
#     `require` of these finds them there. A script that changes where modules are looked for in a
#     way that could find others is not started ("F"), but what a file that it loads does to @INC
#     is not seen. %zygote:: exists, and one END block of it that runs last.
#   - getppid is the zygote. /proc/self/cmdline has only the script's path, /proc/self/environ is
#     the zygote's, maximal resident memory has what it shares with the zygote.
#   - the numbers of string evals, "(eval 7)", go on from those of the zygote. Objects that are left
#     for global destruction go in another order, which Perl leaves open.
#   - keys and values of a hash come in an order that is the same for all children of one zygote.

use strict;
use warnings;
use Filter::Util::Call qw(filter_add filter_del);

our $VERSION = '1';

# ---- The system ----------------------------------------------------------------------------------

# Perl has no call to receive a descriptor or to get a child's usage, and none to block a signal
# without POSIX.pm, which not every script wants. By the machine that this perl is built for.
my %CALLS = (
    x86_64 => {
        recvmsg => 47, close => 3, dup3 => 292, wait4 => 61, sigprocmask => 14, signalfd4 => 289,
        exit_group => 231, prctl => 157, fcntl => 72, getrusage => 98, prlimit64 => 302,
    },
    generic => {
        recvmsg => 212, close => 57, dup3 => 24, wait4 => 260, sigprocmask => 135, signalfd4 => 74,
        exit_group => 94, prctl => 167, fcntl => 25, getrusage => 165, prlimit64 => 261,
    },
);
my %MACHINES = (62 => 'x86_64', 183 => 'generic', 243 => 'generic', 258 => 'generic');
# ELF e_machine: x86-64; AArch64, RISC-V and LoongArch have the kernel's generic table.

use constant {
    MSG_NOSIGNAL => 0x4000, MSG_CMSG_CLOEXEC => 0x40000000,
    SOL_SOCKET   => 1, SCM_RIGHTS => 1,
    O_CLOEXEC    => 02000000, O_NONBLOCK => 04000, O_WRONLY => 1,
    SIG_SETMASK  => 2,
    PR_SET_NAME  => 15, EINTR => 4, EAGAIN => 11, WNOHANG => 1,
    MESSAGE_MAX  => 256 << 10,
    SCRIPT_FD    => 3,
    SPOILED      => 75,
    SCRIPTS_MAX  => 1000, PATH_MAX => 1000,
    HELD_MAX     => 16,
};

my $ended = pack('Q<', 1 << 16);    # the set with SIGCHLD, and that with nothing: variables,
my $empty = pack('Q<', 0);          # as syscall refuses a constant string

my $calls;      # name => number, of this machine
my $control;    # the keeper's socket, a handle, and its number
my $control_fd;
my ($signal_fd, $signals);    # SIGCHLD comes here, a signalfd
my ($told_fd, $told);         # what scripts had loaded comes here, a pipe
my ($telling_fd, $telling);   # its writing end, that children open through /proc

my $zygote = $$;
my $self   = 0;     # in a child: its process id
my %children;       # process id => id of its order
my $leaving = 0;
my $taint   = '';   # empty, and tainted under -T as everything from outside is

sub leave { my ($status) = @_; syscall($calls->{exit_group}, $status); CORE::exit($status) }

sub choose_calls {
    open(my $binary, '<:raw', '/proc/self/exe') or die "zygote: /proc/self/exe: $!\n";
    sysread($binary, my $head, 20) == 20 or die "zygote: /proc/self/exe is too short\n";
    my ($magic, $class, $order, $machine) = unpack('a4 C C x12 S<', $head);
    my $table = $MACHINES{$machine};
    die "zygote: system call numbers of this machine ($machine) are not known\n"
        unless $magic eq "\x7fELF" && $class == 2 && $order == 1 && $table;
    return $CALLS{$table};
}

# ---- Messages ------------------------------------------------------------------------------------

# The kernel is given the addresses of their memory: never assigned to, never copied whole.
my $inbox  = '';
my $rights = '';

sub give {
    my ($message) = @_;
    while (!defined send($control, $message, MSG_NOSIGNAL)) {
        leave(0) unless $! == EINTR;    # the keeper is gone
    }
}

sub warn_keeper { give('W' . $_[0]) }

# Return the length of what was received into $inbox (0 at the end) and its descriptors.
sub receive {
    my $vector = pack('P J', $inbox, MESSAGE_MAX);
    my $header = pack('J L x4 P J P J i x4', 0, 0, $vector, 1, $rights, length $rights, 0);
    my $length;
    while (($length = syscall($calls->{recvmsg}, $control_fd, $header, MSG_CMSG_CLOEXEC)) < 0) {
        leave(0) unless $! == EINTR;
    }
    my $space = unpack('x40 J', $header);
    my @descriptors;
    if ($space >= 16) {
        my ($size, $level, $type) = unpack('J i i', $rights);
        @descriptors = unpack('x16 i' . ($size - 16 >> 2), $rights)
            if $level == SOL_SOCKET && $type == SCM_RIGHTS;
    }
    return ($length, @descriptors);
}

sub shut { syscall($calls->{close}, $_) for @_ }

# ---- Children that ended -------------------------------------------------------------------------

sub reap {
    sysread($signals, my $ignored, 4096);
    my ($status, $usage) = ("\0" x 4, "\0" x 144);
    while ((my $pid = syscall($calls->{wait4}, -1, $status, WNOHANG, $usage)) > 0) {
        my ($user, $user_us, $system, $system_us, $resident) = unpack('q5', $usage);
        my $id = delete $children{$pid};
        next unless defined $id;
        my ($in_user, $in_system) = ($user * 1e6 + $user_us, $system * 1e6 + $system_us);
        give(pack('a L< a4 Q< Q< Q< L<', 'X', $pid, $status, $in_user, $in_system, $resident, $id));
    }
}

# ---- Modules -------------------------------------------------------------------------------------

my @system;       # directories of @INC that belong to perl and the system
my @own;          # those that are before them: PERL5LIB
my %files;        # key of %INC => state of its file, of all that is loaded here
my %preloaded;    # keys of %INC that are loaded here
my $looked = 0;   # second in which the files were last looked at
my $changed;      # says what has changed
my %known;        # path => what is known of the script there (see `search_path`)
my %stay;         # of a child that stays: what it knows
my $random = 0;   # a module has used rand: children would all have the same numbers

# They look at the script, the request or the process when they are loaded, or change the language
# for everybody. What is found by looking (see `condition`) need not be here.
my %NEVER = map { $_ => 1 } qw(
    FindBin.pm Benchmark.pm CGI/Carp.pm CGI/Fast.pm FCGI.pm diagnostics.pm English.pm Env.pm
    encoding.pm sigtrap.pm threads.pm threads/shared.pm local/lib.pm
);

sub sort_directories {
    my @given = split /:/, $ENV{PERL5LIB} // $ENV{PERLLIB} // '';
    for my $directory (grep { !ref && m{^/} } @INC) {
        my $own = grep { length && index("$directory/", "$_/") == 0 } @given;
        push @{ $own ? \@own : \@system }, $directory;
    }
}

sub of_the_system {
    my ($path) = @_;
    for my $directory (@system) { return 1 if index($path, "$directory/") == 0 }
    return 0;
}

# Return what is as it was, unless a module did what a script would see. One string.
sub condition {
    no strict 'refs';
    my @parts = ('threads ' . join(' ', names_in('/proc/self/task')));
    push @parts, 'descriptors ' . join(' ', names_in('/proc/self/fd'));
    push @parts, 'overrides ' . join(' ', sort keys %CORE::GLOBAL::);
    push @parts, 'UNIVERSAL ' . join(' ', sort keys %UNIVERSAL::);
    my @subs = grep { !/::\z/ && defined &{"main::$_"} } sort keys %main::;
    my @handled = grep { defined $SIG{$_} } sort keys %SIG;
    push @parts, "main subs @subs", 'signals ' . join(' ', map { "$_=$SIG{$_}" } @handled);
    push @parts, 'ties ' . join(' ', map { tied(*$_) // '' } qw(STDIN STDOUT STDERR));
    push @parts, 'umask ' . umask, "search path @INC";
    push @parts, 'environment ' . join("\0", map { "$_=$ENV{$_}" } sort keys %ENV);
    push @parts, 'variables ' . join("\0", map { $_ // 'undef' } $/, $\, $,, $", $;, $|, $^W, $^T);
    return join("\1", @parts);
}

sub names_in {
    my ($directory) = @_;
    opendir(my $handle, $directory) or return ();
    my $own = fileno $handle;
    return sort grep { /^\d/ && $_ ne ($own // -1) } readdir $handle;
}

# Return the name of what differs between two conditions.
sub difference {
    my @before = split /\x01/, $_[0];
    my @after  = split /\x01/, $_[1];
    for (0 .. $#after) {
        next if $before[$_] eq $after[$_];
        my ($name) = $after[$_] =~ /^([^ ]+(?: path| subs)?)/;
        return $name;
    }
    return 'nothing';
}

sub preload {
    for my $name (@_) {
        my $key = $name;
        $key =~ s{::}{/}g;
        $key .= '.pm' unless $key =~ /\.pm\z/;
        next if $preloaded{$key};
        my $problem = load($key) or next;
        warn_keeper("$name: $problem");
    }
    note_loaded();
    %known = ();
    $random ||= seeded();
}

# Load one module. Return why it was not, undef when it is. Leaves when that cannot be undone.
sub load {
    my ($key) = @_;
    return 'not the name of a module' unless $key =~ m{^((?:\w+/)*\w+\.pm)\z};
    $key = $1;
    return 'depends on the script, so it is not preloaded' if $NEVER{$key};
    my ($where) = grep { !ref && -e "$_/$key" } @INC;
    return 'not found' unless defined $where;
    return "found in $where, not in a directory of the system" unless of_the_system("$where/$key");
    my $before = condition();
    my $loaded = do {
        package main;
        local ($@, $!, $_);
        my $true = eval { require $key };
        $true ? '' : $@ || 'is false';
    };
    my @strange = grep { !of_the_system($_) } grep { defined && !ref }
        map { $INC{$_} } grep { !$preloaded{$_} } keys %INC;
    my $after = condition();
    my $why =
          $loaded ne ''     ? 'cannot be loaded: ' . join(' ', split ' ', $loaded)
        : @strange          ? "loads $strange[0], which is not in a directory of the system"
        : $before ne $after ? 'changes the process: ' . difference($before, $after)
        :                     return undef;
    warn_keeper("$key: $why");
    leave(SPOILED);
}

sub note_loaded {
    for my $key (keys %INC) {
        next if $preloaded{$key}++;
        my $path = $INC{$key};
        $files{$key} = state_of($path) if defined $path && !ref $path;
    }
}

sub state_of { my @found = stat $_[0]; return @found ? "@found[1, 7, 9, 10]" : 'none' }

# Whether rand has been used here: then it goes on in the same way in two processes.
sub seeded {
    pipe(my $reader, my $writer) or return 1;
    for (1, 2) {
        my $pid = fork;
        return 1 unless defined $pid;
        if (!$pid) { syswrite($writer, pack('d', rand)); leave(0) }
        waitpid($pid, 0);
    }
    sysread($reader, my $numbers, 16);
    return substr($numbers, 0, 8) eq substr($numbers, 8);
}

# Return what has changed since the modules were loaded, undef if nothing. Looks once a second.
sub changed {
    return $changed if $changed || $looked == time;
    $looked = time;
    for my $key (keys %files) {
        return $changed = "$INC{$key} has changed" if state_of($INC{$key}) ne $files{$key};
        for (@own) { return $changed = "$_/$key is new" if -e "$_/$key" }
    }
    return undef;
}

# ---- Scripts -------------------------------------------------------------------------------------

# What puts something before the directories of @INC, beside `use lib`. What only reads it does not.
my $MOVES = qr{
    \b (?: unshift | splice ) \b [\s(]* \@ (?:main)? (?:::)? INC \b
    | \@ (?:main)? (?:::)? INC \s* \)? \s* = (?!=)
    | [\\*] \s* \@? (?:main)? (?:::)? INC \b
    | \$ (?:main)? (?:::)? INC \s* \[ [^\]]* \] \s* = (?!=)
    | \b lib \s* (?: -> | ::import \b ) | \b import \s+ lib \b | \b local::lib \b
    | \b use \s+ if \b [^;]* \b lib \b
}x;

# Return why a script could load another file than the one that is preloaded, '' if it could not.
#
# Its `require` takes what is in %INC. Without us it would have looked in @INC, where the script may
# have put directories first. Only such are understood that are written out.
sub search_path {
    my ($script, $path, $cwd) = @_;
    my @found = stat $script;
    return 'it is not a file' unless -f _;
    my $state = "@found[0, 1, 7, 9, 10] $cwd";
    my $known = $known{$path};
    if (!$known || $known->{state} ne $state) {
        %known = () if keys %known >= SCRIPTS_MAX;
        my $directories = directories($script, $path, $cwd);
        my $why = $directories ? '' : 'it changes where modules are looked for';
        $known = { state => $state, why => $why, directories => $directories, at => 0 };
        $known{$path} = $known;
    }
    my $directories = $known->{directories};
    if ($directories && @$directories && $known->{at} != time) {
        $known->{at}  = time;
        $known->{why} = shadowed(@$directories);
    }
    return $known->{why};
}

# Return the directories that a script puts first, undef if that cannot be seen.
sub directories {
    my ($script, $path, $cwd) = @_;
    my $source = '';
    1 while sysread($script, $source, 1 << 16, length $source);
    sysseek($script, 0, 0);
    $source =~ s/^__(?:END|DATA)__\b.*//ms;
    $source =~ s/^=[a-z].*?(?:^=cut\b|\z)//gms;
    $source =~ s/^\s*#.*//mg;
    my @directories;
    while ($source =~ s/\b(?:use|no)\s+lib\b\s*([^;]*)/ /) {
        my $words = literals($1, $path) or return undef;
        push @directories, map { m{^/} ? $_ : "$cwd/$_" } @$words;
    }
    return $source =~ $MOVES ? undef : \@directories;
}

# Return the strings that a list consists of, undef if it has something else.
sub literals {
    my ($list, $path) = @_;
    my ($bin) = -l $path ? undef : $path =~ m{^(.*)/};
    my $here = qr/\$(?:FindBin::(?:Real)?Bin\b|\{FindBin::(?:Real)?Bin\})/;
    my @words;
    while ($list =~ /[^\s,()]/) {
        $list =~ s/^[\s,()]+//;
        if ($list =~ s/^qw\s*(?:\(([^)]*)\)|\/([^\/]*)\/|\{([^}]*)\})//) {
            push @words, split ' ', $1 // $2 // $3;
        }
        elsif ($list =~ s/^'([^'\\]*)'//) { push @words, $1 }
        elsif ($list =~ s/^(?:"([^"\\]*)"|($here))//) {
            my @parts = split /$here/, $1 // $2, -1;
            return undef if @parts > 1 && !defined $bin || grep { /[\$\@]/ } @parts;
            push @words, join($bin // '', @parts);
        }
        else { return undef }
    }
    return \@words;
}

sub shadowed {
    for my $directory (@_) {
        next unless -d $directory;
        for my $key (keys %preloaded) {
            return "$directory/$key is before ours" if -e "$directory/$key";
        }
        opendir(my $handle, $directory) or next;
        return "$directory has directories of versions" if grep { /^5\.\d|-linux/ } readdir $handle;
    }
    return '';
}

# ---- Orders --------------------------------------------------------------------------------------

my $AT_START = qr/(?:\A|\0)((?:PERL|LANG|LC_|LD_(?!BIND_NOW=)|MALLOC_|GLIBC_)[^\0]*)/;
my $at_start;    # what perl and its libraries read from the environment when they start

# Start what is in the inbox. Returns true in the child that is to become the script.
sub order {
    my ($length, @descriptors) = @_;
    my ($id, $path_length, $cwd_length) = unpack('x L< S< S<', $inbox);
    my $path  = substr($inbox, 9, $path_length);
    my $cwd   = substr($inbox, 9 + $path_length, $cwd_length);
    my $begin = 9 + $path_length + $cwd_length;
    my $block = substr($inbox, $begin, $length - $begin);
    my $why = @descriptors == 3 || @descriptors == 4 ? '' : 'it came without its three descriptors';
    my $script;
    $why ||= unfit($path, $block);
    $why ||= opened($script, $path, $cwd);
    my $pid;
    if ($why eq '') {
        name_main($path);
        $pid = fork;
        if (!defined $pid) { $why = "fork: $!" }
        elsif (!$pid) {
            prepare_to_stay($script, $path, $cwd, $id, $descriptors[3]) if @descriptors == 4;
            become($script, $path, $block, $id, @descriptors);
            return 1;
        }
    }
    shut(@descriptors);
    if ($why ne '') {
        give(pack('a L< a*', 'F', $id, $why));
        if ($changed) { warn_keeper($changed); give('C') }
        return 0;
    }
    $children{$pid} = $id;
    return 0;
}

# Return why an order cannot be done here, '' if it can.
sub unfit {
    my ($path, $block) = @_;
    return $changed if changed();
    return 'its path cannot be told to perl'
        if $path =~ /["\n\r\0]|\A(?!\/)/ || length $path > PATH_MAX;
    return 'its environment is not the one that perl started with'
        if join("\0", sort { $a cmp $b } $block =~ /$AT_START/g) ne $at_start;
    return '';
}

# Open a script and enter its directory. Return why that cannot be done, '' if it is.
# On its own, because under -T what is tainted in a statement taints the rest of it.
sub opened {
    my (undef, $path, $cwd) = @_;
    sysopen($_[0], $path, 0) or return "$!";
    chdir($cwd) or return "$cwd: $!";
    return search_path($_[0], $path, $cwd);
}

# ---- The name of the main program ----------------------------------------------------------------

# `#line` tells perl the script's name for everything but one message: "Execution of ... aborted due
# to compilation errors" has the name that perl was started with, and nothing in Perl can change it.
# So the zygote is started with a long name, /dev/./././null, is looked for in its own memory, and
# the script's path is written in its place. If it is not found that message says /dev/null.
my $memory;          # /proc/self/mem
my @places;          # where the name is
my $named = '';      # what it says now

sub find_main {
    my $name = $0;
    return if length $name <= PATH_MAX;
    open($memory, '+<:raw', '/proc/self/mem') or return;
    $0 = 'warm perl of cgi-gateway';    # also for ps, where the long name helps nobody
    my $sought = $name;          # a copy of its own: what is below changes it
    substr($sought, 0, 1) = '.';
    undef $name;
    open(my $maps, '<', '/proc/self/maps') or return;
    local $/ = "\n";    # -0 of FLAGS may have another
    my ($start, $end) = map { /^([0-9a-f]+)-([0-9a-f]+) rw.*\[heap\]$/ ? ($1, $2) : () } <$maps>;
    return unless defined $end;
    # Not hex(), which under -W complains of numbers over 32 bits.
    $_ = unpack('Q>', pack('H16', substr('0' x 16 . $_, -16))) for $start, $end;
    my $heap;
    return unless sysseek($memory, $start, 0);
    return unless (sysread($memory, $heap, $end - $start) || 0) == $end - $start;
    $sought = substr($sought, 1) . "\0";
    for (my $at = -1; ($at = index($heap, $sought, $at + 1)) > 0;) {
        push @places, $start + $at - 1 if substr($heap, $at - 1, 1) eq '/';
    }
}

sub name_main {
    my ($path) = @_;
    return if $path eq $named || !@places;
    for my $place (@places) {
        sysseek($memory, $place, 0);
        syswrite($memory, "$path\0");
    }
    $named = $path;
}

# ---- The child -----------------------------------------------------------------------------------

# Make this process what exec would have made of it.
sub become {
    my ($script, $path, $block, $id, @descriptors) = @_;
    $self = $$;
    setpgrp(0, 0);
    give(pack('a L< L<', 'S', $id, $$));
    syscall($calls->{dup3}, $descriptors[$_], $_, 0) for 0 .. 2;
    syscall($calls->{dup3}, fileno $script, SCRIPT_FD, O_CLOEXEC);
    shut(@descriptors);
    seek(STDIN, 0, 1);    # perl remembers the place in a file, and it was another file's
    () = tell($control);       # so that STDIN is not what was last read from, and then nothing is
    close($_) for grep { defined } $script, $signals, $told, $telling, $memory, $control;
    undef $control;
    syscall($calls->{sigprocmask}, SIG_SETMASK, $empty, 0, 8);
    set_environment($block);
    $0 = $path . $taint;
    syscall($calls->{prctl}, PR_SET_NAME, substr($path, rindex($path, '/') + 1) . "\0", 0, 0, 0);
    $^T = time;
    srand if $random;
    my $first = qq{#line 1 "$path"\n};
    if (%stay) {    # the main program is a line of ours
        filter_add(sub { $_ = $first; $first = ''; return length $_ ? 1 : 0 });
        $first .= "zygote::stay();\n";
    }
    else { filter_add(sub { filter_del(); $_ = $first; return 1 }) }
    $! = 0;
}

# One by one and not `%ENV = ...`, which would leave the names that are the same to the end.
sub set_environment {
    my ($block) = @_;
    %ENV = ();
    for (split /\0/, $block) {
        my ($name, $value) = split /=/, $_, 2;
        $ENV{$name} = $value . $taint if defined $value;
    }
}

# Tell at the end of a script what it had loaded. This END block was the first, so it runs last.
END {
    if ($self && $self == $$ && keys %INC > keys %preloaded) {
        my $status = $?;    # the script's exit status, that anything here may change
        tell_loaded();
        $? = $status;
    }
}

sub tell_loaded {
    my @new = grep { !$preloaded{$_} && /\.pm\z/ && !$NEVER{$_} } keys %INC;
    @new = grep { defined $INC{$_} && !ref $INC{$_} && of_the_system($INC{$_}) } @new;
    return unless @new && getppid == $zygote;
    sysopen(my $pipe, "/proc/$zygote/fd/$telling_fd", O_WRONLY | O_NONBLOCK) or return;
    my $text = '';
    for my $key (sort @new) {
        if (length($text) + length($key) > 4000) { syswrite($pipe, $text); $text = '' }
        $text .= "$key\0";
    }
    syswrite($pipe, $text);    # not more than PIPE_BUF at once: it does not mix with others
}

# ---- A child that stays --------------------------------------------------------------------------
#
# `start = "persistent"`: it runs its script again and again, on orders that come by a socket of its
# own (process/persistent.py says what is said there). The script becomes a named sub of ours, which
# the main program calls: an exception ends the process as ever, and so does an exit status other
# than 0; `exit 0` leaves the sub. What a request leaves that could harm the next one ends the
# process, too: a child process, a thread, a changed user, group or niceness, more than HELD_MAX
# open descriptors (some may be a module's connections).
#
# Fresh for each request: environment, @ARGV, directory, umask, signals, the special variables,
# STDIN, STDOUT and STDERR with their layers, DATA, package variables of main and of the packages
# that the script's file declares. What stays: loaded modules with all that is in them, also
# handlers of signals that they set, and directories of @INC, behind the others.
#
# It is compiled once if nobody could tell: a named sub that uses a `my` variable of the file has
# that of the first run for ever ("will not stay shared"; perl says so under `use warnings`), a
# BEGIN block runs once. Otherwise it is compiled for each request; its modules are not.

# Note all that is needed to stay, unless this script cannot.
sub prepare_to_stay {
    my ($script, $path, $cwd, $id, $socket) = @_;
    my $source = slurp($script);
    return if ${^TAINT} || $source =~ /\bEND\s*\{/;
    my %packages = map { $_ => 1 } grep { $_ ne 'main' } $source =~ /^[ \t]*package\s+([\w:]+)/mg;
    my ($mark) = $source =~ /^__(END|DATA)__\r?$/m;
    return if %packages && ($mark // '') eq 'DATA';    # it is one package's, and not main's
    my $fd = syscall($calls->{fcntl}, $socket, 1030, 100);    # F_DUPFD_CLOEXEC: out of the way
    return if $fd < 0;
    %stay = (
        fd => $fd, id => $id, path => $path, source => $source, packages => [sort keys %packages],
        since => time, own => {}, runs => 0,
    );
}

sub slurp {
    my ($file) = @_;
    my $text = '';
    sysseek($file, 0, 0);
    1 while sysread($file, $text, 1 << 16, length $text);
    sysseek($file, 0, 0);
    return $text;
}

# The main program: returns when this process is to end.
sub stay {
    begin_to_stay();
    while (1) {
        $stay{runs}++;
        my $code = compiled_script();
        $stay{inside} = 1;
        GATEWAY_REQUEST: { $code->() }
        $stay{inside} = 0;
        return if $$ != $self;    # a child that the script made
        tell_loaded();
        clean() or return;
        account();
        next_order() or return;
    }
}

sub begin_to_stay {
    ($control_fd, $rights) = ($stay{fd}, '');
    vec($rights, 63, 8) = 0;
    open($control, '+<&=', $control_fd) or return;
    no strict 'refs';
    for my $package ('main', @{ $stay{packages} }) {
        $stay{before}{$package} = { map { $_ => 1 } keys %{"${package}::"} };
    }
    $stay{umask}   = umask;
    $stay{warning} = $^W;
    $stay{search}  = [@INC];
    $stay{layers}  = [map { join ' ', PerlIO::get_layers($_) } *STDIN, *STDOUT, *STDERR];
    $stay{lasting} = lasting();
    $stay{locale}  = locale();
    pipe(my $reader, my $writer) or return;
    $stay{pipe}    = [map { syscall($calls->{fcntl}, fileno $_, 1030, 100) } $reader, $writer];
    close($_) for $reader, $writer;
    $stay{fds}     = [names_in('/proc/self/fd')];
    $stay{socket}  = (stat $control)[1];
    open_data();
    no warnings;
    *{'CORE::GLOBAL::exit'} = sub (;$) {
        my $status = @_ ? $_[0] : 0;
        if ($status == 0 && $$ == $self && $stay{inside}) {
            eval { last GATEWAY_REQUEST };    # not from a sub that perl itself called (sort, tie)
        }
        CORE::exit($status);
    };
}

# What no request may change.
sub lasting { return join ' ', $<, $>, $(, $), getpgrp, getpriority(0, 0) }

# By their names below, as what this file names is in the symbol table of every script.

sub locale {    # all of it; not known without POSIX.pm
    no strict 'refs';
    return $INC{'POSIX.pm'} ? &{'POSIX::setlocale'}(6) : undef;
}

# Return the script as a sub, compiled once or again.
sub compiled_script {
    return \&{ $stay{code} } if $stay{code};
    my $source = $stay{text} // cut_source();
    my ($old, $shared) = ($SIG{__WARN__}, 0);
    my $hear = sub {
        return $shared = 1 if $_[0] =~ /^Variable .* (?:will not stay shared|is not available) at /;
        return if $_[0] =~ /^(?:Constant s|S)ubroutine \S+ redefined at /;
        ref $old eq 'CODE' ? $old->(@_) : warn @_;
    };
    $SIG{__WARN__} = $hear;
    delete $zygote::{script};
    my $text = qq{package main; sub zygote::script {\n#line 1 "$stay{path}"\n$source\n;}\n1};
    if (!evaluate($text)) {   # perl itself shall say it, or knows better
        %SIG = ();
        exec { $^X } $^X, $stay{path} or CORE::exit(255);
    }
    my $kept = ref $SIG{__WARN__} && $SIG{__WARN__} == $hear;
    if ($kept && defined $old) { $SIG{__WARN__} = $old }
    elsif ($kept) { delete $SIG{__WARN__} }
    my $code = do { no strict 'refs'; \&{'zygote::script'} };
    if ($stay{runs} == 1) {
        my $once = $kept && !$shared && runs_again($source);
        if ($once) { $stay{code} = $code; $stay{values} = values_of(); $stay{search} = [@INC] }
        else {
            my $quiet = 'no warnings qw(closure redefine);';
            $stay{text} = $source =~ s/((?:^|;)[ \t]*use[ \t]+warnings\b[^;\n]*;)/$1 $quiet/mr;
        }
    }
    $! = 0;
    $@ = '';
    return $code;
}

# Return what is to be compiled: no __END__, which would take our brace, nor a last =pod.
sub cut_source {
    my $source = $stay{source};
    $source = substr($source, 0, $-[0]) if $source =~ /^__(?:END|DATA)__\r?$/m;
    my $at;
    while ($source =~ /^=(\w+)/mg) {
        if    ($1 eq 'cut')  { undef $at }
        elsif (!defined $at) { $at = $-[0] }
    }
    $source = substr($source, 0, $at) if defined $at;
    return $source;
}

# Whether a script, which gave no warning of it, can be run again as it was compiled.
sub runs_again {
    my ($source) = @_;
    my $warned = $source =~ /(?:^|;)[ \t]*use[ \t]+warnings\b/m ? $-[0] : $^W ? 0 : undef;
    my $sub = $source =~ /^[ \t]*sub[ \t]+\w/m ? $-[0] : undef;
    return 0 if defined $sub && (!defined $warned || $warned > $sub);
    return $source !~ /\bno\s+warnings\b|\b(?:BEGIN|INIT|CHECK|UNITCHECK)\s*\{|\bstate\s*[\$\@%(]/;
}

sub open_data {
    return unless $stay{source} =~ /^__(?:END|DATA)__\r?\n/m;
    my $at = $+[0];
    no warnings;
    no strict 'refs';
    open(*{'main::DATA'}, '<', $stay{path}) and seek(*{'main::DATA'}, $at, 0);
    $stay{before}{main}{DATA} = 0;
}

# Call a sub with each variable of the script's packages: its package, name and glob.
sub each_symbol {
    my ($call) = @_;
    no strict 'refs';
    for my $package (keys %{ $stay{before} }) {
        my $before = $stay{before}{$package};
        for my $name (keys %{"${package}::"}) {
            next if $before->{$name} || $name =~ /::\z|^_</;
            $call->($package, $name, \*{"${package}::$name"});
        }
    }
}

# Return the values of package variables when the script has just been compiled.
sub values_of {
    my %values;
    each_symbol(sub {
        my ($package, $name, $glob) = @_;
        my ($array, $hash) = (*{$glob}{ARRAY}, *{$glob}{HASH});
        my @values = (${ *{$glob} }, $array ? [@$array] : [], $hash ? {%$hash} : {});
        $values{"${package}::$name"} = \@values;
    });
    return \%values;
}

# Put another variable in the place of each one that the script used. Not of those that a module has
# exported: they are the module's as well.
sub reset_variables {
    my $values = $stay{values} || {};
    no warnings;
    each_symbol(sub {
        my ($package, $name, $glob) = @_;
        my $value = $values->{"${package}::$name"} || [undef, [], {}];
        my ($scalar, $array, $hash) = map { *{$glob}{$_} } qw(SCALAR ARRAY HASH);
        my $new = $value->[0];
        if (defined $$scalar || defined $new) {
            *{$glob} = \$new if !exported($package, $name, 'SCALAR', $scalar);
        }
        if ($array && !exported($package, $name, 'ARRAY', $array)) { *{$glob} = [@{ $value->[1] }] }
        if ($hash && !exported($package, $name, 'HASH', $hash)) { *{$glob} = { %{ $value->[2] } } }
        if (defined *{$glob}{IO}) { closedir(*{$glob}); close(*{$glob}) if defined fileno *{$glob} }
    });
}

# CGI.pm keeps the request in its own variables; its settings are not touched.
sub reset_cgi {
    no strict 'refs';
    undef ${"CGI::$_"} for qw(Q QUERY_CHARSET);
    ${"CGI::$_"} = 0 for qw(BEEN_THERE TABINDEX);
    @{"CGI::QUERY_PARAM"} = ();
    %{"CGI::$_"} = () for qw(QUERY_PARAM QUERY_FIELDNAMES QUERY_TMPFILES);
}

# Whether a variable is also one of another package, by the same name.
sub exported {
    my ($package, $name, $slot, $variable) = @_;
    if (!$stay{stashes} || $stay{modules} != keys %INC) {
        @stay{qw(stashes modules)} = ([stashes('', \%main::)], scalar keys %INC);
    }
    for my $stash (@{ $stay{stashes} }) {
        next unless exists $stash->[1]{$name} && $stash->[0] ne $package;
        my $other = \$stash->[1]{$name};
        return 1 if ref $other eq 'GLOB' && (*{$other}{$slot} // 0) == $variable;
    }
    return 0;
}

sub stashes {
    my ($above, $stash) = @_;
    my @found;
    for my $name (keys %$stash) {
        next unless $name =~ /^(.+)::\z/ && $name ne 'main::' && ref \$stash->{$name} eq 'GLOB';
        my $inner = *{ $stash->{$name} }{HASH} or next;
        push @found, ["$above$1", $inner], stashes("$above$1\::", $inner);
    }
    return @found;
}

# Take down what the request left. Return whether this process can stay.
sub clean {
    alarm(0);
    reset_variables();
    reset_cgi() if $INC{'CGI.pm'};
    my @threads = names_in('/proc/self/task');
    return 0 if has_children() || @threads > 1;
    select(STDOUT);
    for my $handle (*STDIN, *STDOUT, *STDERR) { no warnings; untie *$handle }
    reopen() or return 0;
    reset_signals();
    no warnings;
    umask $stay{umask};
    ($/, $\, $,, $", $;, $_, $@, $?) = ("\n", undef, undef, ' ', "\034", undef, '', 0);
    ($^W, $^A, @ARGV) = ($stay{warning}, '');
    my %there = map { $_ => 1 } @{ $stay{search} };
    @INC = (@{ $stay{search} }, grep { ref || !$there{$_}++ } @INC);
    $stay{search} = [@INC] if @INC < 100;
    return 0 if defined $stay{locale} && locale() ne $stay{locale};
    return $stay{lasting} eq lasting() && is_as_before() && note_own();
}

# Close the three streams, which tells that the answer is complete, and open them as they were: on
# a pipe, since perl notes of a handle whether it can tell its place.
sub reopen {
    no warnings;
    my @ends = @{ $stay{pipe} }[0, 1, 1];
    for my $fd (0 .. 2) {
        my $handle = (*STDIN, *STDOUT, *STDERR)[$fd];
        my $open = defined fileno $handle;
        close($handle) || $fd != 1 || !$open || return 0;    # what it held could not be written
        syscall($calls->{dup3}, $ends[$fd], $fd, 0) == $fd or return 0;
        open($handle, $fd ? '>&=' : '<&=', $fd) or return 0;
        binmode($handle, ':utf8') if $stay{layers}[$fd] =~ /utf8/;
    }
    select((select(STDERR), $| = 1)[0]);
    return 1;
}

# Handlers that a module has set (CGI::Carp) stay: it does so once.
sub reset_signals {
    for my $name (grep { defined $SIG{$_} } keys %SIG) {
        next if ref $SIG{$name} eq 'CODE' && is_of_a_module($SIG{$name});
        delete $SIG{$name};
    }
    syscall($calls->{sigprocmask}, SIG_SETMASK, $empty, 0, 8);
}

sub is_of_a_module {
    my ($code) = @_;
    require B;
    no strict 'refs';
    my $package = eval { &{'B::svref_2object'}($code)->STASH->NAME } // 'main';
    return !$stay{before}{$package} && $package ne 'zygote';
}

# Whether a process is there that the script has made, or could be.
sub has_children {
    return 1 if ($SIG{CHLD} // '') eq 'IGNORE';    # then the kernel tells us of none
    return 1 if waitpid(-1, WNOHANG) != -1;
    my $usage = usage(-1);
    my $faults = $usage->[8] + $usage->[9];
    return 0 if $faults == ($stay{faults} // 0);
    $stay{faults} = $faults;
    for my $pid (names_in('/proc')) {    # there were some: look whether they had any themselves
        no warnings;
        return 1 if $pid != $$ && (getpgrp($pid) // 0) == $$;
    }
    return 0;
}

sub usage {
    my ($who) = @_;
    my $usage = "\0" x 144;
    syscall($calls->{getrusage}, $who, $usage);
    return [unpack 'q10', $usage];
}

sub is_as_before {
    return 0 unless ((stat $control)[1] // 0) == $stay{socket};
    my %now = map { $_ => 1 } names_in('/proc/self/fd');
    return 0 if grep { !$now{$_} } @{ $stay{fds} };
    return 0 if keys %now > @{ $stay{fds} } + HELD_MAX;
    my $limits = "\0" x 16;
    syscall($calls->{prlimit64}, 0, 0, 0, $limits) == 0 or return 1;
    my $usage = usage(0);
    return 2 * ($usage->[0] + $usage->[2]) < unpack('Q', $limits);    # of processor time
}

# Remember the files of modules that are new. Return whether their changes will show.
sub note_own {
    for my $key (keys %INC) {
        my $path = $INC{$key};
        next if $preloaded{$key} || !defined $path || ref $path || of_the_system($path);
        my $changed = (stat $path)[10] // next;
        return 0 unless $stay{since} - $changed > 2;    # it could change without a new time
        $stay{own}{$path} = state_of($path);
    }
    note_loaded();
    return 1;
}

# Say that the script has come to its end, and what it took.
sub account {
    my ($mine, $theirs) = (usage(0), usage(-1));
    my @used = map { $mine->[$_] + $theirs->[$_] } 0 .. 3;    # seconds, microseconds, of two kinds
    my ($user, $system) = ($used[0] * 1e6 + $used[1], $used[2] * 1e6 + $used[3]);
    my $peak = $mine->[4] > $theirs->[4] ? $mine->[4] : $theirs->[4];
    give(pack('a L< Q< Q< Q<', 'D', $stay{id}, $user, $system, $peak));
}

# Take the next order and make everything fresh. Return whether there is one.
sub next_order {
    my ($length, @descriptors) = receive();
    return 0 unless $length;
    my ($id, $path_length, $cwd_length) = unpack('x L< S< S<', $inbox);
    my $cwd = substr($inbox, 9 + $path_length, $cwd_length);
    my $begin = 9 + $path_length + $cwd_length;
    my $block = substr($inbox, $begin, $length - $begin);
    my $why = stays_unfit(substr($inbox, 9, $path_length), $block);
    $why = 'it came without its three descriptors' if @descriptors != 3;
    $why ||= "$cwd: $!" unless chdir($cwd);
    if (!$why) { syscall($calls->{dup3}, $descriptors[$_], $_, 0) for 0 .. 2 }
    shut(@descriptors);
    give($why ? pack('a L< a*', 'F', $id, $why) : pack('a L< L<', 'S', $id, $$));
    return 0 if $why;
    ($stay{id}, $stay{since}, $^T) = ($id, time, time);
    set_environment($block);
    $0 = $stay{path} if $0 ne $stay{path};
    open_data();
    $! = 0;
    return 1;
}

sub stays_unfit {
    my ($path, $block) = @_;
    return 'it is for another script' if $path ne $stay{path};
    sysopen(my $script, $path, 0) or return "$!";
    return 'the script has changed' if slurp($script) ne $stay{source};
    for (keys %{ $stay{own} }) { return "$_ has changed" if state_of($_) ne $stay{own}{$_} }
    return unfit($path, $block);
}

# ---- The loop ------------------------------------------------------------------------------------

sub import {
    my (undef, $number) = @_;
    my ($own) = $INC{'zygote.pm'} =~ m{^(.*)/};
    @INC = grep { $_ ne $own } @INC;
    delete $INC{'zygote.pm'};
    prepare($number);
    serve();
}

sub prepare {
    my ($number) = @_;
    $calls = choose_calls();
    my ($fd) = ($number // '') =~ /^(\d+)\z/ or die "zygote: no number of a control socket\n";
    $control_fd = $fd + 0;
    my $main = readlink('/proc/self/fd/' . SCRIPT_FD) // 'not open';
    die "zygote: descriptor 3 is $main, and is to be the main program, /dev/null\n"
        unless $control_fd > SCRIPT_FD && $main eq '/dev/null';
    open($control, '+<&=', $control_fd) or die "zygote: control socket: $!\n";
    syscall($calls->{sigprocmask}, SIG_SETMASK, $ended, 0, 8);
    $signal_fd = syscall($calls->{signalfd4}, -1, $ended, 8, O_CLOEXEC | O_NONBLOCK);
    open($signals, '<&=', $signal_fd) or die "zygote: signalfd: $!\n";
    pipe($told, $telling) or die "zygote: pipe: $!\n";
    ($told_fd, $telling_fd) = (fileno $told, fileno $telling);
    vec($inbox, MESSAGE_MAX - 1, 8) = 0;
    vec($rights, 63, 8) = 0;
    $taint    = substr($^X . join('', values %ENV), 0, 0);
    $at_start = join("\0", sort map { "$_=$ENV{$_}" } grep { "$_=" =~ $AT_START } keys %ENV);
    find_main();
    sort_directories();
    note_loaded();
    chdir('/');
    give(pack('a L<', 'H', $$));
}

# Serve until the keeper goes or has us go; return in a child that is to become a script.
sub serve {
    my $wanted = '';
    vec($wanted, $_, 1) = 1 for $control_fd, $signal_fd, $told_fd;
    while (1) {
        my $ready = $wanted;
        next if select($ready, undef, undef, undef) < 0;
        reap() if vec($ready, $signal_fd, 1);
        forward() if vec($ready, $told_fd, 1);
        leave(0) if $leaving && !%children;
        next unless vec($ready, $control_fd, 1);
        my ($length, @descriptors) = receive();
        leave(0) unless $length;
        my $kind = substr($inbox, 0, 1);
        if    ($kind eq 'R') { return if order($length, @descriptors) }
        elsif ($kind eq 'P') { preload(split /\0/, substr($inbox, 1, $length - 1)) }
        elsif ($kind eq 'Q') { $leaving = 1; leave(0) unless %children }
    }
}

sub forward {
    sysread($told, my $text, 1 << 16) or return;
    my %names = map { $_ => 1 } grep { length && !$preloaded{$_} } split /\0/, $text;
    give('L' . join("\0", sort keys %names)) if %names;
}

1;
