import { execFile } from 'node:child_process'
import { accessSync, constants, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { gunzipSync } from 'node:zlib'
import { expect, TestRunner } from 'vitest'
import { createIds, readU64, silentLog, systemClock } from '../src/core/index.ts'
import { type Claims, createClaims, MemoryJournal, MemoryJournalRows } from '../src/journal/index.ts'
import { presentReleasers } from '../src/mount/index.ts'

/** Inside a test: skips it where nothing can be mounted, or fails it where peers are required. */
export function requireMounting(): void {
  const reason = whyNot()
  if (reason === undefined) return
  if (process.env['VCB_PEERS'] === 'required') throw new Error(`${reason} (VCB_PEERS=required)`)
  TestRunner.getCurrentTest()?.context.skip(reason)
}

export const canMount = (): boolean => whyNot() === undefined

function whyNot(): string | undefined {
  if (process.getuid?.() !== 0) return 'only root can mount'
  for (const device of ['/dev/fuse', '/dev/loop-control']) {
    try {
      accessSync(device, constants.R_OK | constants.W_OK)
    } catch {
      return `there is no ${device}`
    }
  }
  return undefined
}

export const kernelHas = (type: string): boolean => readFileSync('/proc/filesystems', 'utf8').split(/\s+/).includes(type)

const exec = promisify(execFile)

/** What a program says; throws when it fails. Never waited for in a way that would keep this process, which may serve what it reads, from answering. */
export async function run(program: string, ...argv: readonly string[]): Promise<string> {
  const env = { ...process.env, PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`, LC_ALL: 'C.UTF-8' }
  return (await exec(program, [...argv], { env, maxBuffer: 16 * 1024 * 1024, timeout: 60_000 })).stdout
}

export const shell = (script: string, ...argv: readonly string[]): Promise<string> => run('bash', '-euc', script, 'bash', ...argv)

export const presentDeps = { clock: systemClock, log: silentLog }

/** Claims of a new job in memory. */
export async function someClaims(): Promise<Claims> {
  const self = { pid: process.pid, bootId: 'boot', startTime: 1 }
  const journal = new MemoryJournal(systemClock, createIds(), self, new MemoryJournalRows())
  return createClaims(journal, presentReleasers(systemClock), await journal.begin('mount', {}))
}

/** What of ours is mounted, attached or running for `directory`: nothing, after everything was undone. */
export async function leftovers(directory: string): Promise<readonly string[]> {
  const lines = async (text: Promise<string>): Promise<readonly string[]> =>
    (await text).split('\n').filter((line) => line.includes(directory))
  return [
    ...(await lines(run('cat', '/proc/self/mountinfo'))),
    ...(await lines(run('losetup', '--list', '--noheadings', '--output', 'NAME,BACK-FILE'))),
    ...(await lines(run('ps', '-eo', 'pid,args'))).filter((line) => !line.includes('ps -eo') && !line.includes('vitest')),
  ]
}

/** Waits until nothing of ours is left for `directory`: a process that has released everything ends a moment later. Fails with what is left. */
export async function expectNothingLeft(directory: string): Promise<void> {
  for (let tries = 0; tries < 300 && (await leftovers(directory)).length > 0; tries++) await systemClock.sleep(100)
  expect(await leftovers(directory)).toEqual([])
}

/** The disk of test/golden/guest-disks, unpacked (its README says how). */
export function guestDisk(name: 'ext4' | 'ntfs'): Buffer {
  const packed = gunzipSync(readFileSync(join(import.meta.dirname, 'golden', 'guest-disks', `${name}.fixture.gz`)))
  const image = Buffer.alloc(readU64(packed, 8, 'image size'))
  const count = packed.readUInt32LE(16)
  for (let index = 0; index < count; index++) {
    const block = packed.readUInt32LE(20 + index * 4)
    const from = 20 + count * 4 + index * 4096
    packed.copy(image, block * 4096, from, from + 4096)
  }
  return image
}
