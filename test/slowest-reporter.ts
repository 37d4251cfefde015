import type { Reporter, TestModule } from 'vitest/node'

const SHOWN = 20

/** Lists the files that took longest at the end of the run, in seconds: what to look at where the whole takes too long. */
export default class SlowestReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[]): void {
    if (modules.length <= SHOWN) return
    const taken = modules.map((module) => ({ name: module.relativeModuleId, ms: module.diagnostic().duration })).sort((a, b) => b.ms - a.ms)
    const lines = taken.slice(0, SHOWN).map(({ name, ms }) => `${(ms / 1000).toFixed(0).padStart(6)} ${name}`)
    const all = taken.reduce((sum, { ms }) => sum + ms, 0) / 1000
    console.log(`\nThe ${SHOWN} slowest files, in seconds (all ${taken.length}: ${all.toFixed(0)}):\n${lines.join('\n')}`)
  }
}
