import { createHash, randomBytes } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { hostname, userInfo } from 'node:os'
import { join } from 'node:path'
import { type BlockSource, type PointSummary, Secret, silentLog, systemClock } from '../../src/core/index.ts'
import { localDiskFiles, openDisk } from '../../src/disk/index.ts'
import { type BackupProvider, openProvider } from '../../src/provider/index.ts'
import { type Flow, newKeyFile } from './flows.ts'
import type { SeenVm } from './observation.ts'
import type { Place } from './place.ts'
import { leftover, type Problem, wrongDigest } from './problems.ts'

/** Device key → SHA-256 of the whole disk. */
export type DiskDigests = ReadonlyMap<number, string>

export type RepositoryEnd = {
  readonly problems: readonly Problem[]
  readonly points: readonly PointSummary[]
  /** What the last point of each VM, by name, has on its disks. */
  readonly last: ReadonlyMap<string, DiskDigests>
}

export const repositoryUrl = (place: Place, scheme: Flow['scheme']): string =>
  scheme === undefined ? place.repository : `${scheme}:${place.repository}`

/**
 * Reads the whole destination as somebody who comes later would: every listed point against what the lab had on the disks when its snapshot
 * was made (`seen`: its VMs, before and after), the structure by our own check, and the directory for files that belong to nobody.
 */
export async function judgeRepository(place: Place, flow: Flow, seen: readonly SeenVm[] | undefined): Promise<RepositoryEnd> {
  const problems: Problem[] = []
  for (const name of await namesBelow(place.repository)) {
    if (/^locks\/./.test(name)) problems.push(leftover(`the repository's lock ${name}`))
    if (/\.partial\b|\.tmp\b|-tmp-/.test(name)) problems.push(leftover(`the temporary file ${name} in the repository`))
  }
  const last = new Map<string, DiskDigests>()
  await using provider = await open(place, flow.scheme)
  if (provider?.points === undefined) return { problems, points: [], last }
  const { points: store } = provider
  for await (const problem of store.check(undefined, { readData: false })) problems.push(leftover(`check: ${problem.what}`))
  const points = (await Array.fromAsync(store.list())).sort((a, b) => Date.parse(a.time) - Date.parse(b.time))
  for (const point of points) {
    await using reader = await store.open(point.id)
    const digests = new Map<number, string>()
    for (const disk of reader.manifest.disks) {
      await using source = await reader.disk(disk.key)
      digests.set(disk.key, await digestOf(source))
    }
    last.set(point.vmName, digests)
    if (seen === undefined) continue
    const taken = seen
      .filter((vm) => vm.name === point.vmName)
      .flatMap((vm) => vm.frozenDigests)
      .find((snapshot) => Date.parse(snapshot.createdAt) === Date.parse(point.time))
    if (taken === undefined) problems.push(wrongDigest(`the lab knows no snapshot of ${point.vmName} at ${point.time}`))
    for (const disk of taken?.disks ?? [])
      if (digests.get(disk.key) !== disk.sha256) problems.push(wrongDigest(`disk ${disk.label} of ${point.vmName} in point ${point.id}`))
  }
  return { problems, points, last }
}

/** What the destination lists. */
export async function listPoints(place: Place, scheme: Flow['scheme']): Promise<readonly PointSummary[]> {
  await using provider = await open(place, scheme)
  return provider?.points === undefined ? [] : Array.fromAsync(provider.points.list())
}

/** A directory that a restore wrote: not there at all, or complete with the right content. */
export async function judgeDirectory(place: Place, flow: Flow, last: ReadonlyMap<string, DiskDigests>): Promise<Problem[]> {
  const there = await readdir(place.restored)
  const { restoresDirectory } = flow
  if (restoresDirectory === undefined) return there.map((name) => leftover(`restored/${name}`))
  const problems = there.filter((name) => name !== restoresDirectory.name).map((name) => leftover(`restored/${name}`))
  if (!there.includes(restoresDirectory.name)) return problems
  const directory = join(place.restored, restoresDirectory.name)
  const wanted = [...(last.get(restoresDirectory.of)?.values() ?? [])].sort()
  const found: string[] = []
  const names = await readdir(directory)
  if (!names.some((name) => name.endsWith('.vmx'))) problems.push(leftover(`${restoresDirectory.name} has no VMX`))
  for (const name of names.filter((file) => /^[^-]*\.vmdk$/.test(file))) {
    await using disk = await openDisk(join(directory, name), localDiskFiles())
    found.push(await digestOf(disk))
  }
  if (wanted.length === 0 || wanted.join() !== found.sort().join())
    problems.push(wrongDigest(`${restoresDirectory.name} is not what the point has`))
  return problems
}

/** A new key and the file with its password: both, and the one fits the other, or neither. */
export async function judgeKeys(place: Place): Promise<Problem[]> {
  await using provider = await open(place, undefined)
  const keys = (await provider?.keys?.list()) ?? []
  const added = keys.find(({ current }) => !current)
  let text: string
  try {
    text = await readFile(newKeyFile(place), 'utf8')
  } catch {
    return added === undefined ? [] : [leftover(`the key ${added.id}, whose password nobody has`)]
  }
  if (added === undefined) return [leftover('the file of a password that opens nothing')]
  await using opened = await open(place, undefined, text.trimEnd())
  const current = (await opened?.keys?.list())?.find((each) => each.current)
  return current?.id === added.id ? [] : [leftover(`the file of a password opens ${String(current?.id)}, not ${added.id}`)]
}

async function open(place: Place, scheme: Flow['scheme'], password = 'correct horse battery staple'): Promise<BackupProvider | undefined> {
  const names = await readdir(place.repository).catch((): string[] => [])
  // A repository that was being made is none before it has its config, and can be made again.
  if (scheme === undefined ? !names.includes('config') : names.length === 0) return undefined
  return openProvider(repositoryUrl(place, scheme), {
    clock: systemClock,
    log: silentLog,
    random: randomBytes,
    hostname: hostname(),
    username: userInfo().username,
    pid: process.pid,
    password: new Secret(password),
  })
}

async function digestOf(source: BlockSource): Promise<string> {
  const hash = createHash('sha256')
  const buffer = Buffer.alloc(1 << 20)
  for (let at = 0; at < source.size; at += buffer.length) {
    const part = buffer.subarray(0, Math.min(buffer.length, source.size - at))
    await source.read(at, part)
    hash.update(part)
  }
  return hash.digest('hex')
}

const namesBelow = (directory: string): Promise<string[]> => readdir(directory, { recursive: true }).catch(() => [])
