import { describe, expect, it } from 'vitest'
import { VimNode } from '../vsphere/index.ts'
import { parseLayout, snapshotBytes, surplusRedoLogs } from './vm-layout.ts'

/** Links by name, base first; each is a descriptor of 1 byte and an extent of 100, 200, … bytes. */
const LINKS = ['a.vmdk', 'a-000001.vmdk', 'a-000002.vmdk', 'a-000003.vmdk']
const text = (name: string, value: string | number): VimNode => new VimNode(name, { text: String(value) })
const files = LINKS.flatMap((link, index) => [
  new VimNode('file', { children: [text('key', index * 2), text('name', `[ds] vm/${link}`), text('size', 1)] }),
  new VimNode('file', {
    children: [
      text('key', index * 2 + 1),
      text('name', `[ds] vm/${link.replace('.vmdk', '-sesparse.vmdk')}`),
      text('size', (index + 1) * 100),
    ],
  }),
])
const vmsn = new VimNode('file', { children: [text('key', 50), text('name', '[ds] vm/a-Snapshot1.vmsn'), text('size', 7)] })
const disk = (links: readonly number[]): VimNode =>
  new VimNode('disk', {
    children: [
      text('key', 2000),
      ...links.map((link) => new VimNode('chain', { children: [text('fileKey', link * 2), text('fileKey', link * 2 + 1)] })),
    ],
  })
const snapshot = (name: string, links: readonly number[], dataKey = -1): VimNode =>
  new VimNode('snapshot', {
    children: [
      new VimNode('key', { refType: 'VirtualMachineSnapshot', text: name }),
      text('dataKey', dataKey),
      text('memoryKey', -1),
      disk(links),
    ],
  })
const layout = (...parts: readonly VimNode[]) => parseLayout(new VimNode('layoutEx', { children: [...files, vmsn, ...parts] }))
const surplus = (...parts: readonly VimNode[]) =>
  surplusRedoLogs(layout(...parts))
    .filter(({ bytes }) => bytes > 1)
    .map(({ bytes }) => bytes)

describe('surplusRedoLogs', () => {
  it('are all redo logs of a VM without snapshots, and none of one without redo logs', () => {
    expect(surplus(disk([0]))).toEqual([])
    expect(surplus(disk([0, 1]))).toEqual([200])
    expect(surplus(disk([0, 1, 2]))).toEqual([200, 300])
  })

  it('are not the link a snapshot froze nor the one the VM writes to', () => {
    expect(surplus(disk([0, 1]), snapshot('s', [0]))).toEqual([])
    expect(surplus(disk([0, 1, 2]), snapshot('s', [0]))).toEqual([200])
    expect(surplus(disk([0, 1, 2, 3]), snapshot('s', [0, 1, 2]))).toEqual([200])
    expect(surplus(disk([0, 1, 2, 3]), snapshot('s', [0]), snapshot('t', [0, 1, 2]))).toEqual([200])
  })

  it('are told whichever way the chain is given', () => {
    expect(surplus(disk([2, 1, 0]), snapshot('s', [0]))).toEqual([200])
  })
})

describe('snapshotBytes', () => {
  it('are the redo log that began with it and its own file', () => {
    const two = layout(disk([0, 1, 2]), snapshot('s', [0], 50), snapshot('t', [0, 1]))
    expect(snapshotBytes(two, 's')).toBe(1 + 200 + 7)
    expect(snapshotBytes(two, 't')).toBe(1 + 300)
    expect(snapshotBytes(two, 'nobody')).toBeUndefined()
  })
})
