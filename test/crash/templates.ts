import { access } from 'node:fs/promises'
import { hostname, userInfo } from 'node:os'
import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { Secret, silentLog, systemClock } from '../../src/core/index.ts'
import { openResticProvider } from '../../src/provider/restic-provider.ts'
import { runInside } from './commands.ts'
import { environmentOf, makeEmptyWorld, openLab, type Place, saveWorld } from './place.ts'

/** `bare`: no repository; `empty`: one without points; `points`: one point of each VM, and guests that wrote since. */
export type TemplateName = 'bare' | 'empty' | 'points'

/** Makes a template in a place, once; what later ones start from is made on the way. */
export async function makeTemplate(place: Place, name: TemplateName): Promise<void> {
  if (await exists(join(place.root, name))) return
  await makeEmptyWorld(place)
  await using lab = await openLab(place)
  if (name !== 'bare') await initRepository(place)
  const environment = environmentOf(place, lab)
  // The state database is there from an earlier run, as it is on every proxy but a new one.
  if (name !== 'bare') await must(['recover'], environment)
  if (name === 'points') {
    await must(['backup', 'beta', 'gamma', 'omega', '--mode', 'full', '--quiesce', 'none'], environment)
    for (const vm of ['beta', 'gamma']) await lab.control.write(vm, { records: 3 })
  }
  await lab[Symbol.asyncDispose]()
  await saveWorld(place, name)
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
