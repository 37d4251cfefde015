import { expect, test } from 'vitest'
import { requirePeer } from '../peer.ts'
import { diskKinds } from './disk-kinds.ts'
import { readEverything, tableHead, tableLine, wrongCells } from './table.ts'
import { TRANSPORTS } from './transports.ts'

test('vddk is among them, where its stand-in can run', () => {
  for (const name of ['nbdkit', 'qemu-img'] as const) requirePeer(name)
  expect(TRANSPORTS.map(({ name }) => name)).toContain('vddk')
})

/* At full size: npm run test:transports */
test('every kind of disk reads the same by every transport, full and changed-only, as the lab itself digests it', {
  timeout: 300_000,
}, async () => {
  const { lines, left } = await readEverything({ mib: 6 })
  expect(wrongCells(lines), [tableHead(), ...lines.map(tableLine)].join('\n')).toEqual([])
  expect(left).toEqual([])
  expect(lines).toHaveLength(diskKinds(6).length * 2)
  for (const { kind, mode, cells, links } of lines) {
    expect(links).toBe(kind.snapshots + 1)
    expect(cells.map(({ transport }) => transport)).toEqual(TRANSPORTS.map(({ name }) => name))
    for (const { bytes, transport, whole } of cells) {
      expect([kind.name, mode, transport, bytes > 0]).toEqual([kind.name, mode, transport, true])
      // The empty part of a disk, and of the changes all that did not change, was not read.
      if (mode === 'changed' && !whole) expect(bytes).toBeLessThan(kind.size / 2)
    }
  }
})
