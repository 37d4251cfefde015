import { writeFileSync } from 'node:fs'
import type { Reporter, TestModule } from 'vitest/node'

/**
 * Writes the test files in which something failed, one a line, to the file that VCB_FAILED_FILES names: what `.ci/run` tries again alone. An error
 * outside of every test belongs to no file: then nothing is written, and nothing is tried again.
 */
export default class FailedReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandledErrors: readonly unknown[]): void {
    const target = process.env['VCB_FAILED_FILES']
    if (!target || unhandledErrors.length > 0) return
    const failed = modules.filter((module) => module.state() === 'failed').map((module) => module.relativeModuleId)
    writeFileSync(target, failed.map((name) => `${name}\n`).join(''))
  }
}
