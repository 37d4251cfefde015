import { access, open, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { hostname, userInfo } from 'node:os'
import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { deserialize, serialize } from 'node:v8'
import { KIB, MIB, type PointSummary, SECTOR, Secret, silentLog, systemClock } from '../../src/core/index.ts'
import type { Lab } from '../../src/lab/index.ts'
import { openResticProvider } from '../../src/provider/restic-provider.ts'
import { openState } from '../../src/state/index.ts'
import { goldenVolume } from '../golden-volume.ts'
import { runChild, runInside } from './commands.ts'
import { type Observation, observe } from './observation.ts'
import { listPoints } from './repository-end.ts'
import { environmentOf, makeEmptyWorld, openLab, type Place, saveWorld } from './place.ts'

/**
 * `bare`: no repository; `empty`: one without points; `points`: one point of each VM, and guests that wrote since; `history`: three points of
 * one VM, full ones where others would stand on them; `forgotten`: the last of three, so that packs are in no use or partly; `orphans`: a snapshot and a half-restored VM that no journal knows; `files`: one VM has an ext4 and a FAT on its disk.
 */
export type TemplateName = 'bare' | 'empty' | 'points' | 'history' | 'forgotten' | 'orphans' | 'files'

/** Makes a template in a place, once; what later ones start from is made on the way. */
export async function makeTemplate(place: Place, name: TemplateName, scheme?: 'tar' | 'dir'): Promise<string> {
  const saved = scheme === undefined ? name : `${name}-${scheme}`
  if (await exists(join(place.root, saved))) return saved
  await makeEmptyWorld(place)
  await using lab = await openLab(place)
  if (name !== 'bare' && scheme === undefined) await initRepository(place)
  const environment = environmentOf(place, lab, scheme === undefined ? undefined : `${scheme}:${place.repository}`)
  // The state database is there from an earlier run, as it is on every proxy but a new one.
  if (name !== 'bare') await must(['recover'], environment)
  if (name === 'points') {
    await must(['backup', 'beta', 'gamma', 'omega', '--mode', 'full', '--quiesce', 'none'], environment)
    for (const vm of ['beta', 'gamma']) await lab.control.write(vm, { records: 3 })
  }
  if (name === 'history' || name === 'forgotten') {
    for (let point = 0; point < 3; point++) {
      await must(['backup', 'beta', '--init', '--quiesce', 'none', '--mode', scheme === undefined ? 'auto' : 'full'], environment)
      await lab.control.write('beta', { records: 2 })
    }
  }
  if (name === 'forgotten') await must(['forget', '--keep-last', '1'], environment)
  if (name === 'orphans') await must(['backup', 'beta', '--mode', 'full', '--quiesce', 'none'], environment)
  if (name === 'files') await makeFileSystems(lab)
  const facts: TemplateFacts = { seen: await observe(lab), points: await listPoints(place, scheme) }
  await writeFile(factsFile(place, saved), serialize(facts))
  if (name === 'orphans') await makeOrphans(place, environment)
  await lab[Symbol.asyncDispose]()
  await saveWorld(place, saved)
  return saved
}

/** Two volumes of test/golden/volumes on the disk of `omega`, whose guest is off and writes nothing. */
async function makeFileSystems(lab: Lab): Promise<void> {
  // All of it, so that nothing is left of the records that a guest would have here.
  const disk = Buffer.alloc(3 * MIB)
  const volumes = [
    { name: 'small-ext4', type: 0x83, at: 64 * KIB },
    { name: 'fat12', type: 0x01, at: 1.25 * MIB },
  ]
  for (const [index, { name, type, at }] of volumes.entries()) {
    const volume = goldenVolume(name)
    await volume.read(0, disk.subarray(at, at + volume.size))
    const entry = 446 + 16 * index
    disk.writeUInt8(type, entry + 4)
    disk.writeUInt32LE(at / SECTOR, entry + 8)
    disk.writeUInt32LE(volume.size / SECTOR, entry + 12)
  }
  disk.writeUInt16LE(0xaa55, 510)
  await using file = await open(join(lab.datastores['vmfs1'] ?? '', 'omega', 'omega-flat.vmdk'), 'r+')
  await file.write(disk, 0, disk.length, 0)
}

/** What a template had before anything of ours was left in it. */
export type TemplateFacts = { readonly seen: Observation; readonly points: readonly PointSummary[] }

export const factsOf = async (place: Place, saved: string): Promise<TemplateFacts> =>
  deserialize(await readFile(factsFile(place, saved))) as TemplateFacts

const factsFile = (place: Place, saved: string): string => join(place.root, `${saved}.facts`)

/** Two commands killed in their middle, and a new journal that knows nothing of them. */
async function makeOrphans(place: Place, environment: Readonly<Record<string, string>>): Promise<void> {
  const restore = ['restore', 'beta@latest', '--to-vcenter', '--name', 'copy', '--via', 'folder', '--to-datastore', 'restore1']
  await runChild(place, restore, environment, { kill: 'after:call RegisterVM_Task' })
  await runChild(place, ['backup', 'beta', '--quiesce', 'none'], environment, { kill: 'after:call CreateSnapshotEx_Task' })
  for (const name of await readdir(place.state)) if (name.startsWith('state.sqlite')) await rm(join(place.state, name))
  for (const name of await readdir(join(place.repository, 'locks'))) await rm(join(place.repository, 'locks', name))
  for (const name of await readdir(place.repository))
    if (name.endsWith('.partial')) await rm(join(place.repository, name), { recursive: true })
  await using _made = await openState(join(place.state, 'state.sqlite'))
}

/** A repository as `vcb init` makes it, with a key that costs no half second to open. */
async function initRepository(place: Place): Promise<void> {
  await using _provider = await openResticProvider(place.repository, {
    clock: systemClock,
    log: silentLog,
    random: randomBytes,
    hostname: hostname(),
    username: userInfo().username,
    pid: process.pid,
    password: new Secret('correct horse battery staple'),
    init: true,
    kdf: { N: 1024, r: 8, p: 1 },
  })
}

async function must(argv: readonly string[], environment: Readonly<Record<string, string>>): Promise<void> {
  const { exit, out, err } = await runInside(argv, environment)
  if (exit !== 0) throw new Error(`vcb ${argv.join(' ')} ended with ${exit}: ${out}${err}`)
}

const exists = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  )
