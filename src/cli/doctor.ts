import type { Command } from 'commander'
import type { VmVerdicts } from '../agent/index.ts'
import { AgentError, formatBytes } from '../core/index.ts'
import { type CliIo, printable, renderTable } from './io.ts'
import { type CommandFlags, examples, repeatable, withCommon, withConnection, withRepository, withTransports } from './options.ts'
import type { ExitStatus } from './program.ts'

export function registerDoctor(program: Command, io: CliIo, status: ExitStatus): void {
  withCommon(
    withTransports(
      withRepository(withConnection(program.command('doctor').description('look at everything a backup needs and say what is missing'))),
    ),
  )
    .option('--vm <expression>', 'also ask every transport about every disk of this VM; repeatable', repeatable)
    .addHelpText(
      'after',
      examples([
        'vcb doctor',
        'vcb doctor --vcenter https://vc.example.com --user backup --password-file pw',
        'vcb doctor --vm web01 --transport san:nbdssl',
      ]),
    )
    .action(async (flags: CommandFlags & { readonly vm?: readonly string[] | undefined }) => {
      const [{ withAgent }, { checkConfig, diagnose, diagnoseVms }] = await Promise.all([
        import('./session.ts'),
        import('../agent/index.ts'),
      ])
      await withAgent(io, flags, async ({ agent, output }) => {
        const findings = await diagnose(agent, { check: () => checkConfig(flags, io.environment) })
        const vms = flags.vm === undefined ? undefined : await diagnoseVms(agent, flags.vm)
        if (findings.some((finding) => finding.result === 'failed')) status.exit = new AgentError('CONFIG', '').exit
        output.result({ findings, ...(vms === undefined ? {} : { vms: vms.map(toJson) }) }, () =>
          [
            ...findings.map((finding) => {
              const line = `${finding.result.padEnd(8)}${printable(finding.check)}: ${printable(finding.detail)}`
              return finding.next === undefined ? line : `${line}\n        ${printable(finding.next)}`
            }),
            ...(vms ?? []).map((vm) => `\n${verdictTable(vm)}`),
          ].join('\n'),
        )
      })
    })
}

const toJson = ({ vm, disks }: VmVerdicts): object => ({
  vm,
  disks: disks.map((disk) => ({
    ...disk,
    verdicts: disk.verdicts.map(({ transport, configured, verdict }) => ({ transport, configured, ...verdict })),
  })),
})

function verdictTable({ vm, disks }: VmVerdicts): string {
  const rows = disks.flatMap(({ label, capacityBytes, notProtected, verdicts }) => {
    const disk = [label, formatBytes(capacityBytes)]
    if (notProtected !== undefined) return [[...disk, '-', 'NOT PROTECTED', notProtected]]
    return verdicts.map(({ transport, configured, verdict }, index) => [
      ...(index === 0 ? disk : ['', '']),
      configured ? transport : `(${transport})`,
      verdict.ok ? 'can' : 'cannot',
      verdict.ok ? (verdict.note ?? '') : verdict.reason,
    ])
  })
  return `${printable(vm.name)}, before a snapshot; transports in brackets are not in the configured order\n${renderTable(
    ['DISK', 'SIZE', 'TRANSPORT', 'VERDICT', 'WHY'],
    rows,
  )}`
}
