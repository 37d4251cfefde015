import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, vi } from 'vitest'
import { digestOfFile, type LabSession } from '../flow/lab-session.ts'
import { leasesOf } from '../flow/mount-world.ts'
import { canMount, leftovers } from '../mount-world.ts'

/** The VMs of `openGuestFiles` and their files by base name; test/golden/guest-disks/README.md lists the SHA-256 of each. */
export const VMS = [
  ['linux', ['hostname', 'os-release', 'random.bin', 'Übung eins.txt', 'messages']],
  ['windows', ['random.bin', 'Übung eins.txt', 'messages']],
] as const

/** Each of the guest's files lies somewhere below, with its bytes. */
export async function expectFiles(names: readonly string[], directory: string): Promise<void> {
  const text = await readFile(join(import.meta.dirname, '..', 'golden', 'guest-disks', 'README.md'), 'utf8')
  const listed = new Map([...text.matchAll(/^([0-9a-f]{64}) {2}.*\/([^/\n]+)$/gm)].map(([, digest = '', name = '']) => [name, digest]))
  const found = await readdir(directory, { recursive: true, withFileTypes: true })
  for (const name of names) {
    const wanted = listed.get(name)
    expect(wanted, name).toBeDefined()
    const file = found.find((each) => each.isFile() && each.name.replace(/^messages\.txt$/, 'messages') === name)
    expect(file, `${name} below ${directory}`).toBeDefined()
    expect(await digestOfFile(join(file?.parentPath ?? '', file?.name ?? ''))).toBe(wanted)
  }
}

/** No lease, snapshot, lock, mount or process of ours. */
export async function expectNothingLeft(session: LabSession): Promise<void> {
  expect(await leasesOf(session)).toEqual([])
  await session.expectClean()
  if (canMount()) expect(await leftovers(session.directory)).toEqual([])
}

/** The same as soon as it is so; after `withinMs` it fails with what is left. */
export async function expectGone(session: LabSession, withinMs: number): Promise<void> {
  await vi.waitFor(() => expectNothingLeft(session), { timeout: withinMs, interval: 200 })
}
