/** What changes files, or may: `strace -e trace=`. Of `mmap` and `openat` only some are changes; io_uring would hide the others. */
export const TRACED = [
  'open,openat,openat2,creat,mkdir,mkdirat,mknod,mknodat,rmdir,unlink,unlinkat,rename,renameat,renameat2,link,linkat,symlink,symlinkat',
  'truncate,ftruncate,fallocate,chmod,fchmod,fchmodat,chown,fchown,lchown,fchownat,utimensat,futimesat,utime,utimes',
  'setxattr,fsetxattr,lsetxattr,removexattr,fremovexattr,lremovexattr',
  'write,pwrite64,writev,pwritev,pwritev2,sendfile,splice,copy_file_range,mmap,io_uring_setup,mount,umount2',
].join(',')

/** One call as `strace -f -y` shows it. Lines of the trace are its clock: it ran between `start` and `end`. */
export type SystemCall = {
  readonly start: number
  readonly end: number
  readonly name: string
  /** The raw arguments. */
  readonly args: string
  /** What it gave back; negative = failed. */
  readonly result: number
}

const COMPLETE = /^(\d+) +(\w+)\((.*)\) += (-?\d+|0x[0-9a-f]+|\?)/su
const UNFINISHED = /^(\d+) +(\w+)\((.*?) *<unfinished \.\.\.>$/su
const RESUMED = /^(\d+) +<\.\.\. (\w+) resumed>(.*)\) += (-?\d+|0x[0-9a-f]+|\?)/su

/** Every call of a trace. A line that is none (a signal, an exit) is left out; a call that never came back ends with the trace. */
export function parseTrace(text: string): readonly SystemCall[] {
  const calls: SystemCall[] = []
  const open = new Map<string, { readonly start: number; readonly name: string; readonly args: string }>()
  const lines = text.split('\n')
  for (const [at, line] of lines.entries()) {
    const whole = COMPLETE.exec(line)
    if (whole !== null) {
      const [, , name = '', args = '', result = ''] = whole
      calls.push({ start: at, end: at, name, args, result: Number(result) })
      continue
    }
    const begun = UNFINISHED.exec(line)
    if (begun !== null) {
      const [, thread = '', name = '', args = ''] = begun
      open.set(`${thread} ${name}`, { start: at, name, args })
      continue
    }
    const resumed = RESUMED.exec(line)
    if (resumed === null) continue
    const [, thread = '', name = '', rest = '', result = ''] = resumed
    const first = open.get(`${thread} ${name}`)
    open.delete(`${thread} ${name}`)
    if (first !== undefined) calls.push({ ...first, end: at, args: first.args + rest, result: Number(result) })
  }
  for (const first of open.values()) calls.push({ ...first, end: lines.length, result: Number.NaN })
  return calls
}

const OPENS_TO_CHANGE = /\bO_(?:CREAT|TRUNC|TMPFILE)\b/u
const BY_DESCRIPTOR =
  /^(?:write|pwrite64|writev|pwritev|pwritev2|ftruncate|fallocate|fchmod|fchown|fsetxattr|fremovexattr|sendfile|splice|copy_file_range)$/u

/** The file a call changes; undefined when it changes none: failed, only reads, or is about a pipe, a socket, a device or memory. */
export function changedFile(call: SystemCall): string | undefined {
  const { name, args, result } = call
  if (result < 0) return undefined
  if (name === 'mmap') {
    return args.includes('PROT_WRITE') && args.includes('MAP_SHARED') ? realFile(descriptorPaths(args)[0]) : undefined
  }
  // libuv's ring for epoll_ctl alone is no way to a file; its ring for files has this flag, and would hide every change.
  if (name === 'io_uring_setup') return args.includes('IORING_SETUP_SQPOLL') ? '(io_uring)' : undefined
  if (name.startsWith('open') && !OPENS_TO_CHANGE.test(args)) return undefined
  if (BY_DESCRIPTOR.test(name)) {
    const paths = descriptorPaths(args)
    return realFile(name === 'splice' || name === 'copy_file_range' ? paths[1] : paths[0])
  }
  return realFile(namedPaths(args).at(-1))
}

/** Paths of descriptors as -y adds them: `17</srv/repo/config>`, also of files without a name any more. */
const descriptorPaths = (args: string): readonly string[] => [...args.matchAll(/\b\d+<([^>]*)>/gu)].map((match) => unescape(match[1] ?? ''))

/** Paths given as text; those relative to a directory's descriptor are joined to it. */
function namedPaths(args: string): readonly string[] {
  const found = [...args.matchAll(/(?:(?:AT_FDCWD|\d+)<([^>]*)>, )?"((?:[^"\\]|\\.)*)"/gu)]
  return found.map(([, base = '', path = '']) => (path.startsWith('/') ? unescape(path) : `${unescape(base)}/${unescape(path)}`))
}

function realFile(path: string | undefined): string | undefined {
  if (path === undefined || !path.startsWith('/')) return undefined
  return /^\/(?:dev\/(?!shm\/)|proc\/|sys\/)/u.test(path) || path.startsWith('/memfd:') ? undefined : path.replace(/ ?\(deleted\)$/u, '')
}

/** The first text a call wrote. */
export function writtenText(call: SystemCall): string {
  return unescape(/"((?:[^"\\]|\\.)*)"/u.exec(call.args)?.[1] ?? '')
}

/** C escapes as strace writes them; octal bytes are put together as UTF-8. */
function unescape(text: string): string {
  if (!text.includes('\\')) return text
  const named: Readonly<Record<string, string>> = { n: '\n', t: '\t', r: '\r', v: '\v', f: '\f', '"': '"', '\\': '\\' }
  const bytes = text.replaceAll(/\\(?:([0-7]{1,3})|x([0-9a-f]{2})|(.))/gu, (_all, octal?: string, hex?: string, letter?: string) => {
    if (octal !== undefined) return String.fromCharCode(Number.parseInt(octal, 8))
    return hex === undefined ? (named[letter ?? ''] ?? letter ?? '') : String.fromCharCode(Number.parseInt(hex, 16))
  })
  return Buffer.from(bytes, 'latin1').toString('utf8')
}
