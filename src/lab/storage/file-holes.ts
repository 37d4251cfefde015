import type { Range } from '../../core/index.ts'

type Seek = (fd: number, offset: bigint, whence: number) => bigint
const [SEEK_DATA, SEEK_HOLE] = process.platform === 'darwin' ? [4, 3] : [3, 4]

/**
 * Areas of a file that hold data, in order, as the file system knows them (lseek through node:ffi, which Node's fs lacks). Where it
 * cannot tell, the whole range is one area: slower, never wrong.
 */
export function* dataAreas(fd: number, range: Range): Generator<Range> {
  const end = range.offset + range.length
  const seek = lseek()
  if (seek === undefined || seek(fd, 0n, SEEK_HOLE) < 0n) {
    if (range.length > 0) yield range
    return
  }
  let position = range.offset
  while (position < end) {
    const data = seek(fd, BigInt(position), SEEK_DATA)
    // A negative answer means "no more data" only when the position itself is in a hole.
    if (data < 0n && Number(seek(fd, BigInt(position), SEEK_HOLE)) === position) return
    const start = data < 0n ? position : Number(data)
    if (start >= end) return
    const hole = data < 0n ? end : Math.min(end, Number(seek(fd, BigInt(start), SEEK_HOLE)))
    const stop = hole > start ? hole : end
    yield { offset: start, length: stop - start }
    position = stop
  }
}

let cached: { readonly seek: Seek | undefined } | undefined

function lseek(): Seek | undefined {
  cached ??= { seek: load() }
  return cached.seek
}

function load(): Seek | undefined {
  // Loading the module prints a warning of its being experimental; this optional use of it is no news to anyone.
  const emitWarning = process.emitWarning.bind(process)
  process.emitWarning = () => undefined
  try {
    const ffi = process.getBuiltinModule('node:ffi')
    return ffi?.dlopen(null, { lseek: { arguments: ['int32', 'int64', 'int32'], return: 'int64' } } as const).functions.lseek
  } catch {
    // Not in this runtime, or not permitted: the caller then reads holes as zeros.
    return undefined
  } finally {
    process.emitWarning = emitWarning
  }
}
