import { formatBytes, type RunRecord } from '../core/index.ts'
import { printable, renderTable } from './io.ts'

/** Ended runs, the last one first. */
export const runTable = (records: readonly RunRecord[]): string =>
  renderTable(
    ['ENDED', 'JOB', 'VM', 'RESULT', 'MODE', 'POINT', 'READ', 'STORED', 'WHY'],
    records.map((record) => [
      record.endedAt,
      record.job ?? '-',
      printable(record.vm.name),
      record.skipped === undefined ? record.result : 'skipped',
      record.mode ?? '-',
      record.point?.slice(0, 8) ?? '-',
      formatBytes(record.readBytes),
      formatBytes(record.storedBytes),
      printable(record.error?.message ?? ''),
    ]),
  )
