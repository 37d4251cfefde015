import type { ForecastRun, VmForecast } from '../agent/index.ts'
import { formatBytes } from '../core/index.ts'
import { errorJson, printable } from './io.ts'

/** `vcb backup --dry-run --json`. */
export const forecastJson = (run: ForecastRun): object => ({
  dryRun: true,
  repository: run.repository,
  vms: run.vms.map((vm) => {
    if (vm.refusals === undefined) return { ...vm, error: errorJson(vm.error) }
    const disks = vm.disks.map((disk) => ({
      ...disk,
      verdicts: disk.verdicts.map(({ transport, verdict }) => ({ transport, ...verdict })),
    }))
    const error = vm.error === undefined ? undefined : errorJson(vm.error)
    return { ...vm, disks, error, refusals: vm.refusals.map(errorJson) }
  }),
})

export const forecastText = (run: ForecastRun): string => run.vms.map(describe).join('\n')

function describe(vm: VmForecast): string {
  if (vm.refusals === undefined)
    return `${printable(vm.vm.name)}  WOULD FAIL  ${printable(vm.error.message)}\n    ${printable(vm.error.next)}`
  const { disks } = vm
  const most = formatBytes(disks.reduce((total, { estimate }) => total + estimate.bytes, 0))
  const capacity = formatBytes(disks.reduce((total, { capacityBytes }) => total + capacityBytes, 0))
  const expected = vm.expectedBytes === undefined ? '' : `, about ${formatBytes(vm.expectedBytes)} by what earlier runs read`
  const lines = [`${printable(vm.vm.name)}  would be backed up: ${vm.mode}, ${most} at most of ${capacity}${expected}`]
  if (!vm.ok) lines[0] = `${printable(vm.vm.name)}  WOULD FAIL`
  for (const { message, next } of vm.refusals) lines.push(`    refused: ${printable(message)}`, `        ${printable(next)}`)
  for (const disk of disks) {
    const by = disk.transport === undefined ? 'by no transport' : `by ${disk.transport}`
    const bytes = `${formatBytes(disk.estimate.bytes)} ${disk.estimate.by}`
    lines.push(`    ${disk.label}  ${disk.mode} (${printable(disk.modeReason)})  ${by}, ${bytes}`)
    for (const { transport, verdict } of disk.verdicts)
      lines.push(
        `        ${transport.padEnd(7)} ${verdict.ok ? `can: ${printable(verdict.note ?? 'usable')}` : `cannot: ${printable(verdict.reason)}`}`,
      )
  }
  for (const disk of vm.notProtected) lines.push(`    ${disk.disk}  NOT PROTECTED  ${printable(disk.reason)}`)
  for (const warning of vm.warnings) lines.push(`    warning: ${printable(warning)}`)
  return lines.join('\n')
}
