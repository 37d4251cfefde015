import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['src/**/*.test.ts', 'test/**/*.test.ts'],
    exclude: ['dist/**', 'node_modules/**'],
    reporters: ['default', './test/count-reporter.ts'],
    testTimeout: 180_000,
    hookTimeout: 180_000,
    // Many files wait for processes, locks and clocks rather than compute: two cores are full with three.
    maxWorkers: 3,
  },
})
