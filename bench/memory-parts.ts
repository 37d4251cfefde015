import { rmSync, statfsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Vcb } from './contestants.ts'
import { describeFlat } from './describe-flat.ts'
import type { BenchOptions } from './full-and-second.ts'
import { makeImage, makeSparseImage } from './image.ts'

const MIB = 1024 * 1024
const GIB = 1024 * MIB
const TIB = 1024 * GIB
const DISKS = 8
const ONE_DISK = 300e6
const EIGHT_DISKS = 400e6

/** Disks that are large and almost empty, and eight at once: what they take of memory, and what an incremental of nothing costs them. */
export async function memoryParts(options: BenchOptions & { readonly memory: string }): Promise<void> {
  const { size, places, figures, vcb, memory } = options
  const data = Math.min(GIB, size / 8)
  for (const [tib, where] of [
    [2, places.work],
    // Larger than a file may be on most file systems; not on this one.
    [62, memory],
  ] as const) {
    const flat = join(where, `sparse${tib}-flat.vmdk`)
    makeSparseImage(flat, tib * TIB, data)
    const large = new Vcb({ ...places, work: join(places.work, 'large'), flat, vmdk: describeFlat(flat, tib * TIB) }, vcb.version)
    await large.prepare(tib)
    figures.title(`disk of ${tib} TiB with ${data / MIB} MiB of data`)
    const full = await large.full(tib)
    const { readBytes = 0, storedBytes = 0 } = large.last[tib] ?? {}
    figures.add({ part: `full of ${tib} TiB`, tool: 'vcb', costs: [full], repositoryBytes: large.repositoryBytes(tib) })
    figures.goal(
      `of ${tib} TiB only the data is read and stored (${Math.round(readBytes / MIB)} and ${Math.round(storedBytes / MIB)} MiB)`,
      readBytes,
      readBytes > 0 && readBytes <= data * 1.1 && storedBytes <= data * 1.1,
    )
    large.changed = join(places.work, 'none.json')
    writeFileSync(large.changed, '[]')
    const unchanged = await large.second(tib)
    figures.add({ part: `unchanged ${tib} TiB`, tool: 'vcb', costs: [unchanged] })
    const resident = Math.max(full.rssBytes, unchanged.rssBytes)
    figures.goal(`of ${tib} TiB memory stays within ${ONE_DISK / 1e6} MB (${Math.round(resident / 1e6)})`, resident, resident <= ONE_DISK)
    if (tib === 2) {
      const seconds = unchanged.wallSeconds
      figures.goal(`an incremental of 2 TiB in which nothing changed stays within 5 s (${seconds.toFixed(2)})`, seconds, seconds <= 5)
    }
    rmSync(flat)
    rmSync(large.repository(tib), { recursive: true })
  }
  await eightDisks(options)
}

async function eightDisks({ size, places, figures, vcb, memory }: BenchOptions & { readonly memory: string }): Promise<void> {
  const free = statfsSync(memory)
  const each = Math.floor(Math.min(size, free.bavail * free.bsize) / DISKS / MIB) * MIB
  const flats = Array.from({ length: DISKS }, (_, index) => join(memory, `disk${index}-flat.vmdk`))
  for (const [index, flat] of flats.entries()) makeImage(flat, each, `disk ${index}`)
  const eight = new Vcb({ ...places, work: join(places.work, 'eight') }, vcb.version)
  await eight.prepare(0)
  figures.title(`${DISKS} disks of ${each / MIB} MiB at once`)
  const cost = await eight.backUp(
    0,
    flats.map((flat) => describeFlat(flat, each)),
  )
  figures.add({ part: 'eight disks', tool: 'vcb', costs: [cost], repositoryBytes: eight.repositoryBytes(0) })
  figures.goal(
    `eight disks at once stay within ${EIGHT_DISKS / 1e6} MB (${Math.round(cost.rssBytes / 1e6)})`,
    cost.rssBytes,
    cost.rssBytes <= EIGHT_DISKS,
  )
  for (const flat of flats) rmSync(flat)
}
