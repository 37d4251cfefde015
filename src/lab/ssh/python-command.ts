import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Command, CommandCall } from './command.ts'
import { hostFile } from './host-files.ts'

/**
 * What runs a script in this machine's python3 as if it ran on the host. `os.open` asks the lab on descriptors 3 and 4, which gives the real file's
 * path or an errno; an audit hook (PEP 578, Python 3.8) then refuses every other file, process, socket and library call.
 */
const BOOT = `
import os, sys, hashlib
script = sys.argv[1]
busy = int(sys.argv[2])
reads = 0
real_pread = os.pread
def lab_pread(fd, length, offset):
    global reads
    if reads == busy:
        raise OSError(16, 'Device or resource busy')
    reads += 1
    return real_pread(fd, length, offset)
if busy >= 0:
    os.pread = lab_pread
asks = open(3, 'wb', 0)
tells = open(4, 'rb', 0)
granted = set()
real = os.open
def lab_open(path, flags, mode=0o777):
    path = os.fsencode(path)
    asks.write(('%d ' % (1 if flags & (os.O_WRONLY | os.O_RDWR) else 0)).encode() + path.hex().encode() + b'\\n')
    line = b''
    while not line.endswith(b'\\n'):
        more = tells.read(1)
        if not more:
            raise OSError(5, 'the host went away')
        line += more
    word, rest = line.strip().split(b' ', 1)
    if word == b'e':
        number, text = rest.split(b' ', 1)
        raise OSError(int(number), text.decode(), os.fsdecode(path))
    place = bytes.fromhex(rest.decode())
    granted.add(place)
    return real(place, flags & ~(os.O_CREAT | os.O_TRUNC), mode)
os.open = lab_open
own = tuple(os.fsencode(p) for p in (sys.prefix, sys.base_prefix, os.path.dirname(os.__file__)))
def hook(event, args):
    if event == 'open':
        path, flags = args[0], args[2]
        if isinstance(path, int):
            return
        path = os.fsencode(path)
        if path in granted or (not flags & (os.O_WRONLY | os.O_RDWR) and path.startswith(own)):
            return
        raise PermissionError(13, 'not on this host', path)
    if event.split('.')[0] in ('subprocess', 'socket', 'ctypes', 'shutil', 'pty', 'ftplib', 'urllib', 'tempfile', 'mmap', 'fcntl', 'glob', 'pathlib'):
        raise PermissionError(1, event)
    if event.startswith('os.') and event not in ('os.fwalk',):
        raise PermissionError(1, event)
sys.addaudithook(hook)
sys.argv = ['-c']
exec(compile(script, '<string>', 'exec'), {'__name__': '__main__'})
`

/** This machine's python3, the system's own before a wrapper on the PATH; undefined when there is none. */
export function python3(): string | undefined {
  return ['/usr/bin', '/usr/local/bin', ...(process.env['PATH'] ?? '').split(delimiter)]
    .filter((directory) => directory !== '')
    .map((directory) => join(directory, 'python3'))
    .find((path) => existsSync(path))
}

/** `python3 [-I] [-S] -c SCRIPT`: the client's own script, run for real, with the host's files and nothing else. */
export const pythonCommand: Command = async (call) => {
  const flag = call.words.indexOf('-c')
  const script = call.words[flag + 1]
  const program = python3()
  if (program === undefined) {
    call.error('sh: python3: not found\n')
    return 127
  }
  if (flag < 1 || script === undefined || call.words.slice(1, flag).some((word) => word !== '-I' && word !== '-S')) {
    call.error('python3: only -I, -S and -c SCRIPT are simulated\n')
    return 2
  }
  const child = spawn(program, ['-I', '-S', '-c', BOOT, script, String(call.rules.find((rule) => rule.ssh === 'busy')?.value ?? -1)], {
    stdio: ['pipe', 'pipe', 'pipe', 'pipe', 'pipe'],
  })
  const [stdin, stdout, stderr, asks, tells] = child.stdio
  const kill = (): void => void child.kill('SIGKILL')
  call.gone.addEventListener('abort', kill, { once: true })
  using held = new DisposableStack()
  // A pipe whose other end is gone is the child's end, which is awaited below.
  for (const pipe of [stdin, asks, tells]) pipe?.on('error', () => undefined)
  call.channel.stdin.pipe(stdin)
  stderr.on('data', (piece: Buffer) => call.error(piece.toString()))
  const ended = new Promise<number>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code) => resolve(code ?? 137))
  })
  if (asks !== null && asks !== undefined && 'read' in asks && tells !== null && tells !== undefined && 'write' in tells) {
    createInterface({ input: asks }).on('line', (line) => {
      grant(call, held, line).then(
        (answer) => void tells.write(`${answer}\n`),
        (error: unknown) => call.model.log.error('a host file could not be given out', { error: String(error) }),
      )
    })
  }
  for await (const piece of stdout) {
    if (!(await call.out(piece as Buffer))) {
      kill()
      break
    }
  }
  const status = await ended
  call.gone.removeEventListener('abort', kill)
  return status
}

async function grant(call: CommandCall, held: DisposableStack, line: string): Promise<string> {
  const [mode, hex = ''] = line.split(' ')
  const access = mode === '1' ? 'write' : 'read'
  const file = await hostFile(call.model, call.host, Buffer.from(hex, 'hex').toString('utf8'), access)
  if (!file.ok) return `e ${file.errno} ${file.text}`
  if (!held.disposed) {
    held.use(
      access === 'read'
        ? call.model.holds.download(file.datastorePath)
        : call.model.holds.take([file.datastorePath], 'the shell of a host', 'exclusive'),
    )
  }
  return `k ${Buffer.from(file.local).toString('hex')}`
}
