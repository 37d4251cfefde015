/**
 * What python3 on the host is given to read and write files with: requests on standard input, answers on standard output, in the order of the requests
 * (docs/formats/ssh-host-files.md). Python 3.4 and newer, standard library only; nothing is installed or left on the host.
 */
export const HOST_PROGRAM = `
import os, sys, hashlib
i = sys.stdin.buffer
o = sys.stdout.buffer
Z = bytes(65536)
C = 1048576
files = {}
def say(text):
    o.write(text.encode('ascii') + b'\\n')
def part(fd, at, n):
    got = os.pread(fd, n, at)
    while len(got) < n:
        more = os.pread(fd, n - len(got), at + len(got))
        if not more:
            raise EOFError('the file ends at byte %d' % (at + len(got)))
        got += more
    return got
def zero(b, a, n):
    return b[a] == 0 and b[a:a + n] == (Z if n == 65536 else Z[:n])
def read(fd, at, left):
    while left > 0:
        n = min(C - at % C, left)
        b = part(fd, at, n)
        a = 0
        while a < n:
            e = a
            step = min(65536 - (at + e) % 65536, n - e)
            nil = zero(b, e, step)
            while e < n:
                step = min(65536 - (at + e) % 65536, n - e)
                if zero(b, e, step) != nil:
                    break
                e += step
            if nil:
                say('z %d' % (e - a))
            else:
                say('d %d' % (e - a))
                o.write(b if e - a == n else b[a:e])
            a = e
        at += n
        left -= n
def digest(n):
    h = hashlib.sha256()
    done = 0
    for k in range(1, len(n), 3):
        at, left = n[k + 1], n[k + 2]
        while left > 0:
            if n[k] < 0:
                b = Z[:min(65536, left)]
            else:
                b = part(files[n[k]], at, min(C, left))
            h.update(b)
            at += len(b)
            left -= len(b)
            done += len(b)
    say('s %d %d' % (n[0], done))
    o.write(h.digest())
def holes(fd, at, end):
    runs = 0
    while at < end:
        if runs == 1000:
            return say('c %d' % at)
        try:
            data = min(os.lseek(fd, at, os.SEEK_DATA), end)
        except OSError as x:
            if x.errno != 6:
                raise
            data = end
        if data > at:
            say('z %d' % (data - at))
        if data < end:
            hole = min(os.lseek(fd, data, os.SEEK_HOLE), end)
            say('d %d' % (hole - data))
            at = hole
        else:
            at = end
        runs += 1
    say('k')
def one(line):
    w = line.split()
    c = w[0]
    n = [int(x) for x in w[1:] if c not in (b'o', b'p')]
    if c == b'r':
        read(files[n[0]], n[1], n[2])
    elif c == b's':
        digest(n)
    elif c == b'm':
        holes(files[n[0]], n[1], n[1] + n[2])
    elif c == b'w':
        left, at, bad = n[2], n[1], None
        while left > 0:
            b = i.read(min(C, left))
            if not b:
                raise EOFError('the request is not complete')
            left -= len(b)
            try:
                done = 0
                while bad is None and done < len(b):
                    done += os.pwrite(files[n[0]], b[done:], at + done)
            except OSError as x:
                bad = x
            at += len(b)
        if bad is not None:
            raise bad
        say('k')
    elif c == b'f':
        os.fsync(files[n[0]])
        say('k')
    elif c in (b'o', b'p'):
        path = bytes.fromhex(w[2].decode('ascii'))
        fd = os.open(path, os.O_RDONLY if c == b'o' else os.O_RDWR)
        files[int(w[1])] = fd
        say('k %d' % os.fstat(fd).st_size)
    else:
        raise ValueError('no such request')
say('vcb-files 1')
o.flush()
while True:
    line = i.readline()
    if not line:
        break
    try:
        one(line)
    except (OSError, EOFError, ValueError, KeyError) as x:
        say('e %d %s' % (getattr(x, 'errno', None) or 0, str(x).encode('ascii', 'replace').decode('ascii').replace('\\n', ' ')[:300]))
    o.flush()
`
