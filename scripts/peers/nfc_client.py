#!/usr/bin/python3
"""Read disks over the NFC disk protocol (TCP 902) by tickets of a vCenter or host: a judge of the lab's server and of docs/formats/nfc.md.

  /usr/bin/python3 -W ignore nfc_client.py HOST PORT USER PASSWORD < cases.json

Written from docs/formats/nfc.md alone, in another language than the project's, on Debian's python3-pyvmomi and the standard library. One JSON case in,
one JSON result out, in order. Changes nothing but the disk of a case that has `write`.

A case: `vm`, `path`, `key` (device key), `method` (what the ticket is asked by), `ssl` (second TLS session), `style` (`early` = frame 51 before 36 is
waited for, names in one write, long close records, no last frame; `late` = the other way round), `buffer`, `count`, `compression`, `piece` (bytes of a
read request), `old` (leave frame 43 out), `do` (`read` | `refused` | `dialogue` | `write` | `unknown` | `map`).
"""
import hashlib, json, re, socket, ssl, struct, sys, zlib
from pyVim.connect import Disconnect, SmartConnect
from pyVmomi import vim
from pyVmomi.VmomiSupport import CreateManagedType, F_OPTIONAL, GetVmodlType

MAGIC = 0xA100DA7A


# ---- tickets -------------------------------------------------------------------------------------------------------------------------

def declare_nfc_service():
    """NfcService is in no published table, so pyVmomi learns it here."""
    one = 'vim.version.version1'
    of_vm = (('vm', 'vim.VirtualMachine', one, 0, None),)
    of_disk = of_vm + (('diskDeviceKey', 'int', one, 0, None), ('hostForAccess', 'vim.HostSystem', one, F_OPTIONAL, None))
    ticket = (0, 'vim.HostServiceTicket', 'vim.HostServiceTicket')
    CreateManagedType('vim.NfcService', 'NfcService', 'vmodl.ManagedObject', one, [], [
        ('getVmFiles', 'NfcGetVmFiles', one, of_vm, ticket, None, None),
        ('randomAccessOpenReadonly', 'NfcRandomAccessOpenReadonly', one, of_disk, ticket, None, None),
        ('randomAccessOpen', 'NfcRandomAccessOpenDisk', one, of_disk, ticket, None, None),
        ('randomAccessFileOpen', 'NfcRandomAccessFileOpen', one, of_disk, ticket, None, None),
        ('fileManagement', 'NfcFileManagement', one, (('ds', 'vim.Datastore', one, 0, None),), ticket, None, None),
        ('getServerNfcLibVersion', 'NfcGetServerNfcLibVersion', one, (('hostForAccess', 'vim.HostSystem', one, 0, None),), (0, 'int', 'int'), None, None),
    ])


class Management:
    def __init__(self, host, port, user, password):
        self.host = host
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self.instance = SmartConnect(host=host, port=int(port), user=user, pwd=password, sslContext=context)
        self.nfc = GetVmodlType('vim.NfcService')(self._nfc_service(), self.instance._stub)
        content = self.instance.content
        view = content.viewManager.CreateContainerView(content.rootFolder, [vim.VirtualMachine, vim.Datastore], True)
        self.things = {thing.name: thing for thing in view.view}
        view.Destroy()

    def _nfc_service(self):
        """By RetrieveInternalContent, whose other fields nobody needs."""
        stub = self.instance._stub
        body = ('<?xml version="1.0"?><soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"><soapenv:Body>'
                '<RetrieveInternalContent xmlns="urn:vim25"><_this type="ServiceInstance">ServiceInstance</_this></RetrieveInternalContent>'
                '</soapenv:Body></soapenv:Envelope>')
        connection = stub.GetConnection()
        connection.request('POST', stub.path, body, {'Cookie': stub.cookie, 'SOAPAction': '"urn:vim25"', 'Content-Type': 'text/xml; charset=utf-8'})
        answer = connection.getresponse().read().decode()
        stub.ReturnConnection(connection)
        return re.search(r'<nfcService type="NfcService">([^<]+)<', answer).group(1)

    def ticket(self, case):
        vm = self.things[case['vm']]
        method = case['method']
        if method == 'NfcGetVmFiles':
            return self.nfc.GetVmFiles(vm)
        if method == 'NfcFileManagement':
            return self.nfc.FileManagement(self.things[re.match(r'\[(.*?)\]', case['path']).group(1)])
        host = vm.runtime.host if case.get('hostForAccess', True) else None
        call = {'NfcRandomAccessOpenReadonly': self.nfc.RandomAccessOpenReadonly, 'NfcRandomAccessOpenDisk': self.nfc.RandomAccessOpen,
                'NfcRandomAccessFileOpen': self.nfc.RandomAccessFileOpen}[method]
        return call(vm, case['key'], host)


