import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { GIB, systemClock } from '../../src/core/index.ts'
import { expectNothingLeft, requireMounting, run } from '../mount-world.ts'
import { requirePeer } from '../peer.ts'
import { type LabSession, openLabSession } from './lab-session.ts'
import { newTarget, startCommand } from './mount-world.ts'

/* How long the whole command takes on a large disk: nothing of a mount may grow with it. */
/** Three seconds and one on a quiet machine; a busy one may take five times as long. To read the disk would be minutes. */
const READY_MS = 15_000
const FIRST_READ_MS = 5000

let session: LabSession
beforeAll(async () => {
  session = await openLabSession({
    scenario: {
      taskMs: 0,
      datacenters: [
        {
          name: 'DC',
          hosts: [{ name: 'esx1' }],
          datastores: [{ name: 'ds1', type: 'VMFS6', capacity: '1TiB' }],
          vms: [{ name: 'huge', disks: [{ size: '100GiB', content: 'empty' }] }],
        },
      ],
    },
  })
})
afterAll(() => session[Symbol.asyncDispose]())

describe('a sparse disk of 100 GiB with an ext4', () => {
  test.each([['file'], ['disk'], ['disk,file']])(
    'as %s is ready within three seconds after its snapshot, and its first file is read within another',
    async (type) => {
      requireMounting()
      const tree = join(session.directory, 'tree')
      await mkdir(tree, { recursive: true })
      await writeFile(join(tree, 'file'), 'content\n')
      const flat = join(session.lab.datastores['ds1'] ?? '', 'huge', 'huge-flat.vmdk')
      await run(requirePeer('mkfs.ext4'), '-q', '-F', '-E', 'lazy_itable_init=1', '-d', tree, flat)
      const command = startCommand(session, 'mount', 'huge', await newTarget(session), '--type', type, '--json')
      expect(await command.ended).toBe(0)
      const ready = systemClock.now().getTime()
      const mounted = JSON.parse(command.out())
      expect(mounted.disks[0].bytes).toBe(100 * GIB)
      const since = systemClock.monotonicMs()
      if (type === 'disk') await run('head', '-c', '4096', mounted.disks[0].file)
      else expect(await run('cat', join(mounted.directory, 'digits', '1', 'file'))).toBe('content\n')
      const took = { readyMs: ready - Date.parse(mounted.time), firstReadMs: Math.round(systemClock.monotonicMs() - since) }
      process.stderr.write(`100 GiB as ${type}: ${JSON.stringify(took)}\n`)
      expect(await session.json(['unmount', mounted.lease])).toMatchObject({ ended: true, held: [] })
      await expectNothingLeft(session.directory)
      expect(took.readyMs, JSON.stringify(took)).toBeLessThan(READY_MS)
      expect(took.firstReadMs, JSON.stringify(took)).toBeLessThan(FIRST_READ_MS)
    },
  )
})
