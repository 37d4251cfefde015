import { relative } from 'node:path'
import { BaseSequencer, type TestSpecification } from 'vitest/node'

/**
 * The files that take longest on two quiet cores, longest first. They begin first: one that begins last keeps one core busy and leaves the other idle.
 * A name here is no more than an order; test/slowest-reporter.ts tells which belong here.
 */
const LONGEST = [
  'test/crash/crash.test.ts',
  'test/flow/bad-input.test.ts',
  'test/storm/other-side.test.ts',
  'test/flow/release-failures.test.ts',
  'test/flow/backup-restore.test.ts',
  'test/peers/restic-points.test.ts',
  'test/flow/copy-killed.test.ts',
  'test/flow/cancel.test.ts',
  'test/flow/copy.test.ts',
  'test/flow/orphans.test.ts',
  'test/flow/remote-repositories.test.ts',
  'test/flow/forget-killed.test.ts',
  'test/contract/provider-borg.test.ts',
  'test/products/cancel.test.ts',
  'test/flow/proxy-fenced.test.ts',
  'test/flow/many-proxies.test.ts',
  'test/flow/white-paper-cycle.test.ts',
  'test/products/bacula.test.ts',
  'test/flow/lease-backup.test.ts',
  'test/flow/hotadd-faults.test.ts',
  'test/flow/digest-incremental.test.ts',
  'test/flow/interrupted.test.ts',
  'test/flow/s3-repository.test.ts',
  'test/peers/effects-strace.test.ts',
  'test/storm/storm.test.ts',
]

/** The longest files first, the others by their size, as Vitest has them. */
export default class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const place = ({ moduleId }: TestSpecification): number => {
      const index = LONGEST.indexOf(relative(this.ctx.config.root, moduleId))
      return index === -1 ? LONGEST.length : index
    }
    return (await super.sort(files)).sort((a, b) => place(a) - place(b))
  }
}