# ---- bytes ---------------------------------------------------------------------------------------------------------------------------

class Clear:
    def __init__(self, sock):
        self.sock, self.waiting = sock, b''

    def send(self, data):
        self.sock.sendall(data)

    def more(self):
        data = self.sock.recv(1 << 20)
        if not data:
            raise EOFError('the host closed the connection')
        return data

    def take(self, size):
        pieces, got = [self.waiting], len(self.waiting)
        while got < size:
            pieces.append(self.more())
            got += len(pieces[-1])
        data = b''.join(pieces)
        self.waiting = data[size:]
        return data[:size]

    def line(self):
        text = b''
        while not text.endswith(b'\n'):
            text += self.take(1)
            if len(text) > 4096:
                raise ValueError('a line without end')
        return text.decode('latin1').rstrip('\r\n')


class Tls(Clear):
    """A TLS session over a socket, made so that it can be forgotten without a word: the socket never belongs to it."""
    def __init__(self, sock):
        super().__init__(sock)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self.inward, self.outward = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.session = context.wrap_bio(self.inward, self.outward)
        while True:
            try:
                self.session.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._flush()
                self._fill()
        self._flush()
        self.certificate = self.session.getpeercert(binary_form=True)

    def _flush(self):
        data = self.outward.read()
        if data:
            self.sock.sendall(data)

    def _fill(self):
        data = self.sock.recv(1 << 16)
        if data:
            self.inward.write(data)
        else:
            self.inward.write_eof()

    def send(self, data):
        self.session.write(data)
        self._flush()

    def more(self):
        while True:
            try:
                data = self.session.read(1 << 20)
                if not data:
                    raise EOFError('close_notify')
                return data
            except ssl.SSLWantReadError:
                self._fill()


def pairs(digest):
    return ':'.join('%02X' % byte for byte in digest)


# ---- authd and the classic frames ----------------------------------------------------------------------------------------------------

def greet(host, ticket):
    sock = socket.create_connection((host, ticket.port or 902), timeout=60)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    clear = Clear(sock)
    greeting = clear.line()
    assert greeting.startswith('220 '), greeting
    items = {item.split('/')[0].strip() for item in greeting.split(': ', 1)[1].split(',')}
    assert 'SSL Required' in items, greeting
    tls = Tls(sock)
    assert pairs(hashlib.sha1(tls.certificate).digest()) == ticket.sslThumbprint.upper(), 'another certificate'
    return sock, items, tls


def log_in(host, ticket, with_ssl, word):
    sock, items, tls = greet(host, ticket)
    tls.send(b'SESSION ' + ticket.sessionId.encode() + b'\r\n')
    tls.send(b'BANNER \r\n')
    assert tls.line().startswith('220 ')
    sha256 = 'SHA256 supported' in items
    if sha256:
        tls.send(b'THUMBPRINT_SHA2 ' + word + b'\r\n')
        answer = tls.line()
        assert answer == '200 ' + pairs(hashlib.sha256(tls.certificate).digest()), answer
    tls.send(b'PROXY ' + (ticket.service + ('ssl' if with_ssl else '')).encode() + b'\r\n')
    answer = tls.line()
    if not answer.startswith('200 Connect '):
        raise PermissionError(answer)
    assert tls.waiting == b'' and tls.inward.pending == 0, 'bytes behind the answer'
    if with_ssl:
        second = Tls(sock)
        assert second.certificate == tls.certificate
        return second, answer, sha256
    return Clear(sock), answer, sha256


