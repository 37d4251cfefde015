import { execFileSync } from 'node:child_process'
import { describe, expect, it } from 'vitest'
import { describePeer } from '../../test/peer.ts'
import type { MetricFacts, VmFacts } from './metric-facts.ts'
import { type ProcessFacts, renderMetrics } from './metrics.ts'

const NOW = new Date('2026-11-26T12:00:00Z')
const hour = 3_600_000
const vm = (name: string, lastGoodAt: number | undefined, rpoMs?: number): VmFacts => ({
  vm: { name, instanceUuid: `uuid-${name}` },
  job: 'nightly',
  lastGoodAt,
  rpoMs,
  last: { result: 'succeeded', tookMs: 90_500, readBytes: 5, storedBytes: 3, snapshotLifetimeMs: 80_000, frozenMs: undefined },
})
const OWN: ProcessFacts = {
  residentBytes: 1e8,
  heapBytes: 5e7,
  cpuSeconds: 1.5,
  uptimeSeconds: 60,
  loopDelay: { mean: 0.001, p50: 0.001, p99: 0.01, max: 0.02 },
}
const facts = (vms: readonly VmFacts[]): MetricFacts => ({
  vms,
  jobs: [{ job: 'nightly', runs: { succeeded: 3, failed: 1, canceled: 0 }, readBytes: 2 ** 45, storedBytes: 7 }],
  queue: { waiting: 2, running: 1 },
  limits: [{ name: 'disk streams of datastore "a\\b"\nc', limit: 4, used: 2, waiting: 0 }],
  repositories: [{ name: 'default', bytes: 10, points: undefined }],
  draining: false,
})
const NASTY = facts([
  vm('web01', NOW.getTime() - 25 * hour, 24 * hour),
  vm('never', undefined, 24 * hour),
  vm('qu"ote\\back\nline{}=, é\ud800', NOW.getTime() - hour, 24 * hour),
  vm('web01', NOW.getTime(), undefined),
])

describe('metrics', () => {
  it('tell the age of the last good point against the RPO', () => {
    const text = renderMetrics(NASTY, OWN, NOW, '0.1.0')
    expect(text).toContain('vcb_vm_rpo_kept{vm="never",uuid="uuid-never",job="nightly"} 0\n')
    expect(text).toContain('vcb_vm_last_good_point_age_seconds{vm="never",uuid="uuid-never",job="nightly"} +Inf\n')
    expect(text).toContain('vcb_vm_rpo_seconds{vm="web01",uuid="uuid-web01",job="nightly"} 86400\n')
    expect(text).toContain('vcb_runs_total{job="nightly",result="failed"} 1\n')
    expect(text).not.toContain('vcb_vm_last_frozen_seconds')
    expect(text.isWellFormed()).toBe(true)
  })

  it('are bounded however many VMs there are', () => {
    const many = Array.from({ length: 10_050 }, (_, index) => vm(`vm${index}`, NOW.getTime()))
    const text = renderMetrics(facts(many), OWN, NOW, '0.1.0')
    expect(text.match(/^vcb_vm_last_good_point_age_seconds\{/gm)).toHaveLength(10_000)
    expect(text).toContain('vcb_vms_left_out 50\n')
  })
})

describePeer('promtool', "Prometheus' own parser", (promtool) => {
  it('reads them all and finds nothing to complain of', () => {
    const input = renderMetrics(NASTY, OWN, NOW, '0.1.0')
    expect(execFileSync(promtool, ['check', 'metrics'], { input, encoding: 'utf8', stdio: ['pipe', 'pipe', 'pipe'] })).toBe('')
    expect(() => execFileSync(promtool, ['check', 'metrics'], { input: `${input}x{ 1\n`, stdio: 'pipe' })).toThrow('Command failed')
  })
})
