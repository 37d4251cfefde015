import { randomBytes } from 'node:crypto'
import { systemClock } from '../../src/core/index.ts'
import { createMemoryBuckets, createNfcLimits, nbdTransport } from '../../src/transport/index.ts'
import { openEmptyDisks } from '../transports/empty-disks.ts'
import { diskWritingContract } from './disk-writing-contract.ts'

for (const [name, compression] of [
  ['nbdssl', undefined],
  ['nbd', 'none'],
  ['nbdssl', 'zlib'],
  ['nbd', 'fastlz'],
] as const) {
  diskWritingContract(
    `${name} with ${compression ?? 'skipz'}`,
    async () => {
      const world = await openEmptyDisks()
      const buckets = createMemoryBuckets()
      const limits = createNfcLimits({}, buckets)
      const { writing } = nbdTransport(world.vsphere, {
        name,
        clock: systemClock,
        random: (size) => randomBytes(size),
        limits,
        compression,
      })
      if (writing === undefined) throw new Error(`${name} does not write`)
      return {
        world,
        writing,
        left: async () => {
          for (let turn = 0; ; turn++) {
            const { nfc, locks } = await world.lab.control.state()
            const left = [...nfc.sessions, ...locks.filter(({ holder }) => holder.startsWith('NFC')), ...(await buckets.inUse())]
            if (left.length === 0 || turn > 100) return left
            await systemClock.sleep(20)
          }
        },
        [Symbol.asyncDispose]: () => world[Symbol.asyncDispose](),
      }
    },
    { cut: { on: 'nfc:write', nth: 2, cut: 'before' } },
  )
}
