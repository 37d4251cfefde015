import { defineConfig } from 'vitest/config'
import LongestFirst from './test/longest-first.ts'

export default defineConfig({
  test: {
    include: ['src/**/*.test.ts', 'test/**/*.test.ts'],
    exclude: ['dist/**', 'node_modules/**'],
    reporters: ['default', './test/slowest-reporter.ts', './test/failed-reporter.ts', './test/count-reporter.ts'],
    testTimeout: 300_000,
    hookTimeout: 300_000,
    sequence: { sequencer: LongestFirst },
    // Room before garbage is collected: whole disks pass through a test's process in buffers, and collecting them was a fifth of its time.
    execArgv: ['--initial-old-space-size=512', '--min-semi-space-size=32', '--max-semi-space-size=64'],
    // Many files wait for processes, locks and clocks rather than compute: two cores are full with four.
    maxWorkers: 4,
  },
})
