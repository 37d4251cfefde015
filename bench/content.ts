import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import type { Random } from './random.ts'

/** A cluster of the file systems that the image imitates, bytes: every file begins on one. */
const CLUSTER = 4096

/** An endless supply of one kind of data. `length` is a multiple of 4 KiB. */
export type Content = (length: number) => Buffer

/**
 * The files under `folder` and then the Node binary, one after the other, each padded to whole clusters, as a file system lays them out.
 * When they run out they come again, every byte exclusive-ored with the number of the pass: as compressible as before, but no duplicate.
 */
export function fileTree(folder: string): Content {
  const walked = [...walk(folder)]
  const paths = walked.includes(process.execPath) ? walked : [...walked, process.execPath]
  let next = 0
  let rest: Buffer = Buffer.alloc(0)
  const nextFile = (): Buffer => {
    const pass = Math.floor(next / paths.length) & 0xff
    const body = readFileSync(paths[next % paths.length] ?? process.execPath)
    next++
    const padded = Buffer.alloc(Math.ceil(body.length / CLUSTER) * CLUSTER)
    body.copy(padded)
    return pass === 0 ? padded : exclusiveOr(padded, pass)
  }
  return (length) => {
    const out = Buffer.allocUnsafe(length)
    for (let filled = 0; filled < length; ) {
      while (rest.length === 0) rest = nextFile()
      const taken = rest.copy(out, filled)
      rest = rest.subarray(taken)
      filled += taken
    }
    return out
  }
}

function* walk(folder: string): Generator<string> {
  const entries = readdirSync(folder, { withFileTypes: true }).sort((a, b) => (a.name < b.name ? -1 : 1))
  for (const entry of entries) {
    const path = join(folder, entry.name)
    if (entry.isDirectory()) {
      if (!entry.name.startsWith('.')) yield* walk(path)
    } else if (entry.isFile() && statSync(path).size > 0) yield path
  }
}

function exclusiveOr(bytes: Buffer, value: number): Buffer {
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4)
  const mask = (value * 0x01010101) >>> 0
  for (let index = 0; index < words.length; index++) words[index] = (words[index] ?? 0) ^ mask
  return bytes
}

/** Lines of a web server's access log, time running on. */
export function accessLog(random: Random): Content {
  const verbs = ['GET', 'GET', 'GET', 'GET', 'POST', 'HEAD', 'PUT']
  const parts = ['api', 'static', 'orders', 'img', 'v2', 'users', 'search', 'cart', 'assets', 'login', 'report', 'export']
  const agents = ['Mozilla/5.0 (X11; Linux x86_64)', 'Mozilla/5.0 (Windows NT 10.0; Win64; x64)', 'curl/7.88.1', 'python-requests/2.28.1']
  const pick = (list: readonly string[]): string => list[random.below(list.length)] ?? ''
  let time = Date.UTC(2026, 0, 1)
  let rest = ''
  const line = (): string => {
    time += random.below(900)
    const path = `/${pick(parts)}/${pick(parts)}/${random.below(90_000)}`
    const address = `10.${random.below(4)}.${random.below(256)}.${random.below(256)}`
    const status = [200, 200, 200, 200, 304, 404, 500][random.below(7)]
    return `${address} - - [${new Date(time).toISOString()}] "${pick(verbs)} ${path} HTTP/1.1" ${status} ${random.below(60_000)} "-" "${pick(agents)}"\n`
  }
  return (length) => {
    const lines = [rest]
    for (let filled = rest.length; filled < length; ) {
      const next = line()
      lines.push(next)
      filled += next.length
    }
    const text = lines.join('')
    rest = text.slice(length)
    return Buffer.from(text.slice(0, length), 'latin1')
  }
}

export const incompressible = (random: Random): Content => random.bytes

/** Blocks a guest wrote as zeros: allocated, nothing in them. */
export const zeros: Content = (length) => Buffer.alloc(length)