def frame(kind, *words):
    return struct.pack('<I', kind) + b''.join(struct.pack('<I', word) for word in words) + bytes(260 - 4 * len(words))


def expect(stream, kind):
    got = stream.take(264)
    assert struct.unpack_from('<I', got)[0] == kind, got[:32].hex()
    return got


def shake_hands(stream, style, word):
    if word is not None:
        stream.send(struct.pack('<I', 43) + word + bytes(260 - len(word)))
    stream.send(frame(33))
    if style == 'early':
        stream.send(frame(51, 12, 1))
        first = expect(stream, 36)
    else:
        first = expect(stream, 36)
        stream.send(frame(51, 11, 0))
    assert first == struct.pack('<5I', 36, 0, 0, 0, 1) + bytes(244), first[:32].hex()
    version = struct.unpack_from('<I', expect(stream, 51), 4)[0]
    if style == 'early':
        stream.send(frame(54, 8, 7) + b'nfc_peer' + b'nbdmode')
    else:
        stream.send(frame(54, 8, 7))
        stream.send(b'nfc_peer')
        stream.send(b'nbdmode')
    stream.send(frame(55, 3))
    stream.send(frame(52))
    assert expect(stream, 52) == frame(52)
    return version


# ---- AIO records ---------------------------------------------------------------------------------------------------------------------

class Refused(Exception):
    def __init__(self, code, text):
        super().__init__(text)
        self.code, self.text = code, text


def fastlz(block):
    out, at, level = bytearray(), 1, (block[0] >> 5) + 1
    control = block[0] & 31
    while True:
        if control < 32:
            out += block[at:at + control + 1]
            at += control + 1
        else:
            length, offset = (control >> 5) + 2, (control & 31) << 8
            if length == 9:
                while True:
                    length += block[at]
                    at += 1
                    if level == 1 or block[at - 1] != 255:
                        break
            offset += block[at]
            at += 1
            if level == 2 and offset == 0x1FFF:
                offset += struct.unpack_from('>H', block, at)[0]
                at += 2
            start = len(out) - offset - 1
            assert start >= 0
            piece = bytes(out[start:start + length])
            while len(piece) < length:
                piece += piece[:length - len(piece)]
            out += piece
        if at >= len(block):
            return bytes(out)
        control = block[at]
        at += 1


def skipz(tail, size):
    assert struct.unpack_from('<II', tail) == (size, 0)
    out, at, last = bytearray(size), 8, 0
    while at < len(tail):
        start, length = struct.unpack_from('<II', tail, at)
        assert start >= last and start + length <= size
        out[start:start + length] = tail[at + 8:at + 8 + length]
        at += 8 + length
        last = start + length
    assert at == len(tail)
    return bytes(out)


def decode(code, tail, size):
    data = {0: lambda: tail, 1: lambda: zlib.decompress(tail), 2: lambda: fastlz(tail), 3: lambda: skipz(tail, size)}[code]()
    assert len(data) == size, (code, len(data), size)
    return data


