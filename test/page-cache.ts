import { execFileSync } from 'node:child_process'
import { statfsSync } from 'node:fs'
import { tmpdir } from 'node:os'

const TMPFS = 0x01021994

/** Whether temporary files are in memory only, where a system has nothing to forget. */
export const inMemoryOnly = (): boolean => statfsSync(tmpdir()).type === TMPFS

/** What the kernel holds of a file in memory, bytes, as util-linux tells. */
export const heldInMemory = (path: string): number =>
  Number(execFileSync('fincore', ['--bytes', '--noheadings', '--output', 'RES', path], { encoding: 'utf8' }))
