import { join } from 'node:path'
import { createIds, silentLog, systemClock } from '../src/core/index.ts'
import { openFlat, openLocalFile } from '../src/disk/index.ts'
import { createClaims, openSqliteJournal, systemProcesses } from '../src/journal/index.ts'
import { type FileSystemType, presentImages, presentReleasers, presentVolumes } from '../src/mount/index.ts'
import { openState } from '../src/state/index.ts'

/*
 * A process that holds a lease, to be killed: shows the image files named TYPE=FILE below DIRECTORY, with its journal in DIRECTORY/state.db, says `ready` and waits for its
 * standard input to end.
 */
const [directory = '', ...images] = process.argv.slice(2)
const deps = { clock: systemClock, log: silentLog }
const state = await openState(join(directory, 'state.db'))
const journal = await openSqliteJournal({ state, clock: systemClock, ids: createIds(), processes: systemProcesses })
const claims = createClaims(journal, presentReleasers(systemClock), await journal.begin('mount', {}))
const modified = new Date('2026-03-04T05:06:07Z')
const opened = await Promise.all(
  images.map(async (image) => {
    const [type = '', path = ''] = image.split('=')
    return { name: type, type: type as FileSystemType, source: openFlat(await openLocalFile(path)), modified }
  }),
)
const disks = await presentImages(
  opened.map(({ name, source }) => ({ name: `${name}.raw`, source, modified })),
  join(directory, 'disks'),
  deps,
  claims,
)
const volumes = await presentVolumes(opened, { images: join(directory, 'volumes'), scratch: directory }, deps, claims)
for (const [index, { name }] of opened.entries()) {
  await volumes.mount(name, join(directory, 'digits', String(index + 1)))
  await volumes.mountAgain(name, join(directory, 'letters', name))
}
process.stdout.write('ready\n')
for await (const _ of process.stdin);
await volumes[Symbol.asyncDispose]()
await disks[Symbol.asyncDispose]()
for (const { source } of opened) await source[Symbol.asyncDispose]()
await claims[Symbol.asyncDispose]()
await journal.finish(claims.job, { result: 'succeeded' })
await state[Symbol.asyncDispose]()
