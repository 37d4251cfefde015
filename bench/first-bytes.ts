import { execFileSync } from 'node:child_process'
import { closeSync, fstatSync, openSync, readSync } from 'node:fs'
import { systemClock } from '../src/core/index.ts'
import { NbdConnection } from '../src/nbd/index.ts'
import type { Cost } from './measure.ts'

const PAGE = 4096

/** Connects, reads the first page of data behind the middle of the disk, compares it with that of the image. The time is that of all three. */
export async function firstBytes({ path, name }: { readonly path: string; readonly name: string }, flat: string): Promise<Cost> {
  const wanted = pageBehindMiddle(flat)
  const began = performance.now()
  await using connection = await NbdConnection.open({ path }, name, { clock: systemClock })
  const into = Buffer.alloc(PAGE)
  await connection.read(wanted.offset, into)
  const wallSeconds = (performance.now() - began) / 1000
  if (!into.equals(wanted.bytes)) throw new Error(`${path} gives other bytes at ${wanted.offset}`)
  return { wallSeconds, cpuSeconds: 0, rssBytes: 0 }
}

function pageBehindMiddle(flat: string): { readonly offset: number; readonly bytes: Buffer } {
  const file = openSync(flat, 'r')
  try {
    const { size } = fstatSync(file)
    const bytes = Buffer.alloc(PAGE)
    for (let offset = Math.floor(size / 2 / PAGE) * PAGE; offset < size; offset += PAGE) {
      readSync(file, bytes, 0, PAGE, offset)
      if (bytes.some((byte) => byte !== 0)) return { offset, bytes }
    }
    throw new Error(`${flat} has no data in its second half`)
  } finally {
    closeSync(file)
  }
}

/** Bytes of a sparse file that are no holes. */
export const dataOf = (path: string): number => Number(execFileSync('du', ['--block-size=1', path], { encoding: 'utf8' }).split('\t')[0])