class Session:
    def __init__(self, stream, buffer, count):
        self.stream, self.op, self.codes, self.largest = stream, 0, set(), 0
        assert self.ask(2, struct.pack('<4I', 0, buffer, count, 0)) == bytes(16)
        self.buffer = buffer or 65536
        assert len(self.ask(9, bytes(12))) == 12
        assert len(self.ask(22, struct.pack('<I', 1))) == 4

    def send(self, kind, payload, tail=b'', op=None):
        if op is None:
            op = self.op
            self.op += 1
        self.stream.send(struct.pack('<4I', MAGIC, kind, len(payload), op) + payload + tail)
        return op

    def header(self):
        magic, kind, length, op = struct.unpack('<4I', self.stream.take(16))
        assert magic == MAGIC, hex(magic)
        return kind, length, op

    def reply(self, kind, length, op):
        """The one reply; an ERROR record before it is raised once the reply is read too."""
        got, size, answered = self.header()
        refusal = None
        if got == 1:
            code, zero, text = struct.unpack('<QII', self.stream.take(size))
            assert answered == op and size == 16 and zero == 0
            refusal = Refused(code, self.stream.take(text).decode('latin1'))
            got, size, answered = self.header()
        assert (got, size, answered) == (kind, length, op), (got, size, answered)
        payload = self.stream.take(length)
        if refusal:
            assert payload == bytes(length), 'the reply of a refused request is zeros'
            raise refusal
        return payload

    def ask(self, kind, payload, tail=b''):
        return self.reply(kind, len(payload), self.send(kind, payload, tail))

    def open(self, path, flags):
        name = path.encode()
        payload = self.ask(4, struct.pack('<I12xII36x', len(name), 2, flags), name)
        status, self.handle, kind, echoed = struct.unpack_from('<QQII', payload)
        self.capacity, sector, cylinders, heads, sectors = struct.unpack_from('<QIIII', payload, 28)
        assert (status, kind, echoed, sector) == (0, 2, flags, 512)
        return {'capacity': self.capacity, 'geometry': [cylinders, heads, sectors]}

    def read(self, offset, length, code):
        op = self.send(7, struct.pack('<QIIQQIII', self.handle, 1, code, offset, length, length, length, 0))
        out, covered = bytearray(length), 0
        while covered < length:
            kind, size, answered = self.header()
            assert (kind, size, answered) == (7, 44, op), (kind, size, answered)
            status, what, coded, base, total, position, chunk, wire, _ = struct.unpack('<QIIQIIIII', self.stream.take(44))
            assert (status, what, base, total) == (0, 1, offset, length) and position + chunk <= length and chunk <= self.buffer and wire <= chunk
            out[position:position + chunk] = decode(coded, self.stream.take(wire), chunk)
            covered += chunk
            self.codes.add(coded)
            self.largest = max(self.largest, chunk)
        return bytes(out)

    def write(self, offset, data, code=0):
        op = self.op
        self.op += 1
        for at in range(0, len(data), self.buffer):
            part = data[at:at + self.buffer]
            coded = {0: lambda: part, 1: lambda: zlib.compress(part, 1), 3: lambda: struct.pack('<4I', len(part), 0, 0, len(part)) + part}[code]()
            self.send(7, struct.pack('<QIIQIIIII', self.handle, 0, code, offset, len(data), at, len(part), len(coded), 0), coded, op)
        status, _, base, total = struct.unpack_from('<QQQI', self.reply(7, 44, op))
        assert (status, base, total) == (0, offset, len(data))

    def allocated(self, start, chunk, count):
        payload = self.ask(13, struct.pack('<6Q', self.handle, 0, chunk, start, count, 0))
        assert struct.unpack_from('<Q', payload, 32)[0] == count
        size = -(-(-(-count // 8)) // 4) * 4
        bits = self.stream.take(size)
        return [(bits[i >> 3] >> (i & 7)) & 1 for i in range(count)]

    def key(self, name):
        payload = self.ask(11, struct.pack('<QII', self.handle, len(name), 0), name.encode())
        return self.stream.take(struct.unpack_from('<I', payload, 12)[0]).decode()

    def close(self, style, opened=True):
        long = style == 'early'
        if opened:
            self.ask(5, struct.pack('<Q', self.handle) + bytes(8 if long else 0))
        self.ask(3, bytes(16 if long else 4))
        if not long:
            self.stream.send(frame(4))
        try:
            self.stream.more()
            return 'bytes'
        except EOFError as error:
            return str(error)


# ---- cases ---------------------------------------------------------------------------------------------------------------------------

KEYS = ['adapterType', 'uuid', 'iofilters', 'geometry.cylinders', 'geometry.heads', 'geometry.sectors', 'geometry.biosCylinders', 'sidecars']


def session(management, case, ticket):
    word = b'PlainText' if case['style'] == 'late' else b'k3Vh9QzT0bNwXa7/'
    stream, answer, sha256 = log_in(ticket.host or management.host, ticket, case['ssl'], word)
    version = shake_hands(stream, case['style'], word if sha256 and not case.get('old') else None)
    return Session(stream, case.get('buffer', 0), case.get('count', 0)), {'service': ticket.service, 'answer': answer, 'version': version}


def read(management, case):
    aio, result = session(management, case, management.ticket(case))
    result.update(aio.open(case['path'], case.get('flags', 0x1E)))
    result['keys'] = {key: aio.key(key) for key in KEYS}
    chunks = aio.capacity // 65536
    bits = [bit for at in range(0, chunks, 100) for bit in aio.allocated(at * 65536, 65536, min(100, chunks - at))]
    digest, piece, hidden = hashlib.sha256(), case.get('piece', 1 << 20), 0
    image = b''.join(aio.read(at, min(piece, aio.capacity - at), case['compression']) for at in range(0, aio.capacity, piece))
    digest.update(image)
    for at, bit in enumerate(bits):
        if not bit and image[at * 65536:(at + 1) * 65536].strip(b'\0'):
            hidden += 1
    result.update(sha256=digest.hexdigest(), codes=sorted(aio.codes), largest=aio.largest, allocated=sum(bits), chunks=chunks, hidden=hidden)
    result['end'] = aio.close(case['style'])
    return result


def refused(management, case):
    aio, _ = session(management, case, management.ticket(case))
    results = []
    for path, flags in case['tries']:
        try:
            aio.open(path, flags)
            results.append('opened')
        except Refused as error:
            results.append([error.code, error.text])
    return {'tries': results, 'end': aio.close(case['style'], False)}


def unknown(management, case):
    """Requests nobody should make: each gets an ERROR record and its own zeros, and the session goes on."""
    aio, _ = session(management, case, management.ticket(case))
    aio.open(case['path'], 0x1E)
    results = {}
    for name, kind, payload in [
        ('file info', 10, struct.pack('<QQ', aio.handle, 0)),
        ('unaligned map', 13, struct.pack('<6Q', aio.handle, 0, 65536, 512, 1, 0)),
        ('map past the end', 13, struct.pack('<6Q', aio.handle, 0, 65536, 0, 1 << 19, 0)),
        ('other handle', 13, struct.pack('<6Q', aio.handle ^ 1, 0, 65536, 0, 1, 0)),
        ('second session', 2, struct.pack('<4I', 0, 65536, 1, 0)),
    ]:
        try:
            aio.ask(kind, payload)
            results[name] = 'answered'
        except Refused as error:
            results[name] = error.code
    results['read'] = hashlib.sha256(aio.read(0, 65536, 0)).hexdigest()
    results['end'] = aio.close(case['style'])
    return results


def write(management, case):
    aio, _ = session(management, case, management.ticket(case))
    aio.open(case['path'], 0x1A)
    for offset, length in case['areas']:
        aio.write(offset, bytes((offset + at) % 251 for at in range(length)), case['compression'])
    aio.close(case['style'])
    again, _ = session(management, case, management.ticket(case))
    again.open(case['path'], 0x1E)
    back = all(again.read(offset, length, 0) == bytes((offset + at) % 251 for at in range(length)) for offset, length in case['areas'])
    again.close(case['style'])
    return {'back': back}


def dialogue(management, case):
    """Lines that are refused in TLS session no. 1, and a ticket that is used twice."""
    ticket = management.ticket(case)
    sock, _, tls = greet(ticket.host or management.host, ticket)
    answers = {}
    for line in ['SESSIONID x', 'CONNECT_VPXA x', 'USER root', 'PASS x', 'THUMBPRINT_SHA2 AA:BB', 'PROXY nfc', 'BANNER']:
        tls.send(line.encode() + b'\r\n')
        answers[line] = tls.line()
    sock.close()
    aio, _ = session(management, case, ticket)
    aio.close(case['style'], False)
    try:
        session(management, case, ticket)
    except PermissionError as error:
        answers['again'] = str(error)
    answers['library'] = management.nfc.GetServerNfcLibVersion(management.things[case['vm']].runtime.host)
    return answers


def main():
    declare_nfc_service()
    management = Management(*sys.argv[1:5])
    try:
        for case in json.load(sys.stdin):
            print(json.dumps(globals()[case['do']](management, case)), flush=True)
    finally:
        Disconnect(management.instance)


if __name__ == '__main__':
    main()
