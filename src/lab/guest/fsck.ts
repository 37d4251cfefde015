import { setImmediate } from 'node:timers/promises'
import { holdsPayload, lastFinished, payloadIntact, readSlots, STATE_DONE, STATE_WRITING } from './record.ts'
import { findArea, type GuestImage } from './record-area.ts'

export type DiskCheck = {
  /** False: this image has no record area (nothing to check, no problem). */
  readonly hasRecords: boolean
  readonly lastRecord: number
  /** Surviving records that were checked. */
  readonly records: number
  readonly problems: readonly string[]
}
export type GuestCheck = {
  readonly ok: boolean
  /** Same last record on all disks. */
  readonly sameRecord: boolean
  readonly disks: readonly DiskCheck[]
}

const MAX_PROBLEMS = 20

/**
 * Checks every record, payload block and number on all disks of a VM as one set; images in the guest's order of disks. Besides each disk
 * by itself: the disks must fit one moment (record n is finished on disk 0 before disk 1 begins it). Yields between disks.
 */
export async function fsck(images: readonly GuestImage[]): Promise<GuestCheck> {
  const disks: DiskCheck[] = []
  for (const image of images) {
    disks.push(checkDisk(image))
    await setImmediate()
  }
  const numbers = disks.filter((disk) => disk.hasRecords).map((disk) => disk.lastRecord)
  const [first = 0] = numbers
  const oneMoment = numbers.every((number, index) => number <= (numbers[index - 1] ?? number) && number >= first - 1)
  const checked = oneMoment ? disks : disks.map((disk) => (disk.hasRecords ? withProblem(disk, numbers) : disk))
  return {
    ok: checked.every((disk) => disk.problems.length === 0),
    sameRecord: numbers.every((number) => number === first),
    disks: checked,
  }
}

const withProblem = (disk: DiskCheck, numbers: readonly number[]): DiskCheck => ({
  ...disk,
  problems: [...disk.problems, `The disks are not of one moment: their last records are ${numbers.join(', ')}.`],
})

function checkDisk(image: GuestImage): DiskCheck {
  const area = findArea(image)
  if (area === undefined) return { hasRecords: false, lastRecord: 0, records: 0, problems: [] }
  const slots = readSlots(image, area)
  const lastRecord = lastFinished(slots)
  const problems: string[] = []
  let records = 0
  for (const [index, slot] of slots.entries()) {
    // The slot's number that a disk ending with `lastRecord` must have.
    const expected = lastRecord - ((((lastRecord - index) % area.slots) + area.slots) % area.slots)
    if (slot === 'damaged') {
      problems.push(`Slot ${index} is damaged.`)
    } else if (slot === 'empty') {
      if (expected > 0) problems.push(`Record ${expected} is missing.`)
    } else if (slot.number % area.slots !== index) {
      problems.push(`Slot ${index} holds record ${slot.number}, which does not belong there.`)
    } else if (slot.state === STATE_WRITING) {
      if (slot.number !== lastRecord + 1) problems.push(`Record ${slot.number} is unfinished although ${lastRecord} came after it.`)
    } else if (slot.state !== STATE_DONE || slot.number !== expected) {
      problems.push(`Slot ${index} holds record ${slot.number} instead of ${expected}.`)
    } else if (!payloadIntact(image, area, slot)) {
      problems.push(`A payload block of record ${slot.number} is not what was written.`)
    } else {
      records++
    }
    const later = expected + area.slots
    const begun = typeof slot === 'object' && slot.state === STATE_WRITING && slot.number === later
    // What was written is announced first: payload of a record that no slot knows of means that slots were lost.
    if (!begun && holdsPayload(image, area, later)) problems.push(`Payload of record ${later} is there, but not the record.`)
    if (problems.length >= MAX_PROBLEMS) break
  }
  return { hasRecords: true, lastRecord, records, problems }
}
