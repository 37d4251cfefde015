import { describe, expect, it } from 'vitest'
import { BANS, checkBans } from '../../scripts/check-bans.ts'

const says = (path: string, text: string): string[] => checkBans([{ path, text }]).map((found) => found.what)

/** One planted violation for each ban, in the order of the table. */
const PLANTED: readonly (readonly [path: string, text: string])[] = [
  ['src/disk/x.ts', 'const t = Date.now()'],
  ['src/disk/x.ts', 'const t = new Date()'],
  ['src/disk/x.ts', 'const t = performance.now()'],
  ['src/disk/x.ts', 'setTimeout(run, 5)'],
  ['src/disk/x.ts', 'const signal = AbortSignal.timeout(5)'],
  ['src/disk/x.ts', "import { setTimeout as sleep } from 'node:timers/promises'"],
  ['src/disk/x.ts', 'const id = Math.random()'],
  ['src/vsphere/other.ts', 'connect({ rejectUnauthorized: false })'],
  ['test/flow/x.test.ts', "process.env['NODE_TLS_REJECT_UNAUTHORIZED'] = '0'"],
  ['src/cli/backup.ts', 'process.exit(1)'],
  ['src/disk/x.ts', 'await close().catch(() => {})'],
  ['test/x.test.ts', '// @ts-ignore\nf(1)'],
  ['src/disk/x.ts', "import { readFile, writeFile } from 'node:fs/promises'"],
  ['src/mount/x.ts', "import { spawn } from 'node:child_process'"],
  ['src/vsphere/other.ts', "import { connect } from 'node:tls'"],
  ['src/journal/x.ts', "import { DatabaseSync } from 'node:sqlite'"],
  ['src/disk/x.ts', "process.getBuiltinModule('node:fs').rmSync(path)"],
  ['src/disk/x.ts', '// TODO finish'],
  ['test/x.test.ts', "vi.mock('../src/disk/index.ts')"],
  ['test/x.test.ts', "it.only('runs', () => {})"],
]

describe('checkBans', () => {
  it('finds a planted violation of every ban, and names that ban', () => {
    expect(PLANTED).toHaveLength(BANS.length)
    for (const [index, [path, text]] of PLANTED.entries()) expect(says(path, text), text).toContain(BANS[index]?.what)
  })

  it.each([
    'const t = new Date',
    'const t = new Date( )',
    'globalThis.setTimeout(run, 5)',
    'const timer = setInterval(run, 5)',
    'const later = setTimeout',
    'const t = process.hrtime.bigint()',
    "import timers from 'node:timers'",
    "import { setImmediate, setTimeout } from 'node:timers/promises'",
  ])('sees %j as time', (text) => {
    expect(says('src/disk/x.ts', text)).not.toEqual([])
  })

  it.each([
    "import * as fs from 'node:fs'",
    "import fs from 'fs'",
    'import { open } from "node:fs/promises"',
    "import { readFile, rename } from 'node:fs/promises'",
    "import {\n  access,\n  mkdtemp as made,\n} from 'node:fs/promises'",
    "import { createWriteStream } from 'node:fs'",
    "import { type FileHandle, open } from 'node:fs/promises'",
    "import { promises } from 'node:fs'",
    "export { rm } from 'node:fs/promises'",
    "const { rm } = await import('node:fs/promises')",
    "const fs = require('fs')",
    "import { execFile } from 'child_process'",
    "process.kill(pid, 'SIGTERM')",
    'process.kill(pid)',
    'const answer = await fetch(url)',
    'const socket = new WebSocket(url)',
    "import { request } from 'undici'",
    "import { isIP, connect } from 'node:net'",
    "import { nodeTls } from '../core/index.ts'",
    "import http from 'node:http'",
    "import { createRequire } from 'node:module'",
  ])('sees %j as an effect past the seam', (text) => {
    expect(says('src/transport/x.ts', text)).not.toEqual([])
    expect(says('src/transport/x.test.ts', text)).toEqual([])
    expect(says('src/lab/x.ts', text)).toEqual([])
  })

  it.each([
    "import { readdir, readFile, stat } from 'node:fs/promises'",
    "import {\n  access,\n  constants,\n  type Stats,\n} from 'node:fs'",
    "import type { FileHandle, ReadStream } from 'node:fs/promises'",
    "import { readFile as read } from 'node:fs/promises'",
    "import type { Socket } from 'node:net'",
    "import { isIP, type Socket } from 'node:net'",
    "import type { Dispatcher } from 'undici'",
    "import type { StatementSync } from 'node:sqlite'",
    'process.kill(pid, 0)',
    'const loads = this.#fetch(wanted)',
    'await client.fetch(url)',
    "// import { writeFile } from 'node:fs/promises'",
    "import { readdir } from 'node:fs/promises'\nimport { openOutput } from '../core/index.ts'",
  ])('sees %j as no effect', (text) => {
    expect(says('src/transport/x.ts', text)).toEqual([])
  })

  it.each([
    'const t = new Date(row.time)',
    'const now = clock.now()',
    'socket.setTimeout(5000)',
    "// Date.now() would be wrong here\nconst hint = 'Date.now()'",
    'process.exitCode = 1',
    'connect({ rejectUnauthorized: true })',
    'await close().catch((error: unknown) => log.warn(error))',
    'const x = { setTimeout: 5 }',
    "import { setImmediate } from 'node:timers/promises'",
    "import { setImmediate as breathe } from 'node:timers/promises'",
    '// the caller was told already\nawait close().catch(() => undefined)',
  ])('accepts %j', (text) => {
    expect(says('src/disk/x.ts', text)).toEqual([])
  })

  it('allows each thing in the one place made for it, and time in tests', () => {
    expect(says('src/core/clock.ts', 'const now = () => new Date()')).toEqual([])
    expect(says('src/cli/main.ts', 'process.exit(1)')).toEqual([])
    expect(says('src/core/files.ts', "import { rename } from 'node:fs/promises'")).toEqual([])
    expect(says('src/state/state.ts', "import { DatabaseSync } from 'node:sqlite'")).toEqual([])
    expect(says('src/nbd/server-program.ts', "import { spawn } from 'node:child_process'")).toEqual([])
    expect(says('src/vsphere/http-client.ts', "import { Agent } from 'undici'")).toEqual([])
    expect(says('src/disk/x.test.ts', 'const t = Date.now()')).toEqual([])
    expect(says('test/flow/x.test.ts', 'setTimeout(run, 5)')).toEqual([])
  })

  it('tells the line', () => {
    expect(checkBans([{ path: 'src/disk/x.ts', text: 'a\n/* b\n */\nDate.now()\n' }])).toMatchObject([{ line: 4 }])
  })
})
